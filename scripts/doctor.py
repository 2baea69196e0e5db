"""Say what is right with this installation, and what to change."""

from ml_backend.commands.command import run
from ml_backend.commands.doctor import main

if __name__ == "__main__":
    run(main)
