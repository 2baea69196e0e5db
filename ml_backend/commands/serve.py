"""`tsal serve`: runs everything that stands beside a Label Studio."""

from __future__ import annotations


def serve() -> None:
    """Run backend, worker and sidecar, and Redis where none is set.

    Restarts what ends by itself. Ctrl-C stops everything.
    """
    from ml_backend.launch import serve as serving

    serving.run()
