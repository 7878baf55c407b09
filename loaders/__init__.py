"""The thin Python loader: lands raw extracts of the Disney API and of the customer table, and makes the vault key."""

import os

# Before pyarrow is imported anywhere. Arrow's own allocator holds on to what it has freed for a while: landing
# 1.5 M changes peaked at 155 MB with it, and at 110 MB with the system's.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
