"""The paper's study on labelled clips."""

from ml_backend.commands.command import run
from studies.study import main

if __name__ == "__main__":
    run(main)
