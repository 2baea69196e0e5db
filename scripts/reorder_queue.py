"""The sidecar: keeps Label Studio's queue in the order of informativeness, with validated pseudo-labels as defaults."""

from ml_backend.commands.command import run
from ml_backend.commands.sidecar import main

if __name__ == "__main__":
    run(main)
