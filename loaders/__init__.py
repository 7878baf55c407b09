"""The thin Python loader: lands raw extracts of the Disney API and of the customer table, and makes the vault key."""

import os

# Before pyarrow is imported anywhere. Its allocator (mimalloc) holds on to what was freed for a while unless told so:
# landing 1.5 M changes then peaks at 155 MB in place of some 120.
os.environ.setdefault("MIMALLOC_PURGE_DELAY", "0")
