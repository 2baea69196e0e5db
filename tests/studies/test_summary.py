"""Figures of the summary, against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from studies import summary
from studies.plan import Part


def a_round(labelled: int, exact: float, plain: float | None, sensitivity: float | None = None) -> dict[str, Any]:
    manual = None
    if plain is not None:
        manual = {"plain": plain, "table": plain / 2, "strengths": plain / 4, "chosen": plain / 2}
        manual["table without rule (9)"] = plain
    figures = {"accuracy": 0.75, "sensitivity": sensitivity, "specificity": 1.0}
    symptoms = {"A-line": dict.fromkeys(("accuracy", "sensitivity", "specificity"), 0.5), "Pleural effusion": figures}
    return {"labelled": labelled, "share": labelled / 100, "exact": exact, "auc": 0.5, "symptoms": symptoms} | {
        "manual": manual
    }


def a_run(strategy: str, exact: list[float], seed: int = 0, **names: str) -> tuple[Part, dict[str, Any]]:
    rounds = [a_round(10 * (n + 1), value, 0.4 if n else None, 0.1 * n) for n, value in enumerate(exact)]
    part = Part("run", names.get("data", "made"), names.get("protocol", "frames"), seed, strategy)
    result = {"data": part.data, "protocol": part.protocol, "seed": seed, "what": strategy, "rounds": rounds}
    return part, result


def full(exact: float, seed: int = 0) -> tuple[Part, dict[str, Any]]:
    part = Part("full", "made", "frames", seed, "MSML")
    return part, {"data": "made", "protocol": "frames", "seed": seed, "what": "MSML", "exact": exact, "symptoms": {}}


RUNS = [
    a_run("random", [0.1, 0.3, 0.5]),
    a_run("mlm", [0.2, 0.4, 0.6]),
    a_run("mlm", [0.2, 0.6, 0.8], seed=1),
    a_run("mlm-diverse", [0.4, 0.7, 0.9]),
    a_run("adaptive", [0.4, 0.68, 0.9]),
    full(0.7),
    full(0.74, seed=1),
]


@pytest.fixture
def collected() -> dict[str, Any]:
    return summary.collect(*zip(*RUNS, strict=True))


@pytest.fixture
def rows(collected: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["strategy"]: row for row in summary.summary(collected)}


def test_a_row_of_the_summary(rows: dict[str, dict[str, Any]]) -> None:
    mlm = rows["mlm"]
    assert list(rows) == ["random", "mlm", "mlm-diverse", "adaptive"]
    assert mlm["seeds"] == 2
    assert mlm["mean_exact"] == pytest.approx((1.2 / 3 + 1.6 / 3) / 2)
    assert mlm["final_exact"] == pytest.approx(0.7)
    assert mlm["full_data_exact"] == pytest.approx(0.72)
    assert mlm["effusion_sensitivity_at_20"] == pytest.approx(0.1)  # the second round has 20 of 100
    assert mlm["manual_share_plain"] == pytest.approx(0.4)  # the first round, by hand, does not count
    assert mlm["manual_share_validated"] == pytest.approx(0.2)
    assert mlm["final_share"] == pytest.approx(0.3)
    assert mlm["intervals"]["final_exact"] == (0.0, 1.0)  # of 0.6 and 0.8
    assert mlm["intervals"]["final_share"] == pytest.approx((0.3, 0.3))
    assert rows["random"]["intervals"]["final_exact"] is None  # a single seed


def test_shares_by_hand_of_audit_frames_are_kept_apart_from_those_of_the_batch() -> None:
    part, run = a_run("mlm", [0.4, 0.5])
    for row in run["rounds"]:
        row["manual_audit"] = row["manual"] and {name: share + 0.1 for name, share in row["manual"].items()}
    (found,) = summary.summary(summary.collect([part], [run]))
    assert found["manual_audit_plain"] == pytest.approx(found["manual_share_plain"] + 0.1)


def test_labels_that_reach_what_mlm_ends_with(rows: dict[str, dict[str, Any]]) -> None:
    # MLM's mean curve ends at 0.7: mlm-diverse is there with 20 of 100 labels, MLM with 30, random never.
    assert rows["mlm-diverse"]["label_share_to_reach_mlm_final"] == pytest.approx(0.2)
    assert rows["mlm"]["label_share_to_reach_mlm_final"] == pytest.approx(0.3)
    assert rows["random"]["label_share_to_reach_mlm_final"] is None


def test_targets_show_which_ones_hold(collected: dict[str, Any]) -> None:
    found = {one["name"].removeprefix("made: "): one for one in summary.targets(collected)}
    assert found["mlm-diverse's mean exact match above MLM's"]["value"] == pytest.approx(2 / 3 - 1.4 / 3)
    assert found["mlm-diverse's mean exact match above MLM's"]["holds"] is True
    assert found["labels that mlm-diverse needs for MLM's final exact match, of MLM's"]["value"] == pytest.approx(2 / 3)
    assert found["labels that mlm-diverse needs for MLM's final exact match, of MLM's"]["holds"] is False
    below = found["adaptive's mean exact match below the best single strategy's"]
    assert below["value"] == pytest.approx(0.02 / 3)
    assert below["holds"] is True
    sensitivity = found["pleural-effusion sensitivity at 20% of the labels (mlm-diverse)"]
    assert (sensitivity["value"], sensitivity["holds"]) == (pytest.approx(0.1), False)
    # strengths would have left 0.1, adaptive chose what left 0.2
    assert found["adaptive's manual share above the best validator's"]["value"] == pytest.approx(0.1)


def test_a_set_without_effusion_has_no_such_target() -> None:
    runs = [a_run(name, [0.5, 0.5, 0.5]) for name in ("random", "mlm", "mlm-diverse", "adaptive")] + [full(0.5)]
    for _, result in runs[:-1]:
        for one in result["rounds"]:
            del one["symptoms"]["Pleural effusion"]
    collected = summary.collect(*zip(*runs, strict=True))
    assert all(row["effusion_sensitivity_at_20"] is None for row in summary.summary(collected))
    assert not any("effusion" in one["name"] for one in summary.targets(collected))


def test_without_ticks_only_the_targets_about_them_are_not_measured() -> None:
    runs = [a_run(name, [0.5, 0.5, 0.5]) for name in ("random", "mlm", "mlm-diverse", "adaptive")] + [full(0.5)]
    for _, result in runs[:-1]:
        for one in result["rounds"]:
            one["manual"] = None
    found = summary.targets(summary.collect(*zip(*runs, strict=True)))
    unknown = [one for one in found if one["holds"] is None]
    assert [one["value"] for one in unknown] == [None, None]
    assert all("manual share" in one["name"] and one["reason"] == summary.NO_TICKS for one in unknown)
    assert len(found) > len(unknown)
