"""An import from a PACS as a process of its own, for a test that kills it: its tasks go into a file."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_backend.ingest.pacs.pull import carry_out_pull, plan_pull
from ml_backend.ingest.pacs.server import Instance
from ml_backend.settings import load
from tests.commands.test_import_frames import Place, StudioInMemory
from tests.ingest.pacs.instances import CountingPacs


class StudioInFile(StudioInMemory):
    """Keeps the tasks in a file, a request's on a line, so that they outlive the process."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.requests = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        self.rows = [row for rows in self.requests for row in rows]

    def import_tasks(self, project: int, data: Sequence[Mapping[str, Any]]) -> list[int]:
        with self._path.open("a") as file:
            file.write(json.dumps(data) + "\n")
        return super().import_tasks(project, data)


class HoldingPacs(CountingPacs):
    """Says so on standard output when it has fetched the sixth instance, and goes no further."""

    @contextmanager
    def fetched(self, instance: Instance) -> Iterator[Path]:
        with super().fetched(instance) as path:
            if len(self.fetches) == 6:
                print("holding", flush=True)
                signal.pause()
            yield path


def pull(root: Path, pacs: CountingPacs, study: str) -> None:
    """Import a study below a folder."""
    place = Place(root)
    place.studio = StudioInFile(root / "tasks")
    importer = place.importer()
    carry_out_pull(importer, pacs, plan_pull(importer, pacs, [study], []))


if __name__ == "__main__":
    pull(Path(sys.argv[1]), HoldingPacs(sys.argv[2], load()), sys.argv[3])
