"""The reason why the network cannot be built, where all processes of an installation see it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ml_backend.store.files import write_aside


class ModelProblem:
    """The last failure to build the network, for `/health` and whoever else reports it; a success clears it."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "model-problem"

    def read(self) -> str | None:
        """The reason, None if the network could be built or nobody has tried."""
        try:
            return self._path.read_text(encoding="utf-8") or None
        except OSError:
            return None

    def note(self, reason: str) -> None:
        """Keep the reason; a disk that takes no file must not hide it from the caller."""
        with suppress(OSError):
            write_aside(self._path, reason)

    def clear(self) -> None:
        """Forget it, once the network was built."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
