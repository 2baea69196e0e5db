"""The command `tsal`, also as `python -m ml_backend`."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `tsal` with these arguments (default: the process's own) and exit with its code.

    0: done. 2: called wrongly or with a setting that cannot be used. 130: Ctrl-C. Other codes: see `ml_backend.errors`.
    """
    try:
        from ml_backend.commands.main import app, run

        run(lambda: app(arguments, prog_name="tsal"))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == __package__:  # our own fault, not the installation's
            raise
        sys.exit(
            f"error: the package {missing} is not installed for {sys.executable}: start this with the Python that "
            "lung-ultrasound-annotator is installed for (in a clone: `make install`, then .venv/bin/python)"
        )


if __name__ == "__main__":
    main()
