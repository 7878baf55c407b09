"""How a loader fails: the exit code says who has to act. No message ever holds a personal value."""


class LoaderError(Exception):
    """A failure whose message tells the person who runs the loader what to do."""

    exit_code: int


class TransientError(LoaderError):
    """The source or the lake failed and nothing was landed in part: a later run may well succeed."""

    exit_code = 1


class OperatorError(LoaderError):
    """Wrong settings or a state that a person must decide on: the same run again would fail again."""

    exit_code = 2
