"""The paper's study on labelled clips."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ml_backend.commands.command import run
from studies.study import main

if __name__ == "__main__":
    run(main)
