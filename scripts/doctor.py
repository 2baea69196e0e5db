"""Say what is right with this installation, and what to change: `tsal doctor`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ml_backend.__main__ import main

if __name__ == "__main__":
    main(["doctor", *sys.argv[1:]])
