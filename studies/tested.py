"""The protocols `frames` and `patients` with a memory: cover asks in the pool, ticks are judged on test rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.metrics import manual_share
from ml_backend.tsal.round import Rows
from studies.simulation import figures
from studies.team import Team, Told


def simulate_tested(team: Team, strategy: str, rounds: int) -> list[dict[str, Any]]:
    """Run ``rounds`` batches; a row for each, as `studies.simulation.simulate` returns it.

    Exact match is that of the ticks on the team's test rows, the area that of the network alone.
    """
    pool = len(team.rest)
    history: list[dict[str, Any]] = []
    told = team.tell()
    for _ in range(rounds):
        if not len(team.rest):
            break
        ticked = bool(len(team.answered))
        asked, labels = _ask_batch(team, told)
        row: dict[str, Any] = {"strategy": strategy, "validator": None, "reason": "", "manual": None}
        row["manual_audit"] = None
        if ticked:
            row["validator"] = "memory"
            share = manual_share(team.truth[asked], labels, np.ones(len(asked), bool))
            row["manual"] = {"memory": share, "chosen": share}
        told = team.tell()
        said = None if team.probabilities is None else team.probabilities[team.test]
        found = figures(team.material.clips, team.test, said, told.labels[len(team.rest) :])
        answered = len(team.answered)
        history.append(row | {"labelled": answered, "share": answered / pool} | found)
    return history


def _ask_batch(team: Team, told: Told) -> tuple[Rows, NDArray[np.uint8]]:
    """Ask and answer until the next fine-tune; the rows asked, and what was ticked on them when they were."""
    batch, asked, shown = team.batches, [], []
    while team.batches == batch and len(team.rest):
        rows = team.ask(told)
        asked.append(rows)
        shown.append(told.labels[np.searchsorted(team.rest, rows)])
        team.answer(rows, told)
        if team.batches == batch:
            told = team.tell()
    return np.concatenate(asked), np.concatenate(shown)
