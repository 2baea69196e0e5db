"""Model versions: look at them, go back to one, remove old ones."""

from ml_backend.commands.command import run
from ml_backend.commands.versions import main

if __name__ == "__main__":
    run(main)
