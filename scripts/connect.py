"""Connect a project of your Label Studio: `tsal connect`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ml_backend.__main__ import main

if __name__ == "__main__":
    main(["connect", *sys.argv[1:]])
