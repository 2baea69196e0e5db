"""Take a project of an existing Label Studio to the working state, and say what was changed."""

from __future__ import annotations

import argparse

from ml_backend.services import Services
from ml_backend.settings import load
from ml_backend.setup.connect import connect


def main(arguments: list[str] | None = None) -> int:
    """Connect a project: check its configuration, register the backend and our webhook, set the sampling.

    Needs TSAL_LABEL_STUDIO_URL, TSAL_LABEL_STUDIO_TOKEN and TSAL_BACKEND_URL, and the backend running (`make serve`).
    Running it again changes nothing.
    """
    parser = argparse.ArgumentParser(description=main.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--project", type=int, required=True, metavar="ID", help="number of the project in Label Studio"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be changed")
    options = parser.parse_args(arguments)
    connect(Services(load()), options.project, print, dry_run=options.dry_run)
    return 0
