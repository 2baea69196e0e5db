"""The whole loop on this machine: Label Studio, Redis, backend, worker, sidecar, a project with frames."""

from ml_backend.commands.command import run
from ml_backend.commands.demo import main

if __name__ == "__main__":
    run(main)
