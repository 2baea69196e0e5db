"""What the tests of the algorithm share."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # no test may fail for being slow on a busy machine
settings.load_profile("untimed")
