"""Crash points: every effect that an operation has outside its memory, with an end or a failure at each of them."""
