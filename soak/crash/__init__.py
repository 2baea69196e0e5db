"""Crash points: a process is killed, or a call fails, at each effect that an operation has outside its memory."""
