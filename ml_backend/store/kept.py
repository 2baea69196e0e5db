"""One JSON file that the sidecar writes and the lead's page reads."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError

from ml_backend.store.files import write_aside

Model = TypeVar("Model", bound=BaseModel)
FILES = 16  # with their content in memory


class Kept(Generic[Model]):
    """A pydantic model in the file ``path``."""

    def __init__(self, path: Path, model: type[Model]) -> None:
        self._path, self._model = path, model

    def read(self) -> Model | None:
        """Return what was last written; None if there is nothing yet or it is damaged (the next write replaces it)."""
        try:
            state = self._path.stat()
            return _read(self._model, self._path, state.st_mtime_ns, state.st_size)
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, content: Model) -> None:
        """Replace the content."""
        write_aside(self._path, content.model_dump_json())


def _read(model: type[Model], path: Path, written_ns: int, size: int) -> Model:
    """Parse the file once for each time it is written, not for each reload of the page."""
    with _GATE:
        known = _LAST.pop(path, None)
        if known is None or known[0] != (written_ns, size):
            known = (written_ns, size), model.model_validate_json(path.read_bytes())
        _LAST[path] = known
        if len(_LAST) > FILES:
            _LAST.pop(next(iter(_LAST)))
    return cast(Model, known[1])


# The newest content of each file, least recently used first. Older content is dropped, as it may be large.
_LAST: dict[Path, tuple[tuple[int, int], BaseModel]] = {}
_GATE = Lock()
