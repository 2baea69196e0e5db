"""Take a project of an existing Label Studio to the working state, and say each thing that is changed."""

from ml_backend.commands.command import run
from ml_backend.commands.connect import main

if __name__ == "__main__":
    run(main)
