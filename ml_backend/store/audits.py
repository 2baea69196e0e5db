"""Audit draws: which frames were drawn uniformly from the pool, recorded before anybody answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from ml_backend.store.files import write_aside
from ml_backend.store.locks import alone


class Draw(BaseModel):
    """One uniform draw without replacement.

    ``tasks``, in the order drawn, come from the ``pool`` readable frames that had no confirmed annotation; ``order``
    names the order that puts them into the queue, ``version`` the version whose ticks they carry, ``newest`` the newest
    version, active or not: the batch that follows it has this draw (both None before the first version). ``released``
    are tasks of earlier draws that had no confirmed annotation by then: they are back in the pool, where a strategy may
    choose them, and are audit frames no more unless they are drawn again. ``blind``: those that come without ticks.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    order: str
    version: str | None
    newest: str | None
    drawn_at: str
    seed: int
    pool: int
    tasks: tuple[int, ...]
    released: tuple[int, ...] = ()
    blind: tuple[int, ...] = ()


class AuditTold(BaseModel):
    """What was told of an audit frame before anybody answered it.

    ``ticks``: what was ticked, or would have been if the frame was ``blind``; ``source`` and ``confidence`` of it;
    ``network``: the network's probabilities by symptom, empty where there was none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    ticks: tuple[str, ...]
    confidence: float
    source: str
    network: dict[str, float] = {}
    blind: bool = False


class AuditStore:
    """The audit draws of one project below ``folder``, oldest first."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "audits.json"
        self._told = folder / "audits-told.json"
        self.lock = folder / ".audits.lock"

    def draws(self) -> list[Draw]:
        """Every draw so far.

        Raises:
            ValidationError: where the file is damaged; an audit must not be forgotten silently.
        """
        try:
            return _DRAWS.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return []

    def of_batch(self, newest: str | None) -> Draw | None:
        """The draw for the batch that follows the newest version, None where it is still to be made."""
        draws = self.draws()
        return draws[-1] if draws and draws[-1].newest == newest else None

    def add(self, draw: Draw) -> None:
        """Record a draw; it must be on the disk before its frames are pushed."""
        with alone(self.lock):
            write_aside(self._file, _DRAWS.dump_json([*self.draws(), draw], indent=1).decode())

    def told(self) -> dict[int, AuditTold]:
        """What was last said of audit frames before they were answered, by task."""
        try:
            return _TOLD.validate_json(self._told.read_bytes())
        except FileNotFoundError:
            return {}

    def note_told(self, told: Mapping[int, AuditTold]) -> None:
        """Note what is said of audit frames that nobody has answered yet."""
        if told:
            with alone(self.lock):
                write_aside(self._told, _TOLD.dump_json({**self.told(), **told}).decode())

    def tasks(self) -> set[int]:
        """The tasks of all draws, without those that a later draw released."""
        found: set[int] = set()
        for draw in self.draws():
            found = found.difference(draw.released).union(draw.tasks)
        return found


_DRAWS: TypeAdapter[list[Draw]] = TypeAdapter(list[Draw])
_TOLD: TypeAdapter[dict[int, AuditTold]] = TypeAdapter(dict[int, AuditTold])
