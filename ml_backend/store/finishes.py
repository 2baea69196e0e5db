"""Finishes: which frames were drawn to certify a pool, recorded before anybody answers, and what came of it."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ml_backend.store.files import write_aside, written_aside
from ml_backend.store.locks import alone


class Outcome(BaseModel):
    """What an answered audit proves, in frames of the pool; as `tsal.certificate.Certificate`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    by_people: int
    by_machine: int
    to_people: int
    wrong_in_audit: int
    at_most_wrong: int
    at_most_share: float
    share_for_any: float
    share_for_all: float


class Finish(BaseModel):
    """One draw, and its state.

    ``epsilon`` and ``confidence`` are what was asked for, ``alpha`` the part of 1 - confidence that this draw spends.
    ``pool``: frames of the project, ``people`` of them answered before the draw, ``remembered`` their {task: mark};
    ``outside``: the other frames of the project; they cannot be read, or their answers do not count. ``drawn``: the
    audit, in the order in which it is asked; ``blind``: those of it that are asked without ticks. ``answers``: {task:
    symptoms} of the audit once it is counted. ``void``: why this proves nothing any more.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    number: int
    state: Literal["open", "certified", "void"] = "open"
    order: str
    version: str | None
    drawn_at: str
    seed: int
    epsilon: float
    confidence: float
    alpha: float
    symptoms: tuple[str, ...]
    pool: int
    people: int
    outside: tuple[int, ...] = ()
    remembered: dict[int, int]
    drawn: tuple[int, ...]
    blind: tuple[int, ...] = ()
    expected_answers: float
    answers: dict[int, tuple[str, ...]] = {}
    counted_at: str = ""
    outcome: Outcome | None = None
    void: str = ""


@dataclass(frozen=True)
class MachineRows:
    """The frames that the machine had labelled when the audit was drawn.

    ``tasks`` (n,) int64; ``labels`` (n, l) uint8 of the finish's symptoms; ``uncertainty`` (n,); ``kept`` (n,): those
    whose label stands, none before the audit is counted.
    """

    tasks: NDArray[np.int64]
    labels: NDArray[np.uint8]
    uncertainty: NDArray[np.float64]
    kept: NDArray[np.bool_]


class FinishStore:
    """The finishes of one project below ``folder``, numbered from 1."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "finish"

    def alone(self) -> AbstractContextManager[None]:
        """Wait until no other process takes a finish of this project a step on, and keep the others waiting."""
        return alone(self._folder / ".lock")

    def count(self) -> int:
        """How many draws were made."""
        return max((int(path.stem) for path in self._folder.glob("*.json") if path.stem.isdigit()), default=0)

    def newest(self) -> Finish | None:
        """The last draw, None before the first.

        Raises:
            ValidationError: where it is damaged; an audit must not be forgotten silently.
        """
        number = self.count()
        return Finish.model_validate_json(self.path(number).read_bytes()) if number else None

    def standing(self) -> Finish | None:
        """The last draw, unless it is void."""
        newest = self.newest()
        return newest if newest is not None and newest.state != "void" else None

    def path(self, number: int) -> Path:
        """Where a finish is written down."""
        return self._folder / f"{number:03}.json"

    def open(self) -> Finish | None:
        """The draw that is being answered, if any."""
        standing = self.standing()
        return standing if standing is not None and standing.state == "open" else None

    def counted(self) -> list[Finish]:
        """The draws whose audit was counted, oldest first, also those that are void by now."""
        numbers = sorted(int(path.stem) for path in self._folder.glob("*.json") if path.stem.isdigit())
        found = [Finish.model_validate_json(self.path(number).read_bytes()) for number in numbers]
        return [one for one in found if one.outcome is not None]

    def page(self, number: int) -> Path:
        """Where the page that a person reads lies."""
        return self._folder / f"{number:03}.html"

    def save(self, finish: Finish, rows: MachineRows | None = None) -> None:
        """Write a finish down, its rows first."""
        if rows is not None:
            with written_aside(self._folder / f"{finish.number:03}.npz") as file:
                np.savez(file, tasks=rows.tasks, labels=rows.labels, uncertainty=rows.uncertainty, kept=rows.kept)
        write_aside(self.path(finish.number), finish.model_dump_json(indent=1))

    def rows(self, finish: Finish) -> MachineRows:
        """The frames that the machine had labelled."""
        content = io.BytesIO((self._folder / f"{finish.number:03}.npz").read_bytes())
        with np.load(content, allow_pickle=False) as arrays:
            return MachineRows(arrays["tasks"], arrays["labels"], arrays["uncertainty"], arrays["kept"])
