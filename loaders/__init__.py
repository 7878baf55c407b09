"""The thin loader: lands verbatim extracts of the Disney API and of the customer database in raw."""
