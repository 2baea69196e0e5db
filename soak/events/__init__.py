"""Everything that can happen around the loop, in any order, and a small model of what must then be true."""
