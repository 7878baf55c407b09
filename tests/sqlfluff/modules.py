"""dbt's `modules` for sqlfluff's templater."""

import datetime

__all__ = ["datetime"]
