"""The protocol `pool`: the whole set is the pool, and what counts is how right it is after how many decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.certificate import Plan, certify, spend
from ml_backend.tsal.forecast import Forecast, Prospect, cheapest
from studies.calibration import expected_calibration_error
from studies.peers import PEERS, peer
from studies.simulation import Material, Way
from studies.team import Clips, PaperTeam, PeerTeam, RandomTeam, Sizes, Team, Told, seen_as

MEMORY_ALONE = "cover-memory"
STRATEGIES = ("cover", MEMORY_ALONE, "random", "mlm", *PEERS)
"""Cover with and without a network, random with the same memory, the paper's loop, and peers with the same memory."""

ERROR, ALPHA, DRAWS = 0.03, 0.05, 200
RIGHT_ENOUGH = 0.99
_CERTIFICATES = 7


def strategies(clips: Clips) -> tuple[str, ...]:
    """Those of `STRATEGIES` to run: the paper's loop does not know clips, and peers see a sweep as they see clips."""
    return {"known": STRATEGIES, "hidden": (*STRATEGIES[:3], *PEERS), "sweeps": STRATEGIES[:3]}[clips]


def team(material: Material, strategy: str, clips: Clips, sizes: Sizes, seed: int, way: Way) -> Team:
    """The team that a strategy of `STRATEGIES` makes, with the whole set as its pool."""
    places, pool = seen_as(material.clips, material.places, clips), np.arange(len(material.clips))
    nothing = pool[:0]
    if strategy in PEERS:
        return PeerTeam(peer(strategy, seed), material, places, pool, nothing, sizes, seed)
    if strategy == "random":
        return RandomTeam(material, places, pool, nothing, sizes, seed, None)
    kind = PaperTeam if strategy == "mlm" else Team
    return kind(material, places, pool, nothing, sizes, seed, None if strategy == MEMORY_ALONE else way)


def due(rounds: Sequence[Mapping[str, Any]], batch: int) -> bool:
    """Whether to finish now, from what a lead can see; ``batch``: answers in one.

    So much is believed to be right that the audit may find a few wrong, and another batch did not lower the forecast.
    """
    now = rounds[-1]
    earlier = [row for row in rounds if row["answered"] <= now["answered"] - batch]
    return bool(earlier) and now["doubt"] <= ERROR / 2 and now["decisions"] >= earlier[-1]["decisions"]


def simulate_pool(team: Team, budget: float) -> dict[str, Any]:
    """Ask and answer until nearly all is right and a certificate is due, or a share ``budget`` of the pool is answered.

    Returns a row a refresh: ``answered`` and its ``share``, ``accuracy`` of the whole pool (answered frames are right),
    ``corrected`` frames so far, ``doubt``, the share of the pool believed to be wrong, ``calibration_error`` of the
    confidence on the frames nobody answered, and the forecast of all ``decisions`` to a certificate; and what the
    certificate took, None where none was due.
    """
    frames = len(team.rest)
    rounds: list[dict[str, Any]] = []
    found: dict[str, Any] | None = None
    while True:
        told = team.tell()
        row, forecast = _measured(team, told, frames)
        rounds.append(row)
        if found is None and due(rounds, team.sizes.k_max):
            found = _certificates(team, told, forecast, frames)
        ready = row["accuracy"] >= RIGHT_ENOUGH and found is not None
        if ready or not len(team.rest) or row["share"] >= budget:
            return {"rounds": rounds, "certificate": found}
        team.answer(team.ask(told), told)


def _measured(team: Team, told: Told, frames: int) -> tuple[dict[str, Any], Forecast]:
    right, answered = _right(team, told), len(team.answered)
    forecast = cheapest(Prospect(1.0 - told.confidence, told.confidence, answered), ERROR, spend(ALPHA, 1))
    row = {
        "answered": answered,
        "share": answered / frames,
        "accuracy": (answered + int(right.sum())) / frames,
        "corrected": team.corrected,
        "doubt": float((1.0 - told.confidence).sum()) / frames,
        "calibration_error": expected_calibration_error(told.confidence, right.astype(np.uint8)),
        "decisions": answered + forecast.answers,
    }
    return row, forecast


def _right(team: Team, told: Told) -> NDArray[np.bool_]:
    right: NDArray[np.bool_] = (told.labels == team.truth[team.rest]).all(axis=1)
    return right


def _certificates(team: Team, told: Told, forecast: Forecast, frames: int) -> dict[str, Any]:
    """Draw the audit `DRAWS` times: decisions in all, the error that is left, how often it is more than certified."""
    wrong, people = ~_right(team, told), len(team.answered)
    decisions, errors, failures = [], [], 0
    for draw in range(DRAWS):
        rng = np.random.default_rng([team.seed, _CERTIFICATES, draw])
        plan = Plan.draw(1.0 - told.confidence, people, ERROR, spend(ALPHA, 1), forecast.size, rng)
        proved = certify(plan, wrong[plan.drawn])
        left = int(wrong[proved.kept].sum())
        decisions.append((people + len(plan.drawn) + len(proved.to_people)) / frames)
        errors.append(left / frames)
        failures += left > plan.limit
    return {
        "begun": people / frames,
        "audit": forecast.size / frames,
        "decisions": float(np.mean(decisions)),
        "most_decisions": float(np.quantile(decisions, 0.95)),
        "error": float(np.mean(errors)),
        "draws": DRAWS,
        "wrong": failures,
    }
