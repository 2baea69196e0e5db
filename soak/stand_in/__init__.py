"""A small stand-in that answers HTTP as Label Studio does, to try quickly all that may happen around the real one."""
