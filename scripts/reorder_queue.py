"""Put the queue in order: with --once as `tsal order`, with --watch as `tsal sidecar`."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ml_backend.__main__ import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, epilog="--project ID names a project; it may be repeated.")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--once", dest="command", action="store_const", const="order", help="put it in order and end")
    mode.add_argument("--watch", dest="command", action="store_const", const="sidecar", help="keep it in order")
    options, others = parser.parse_known_args()
    main([options.command, *others])
