"""Run an RQ worker that fine-tunes, and scores its part of a pool, in the background."""

from ml_backend.commands.command import run
from ml_backend.commands.worker import main

if __name__ == "__main__":
    run(main)
