"""A PostgreSQL of our own, with an empty database for Label Studio."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ml_backend.errors import BackendError, InvalidRequest
from ml_backend.launch.processes import free_port

USER = "postgres"
PLACE = tempfile.gettempdir()
"""Not a temporary folder that a caller chooses later, which the user of the server might not be able to enter."""


class DatabaseSilent(BackendError):
    """The database does not answer."""


@contextmanager
def postgresql() -> Iterator[tuple[list[str], dict[str, str]]]:
    """Make an empty database, to be started and ended within the block; its files go at the end.

    Gives the command that runs a server on the loopback address, and the variables with which Label Studio uses it.
    """
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="tsal-postgresql-", dir=PLACE))
    data, port = folder / "data", free_port()
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, USER, USER)
        make = [str(programs / "initdb"), "--pgdata", str(data), "--username", USER, "--auth", "trust", "--no-sync"]
        subprocess.run(  # noqa: S603  the command is ours
            [*_as_its_user(), *make, "--encoding", "UTF8", "--locale", "C.UTF-8"],
            check=True,
            capture_output=True,
            cwd=folder,
        )
        yield (
            [
                *(*_as_its_user(), str(programs / "postgres"), "-D", str(data), "-p", str(port)),
                *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"),
                # A soak test has nothing to lose if the machine fails, so it need not wait for the disk.
                *("-c", "fsync=off"),
            ],
            {
                "DJANGO_DB": "default",
                "POSTGRE_NAME": USER,
                "POSTGRE_USER": USER,
                "POSTGRE_PASSWORD": "",
                "POSTGRE_HOST": "127.0.0.1",
                "POSTGRE_PORT": str(port),
            },
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def query(database: Mapping[str, str], question: str) -> list[list[str]]:
    """Ask a running database in SQL; ``database`` are the variables with which Label Studio uses it. Rows of texts."""
    address = ["-h", database["POSTGRE_HOST"], "-p", database["POSTGRE_PORT"], "-U", database["POSTGRE_USER"]]
    command = [str(_programs() / "psql"), *address, "-d", database["POSTGRE_NAME"], "-AtqF", "\t", "-c", question]
    try:
        answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)  # noqa: S603  ours
    except subprocess.SubprocessError as error:
        raise DatabaseSilent(f"the database gave no answer: {error}") from error
    return [line.split("\t") for line in answer.stdout.splitlines()]


def _programs() -> Path:
    """The folder of the newest PostgreSQL: Debian keeps it off the path."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    for place in places:
        if (place / "postgres").is_file():
            return place
    raise InvalidRequest("PostgreSQL is not installed: install the package postgresql")


def _as_its_user() -> list[str]:
    # PostgreSQL refuses to run as root.
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.geteuid() == 0 else []
