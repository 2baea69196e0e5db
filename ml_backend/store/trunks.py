"""What is known of a trunk without building it: the names under which what it computes is kept."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ml_backend.store.files import write_aside

MOST = 8  # trunks remembered; an installation changes its backbone seldom


class Trunk(BaseModel):
    """A trunk: ``key`` and ``precision`` name what it computes, of ``shape`` (channels, height, width) a frame."""

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
        """The trunk that was built from this before, None where that is not known."""
        return self._all().get(built_from)

    def keep(self, built_from: str, trunk: Trunk) -> None:
        """Remember a trunk in a data folder that is there; a full disk costs only the time to build it again."""
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
