"""A small Label Studio that speaks its HTTP, to try everything that may happen around the real one, and fast."""
