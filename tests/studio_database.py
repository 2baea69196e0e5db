"""The database of the tests' Label Studio: SQLite, or a PostgreSQL where TSAL_TEST_DATABASE is ``postgresql``."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from soak.postgresql import postgresql
from tests.processes import stop

VARIABLE = "TSAL_TEST_DATABASE"
DATABASES = ("sqlite", "postgresql")
START_SECONDS = 60


@contextmanager
def studio_database() -> Iterator[dict[str, str]]:
    """Run the database until the block ends; gives the variables with which Label Studio uses it, none for SQLite."""
    chosen = os.environ.get(VARIABLE) or DATABASES[0]
    if chosen not in DATABASES:
        raise ValueError(f"{VARIABLE}={chosen} is none of {', '.join(DATABASES)}")
    if chosen == DATABASES[0]:
        yield {}
        return
    with postgresql() as (command, variables):
        process = subprocess.Popen(
            command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            _wait(process, int(variables["POSTGRE_PORT"]))
            yield variables
        finally:
            stop(process)


def execute(statement: str, data: Path, variables: Mapping[str, str]) -> None:
    """Change the database behind Label Studio's back; ``data`` is the folder that an SQLite lies in."""
    if "POSTGRE_PORT" not in variables:
        with closing(sqlite3.connect(data / "label_studio.sqlite3", timeout=30)) as database:
            database.execute(statement)
            database.commit()
        return
    names = {"-h": "HOST", "-p": "PORT", "-U": "USER", "-d": "NAME"}
    where = [part for option, name in names.items() for part in (option, variables[f"POSTGRE_{name}"])]
    subprocess.run(["psql", *where, "-v", "ON_ERROR_STOP=1", "-c", statement], check=True, capture_output=True)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("PostgreSQL did not come up")
