"""What is known about a trunk without building it: the names under which its results are kept."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ml_backend.store.files import write_aside

MOST = 8  # trunks remembered; an installation seldom changes its backbone


class Trunk(BaseModel):
    """A trunk: ``key`` and ``precision`` name its results, each of ``shape`` (channels, height, width)."""

    model_config = ConfigDict(frozen=True)

    key: str
    precision: str
    shape: tuple[int, int, int]

    @property
    def name(self) -> str:
        """The part of a cache key that tells this trunk's activations from any other's."""
        return f"{self.key} {self.precision}"


_TRUNKS: TypeAdapter[dict[str, Trunk]] = TypeAdapter(dict[str, Trunk])


class TrunkStore:
    """The trunks that were built here, by what they were built from."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "trunks.json"

    def read(self, built_from: str) -> Trunk | None:
        """The trunk that was built from this before, None if unknown."""
        return self._all().get(built_from)

    def keep(self, built_from: str, trunk: Trunk) -> None:
        """Remember a trunk if the data folder exists; a full disk costs only the time to build the trunk again."""
        known = self._all()
        if known.get(built_from) != trunk and self._path.parent.is_dir():
            known.pop(built_from, None)
            kept = dict([*known.items(), (built_from, trunk)][-MOST:])
            with suppress(OSError):
                write_aside(self._path, _TRUNKS.dump_json(kept, indent=1).decode())

    def _all(self) -> dict[str, Trunk]:
        try:
            return _TRUNKS.validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return {}
