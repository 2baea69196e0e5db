"""What all commands share: how errors are shown (one line and an exit code, no traceback), and `--project`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from ml_backend.errors import BackendError, InvalidRequest, RedisUnavailable, printable

if TYPE_CHECKING:
    from ml_backend.services import Services

Project = Annotated[
    int | None, typer.Option("--project", metavar="ID", help="Project number.", show_default="the only connected one")
]


def connected(services: Services, named: int | None) -> int:
    """The project that a command works on: the named one, or the only connected one.

    Raises:
        InvalidRequest: if it is not connected, or none is named and there are several.
    """
    projects = services.projects()
    if named is None and len(projects) == 1:
        return projects[0]
    if named not in projects:
        known = ", ".join(map(str, projects)) or "none"
        raise InvalidRequest(f"name one of the connected projects with --project: {known}")
    return named


def run(main: Callable[[], int | None]) -> None:
    """Run a command and exit with its code: an error that a user can fix is printed as one line, Ctrl-C gives 130."""
    try:
        sys.exit(main())
    except BackendError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(BackendError.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        from redis.exceptions import RedisError  # not at the top: `tsal --help` must be fast

        if not isinstance(error, RedisError):
            raise
        from ml_backend.store.pending import unanswered

        print(f"error: {unanswered(os.environ.get('TSAL_REDIS_URL'), error)}", file=sys.stderr)
        sys.exit(RedisUnavailable.exit_code)
