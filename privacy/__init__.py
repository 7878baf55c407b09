"""Proves from the compiled SQL that no personal value reaches refined unmasked, and says where each one goes."""
