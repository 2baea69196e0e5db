"""Run everything that stands beside your Label Studio: backend, worker and sidecar, and Redis where none is set."""

from ml_backend.commands.command import run
from ml_backend.commands.serve import main

if __name__ == "__main__":
    run(main)
