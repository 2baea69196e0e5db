"""Run everything that stands beside your Label Studio: backend, worker, sidecar, and Redis where none is set."""

from __future__ import annotations

import argparse

from ml_backend.launch import serve


def main(arguments: list[str] | None = None) -> int:
    """Start backend, worker and sidecar with the settings of the environment (TSAL_*); stop all with Ctrl-C."""
    argparse.ArgumentParser(description=main.__doc__).parse_args(arguments)
    serve.run()
    return 0
