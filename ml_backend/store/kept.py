"""One JSON file that the sidecar writes and the lead's page reads."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from ml_backend.store.files import write_aside

Model = TypeVar("Model", bound=BaseModel)


class Kept(Generic[Model]):
    """A pydantic model in the file ``path``."""

    def __init__(self, path: Path, model: type[Model]) -> None:
        self._path, self._model = path, model

    def read(self) -> Model | None:
        """Return what was last written, None before that or if it cannot be read (the next one replaces it)."""
        try:
            state = self._path.stat()
            content: Model = _read(self._model, self._path, state.st_mtime_ns, state.st_size)
            return content
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, content: Model) -> None:
        """Replace the content."""
        write_aside(self._path, content.model_dump_json())


@lru_cache(maxsize=16)
def _read(model: type[Model], path: Path, written_ns: int, size: int) -> Model:
    """Parse the file once for each time it is written, not for each reload of the page."""
    return model.model_validate_json(path.read_bytes())
