from __future__ import annotations

from typing import Any

import pytest

from studies.pool_summary import summary, targets


def run(strategy: str, seed: int, accuracies: list[float], certificate: dict[str, Any] | None = None) -> dict[str, Any]:
    rounds = [
        {"answered": 10 * place, "share": 0.01 * place, "accuracy": accuracy, "corrected": place}
        | {"calibration_error": 0.1 * place}
        for place, accuracy in enumerate(accuracies)
    ]
    return {"data": "blues", "protocol": "pool", "clips": "known", "strategy": strategy, "seed": seed, "pool": 1000} | {
        "rounds": rounds,
        "certificate": certificate,
    }


def proved(decisions: float, wrong: int) -> dict[str, Any]:
    return {"decisions": decisions, "error": 0.01, "draws": 200, "wrong": wrong}


RUNS = [
    run("cover", 0, [0.0, 0.9, 0.97, 1.0], proved(0.10, 4)),
    run("cover", 1, [0.0, 0.8, 0.96, 0.98, 0.99], proved(0.12, 8)),
    run("random", 0, [0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98]),
    run("random", 1, [0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.96]),
    run("core-set", 0, [0.0, 0.7, 0.8, 0.97]),
]


def test_a_row_has_the_means_of_its_seeds() -> None:
    rows = {row["strategy"]: row for row in summary(RUNS)}
    cover = rows["cover"]
    assert (cover["data"], cover["protocol"], cover["clips"], cover["seeds"]) == ("blues", "pool", "known", 2)
    assert cover["decisions_to_95"] == pytest.approx(0.02)
    assert cover["decisions_to_97"] == pytest.approx((0.02 + 0.03) / 2)
    assert cover["decisions_to_99"] == pytest.approx((0.03 + 0.04) / 2)
    assert cover["corrections_per_frame"] == pytest.approx((2 + 3) / 2 / 1000)
    assert cover["calibration_error"] == pytest.approx((0.2 + 0.3) / 2)
    assert cover["certificate_decisions"] == pytest.approx(0.11)
    assert cover["certificate_wrong"] == pytest.approx(12 / 400)
    # The first run ends at its fourth refresh and stays all right.
    accuracy = [pytest.approx(value) for value in (0.0, 0.85, 0.965, 0.99, 0.995)]
    assert [right for _, right in cover["pool_accuracy"]] == accuracy


def test_a_goal_that_one_seed_never_reached_has_no_figure() -> None:
    rows = {row["strategy"]: row for row in summary(RUNS)}
    assert rows["random"]["decisions_to_95"] == pytest.approx(0.06)
    assert rows["random"]["decisions_to_97"] is None
    assert rows["random"]["certificate_decisions"] is None


def test_targets_compare_with_the_bar_with_the_best_peer_and_with_random() -> None:
    found = {one["name"]: one for one in targets(summary(RUNS))}
    to_97 = found["blues, pool, clips known: decisions to 97"]
    assert (to_97["bar"], to_97["holds"]) == (0.06, True)
    assert found["blues, pool, clips known: calibration error"]["holds"] is False
    peer = found["blues, pool, clips known: decisions to 97 of the best peer's"]
    assert peer["value"] == pytest.approx(0.025 / 0.03)
    assert peer["holds"]
    assert not any("random's" in name for name in found)  # it never reached 97%
