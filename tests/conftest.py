"""What the tests of every folder may ask for."""

from __future__ import annotations

from tests.studio_server import studio_server

__all__ = ["studio_server"]
