"""The card: the figures as manifest and audits have them, and nothing made up where they have none."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from ml_backend.loop.model_card import EXAMPLES, Check, Data, card_of
from ml_backend.msml.exported import Format
from ml_backend.store.versions import Manifest
from ml_backend.tsal.judgement import Figure
from ml_backend.tsal.reliability import AuditReport, Share
from ml_backend.tsal.split import HELD_OUT, NEWEST_AUDIT
from tests.installation import manifest_of

JUDGED = Figure(0.75, 0.61, 0.86, 90, 12)
SENSITIVE = Figure(0.5, 0.25, 0.8, 10, 4)
CHECK = Check(frames=40, unreadable=2, labels=160, largest=3e-7, served=0.00123, served_mean=2e-4, crossed=3)


def audited(right: int = 0, frames: int = 0) -> AuditReport:
    flags = np.arange(frames) < right
    return AuditReport.of(
        flags,
        np.full(frames, 0.9),
        np.zeros(frames, bool),
        ["memory"] * frames,
        [f"p{number % 2}" for number in range(frames)],
        {"A-line": Share.of(flags)} if frames else {},
    )


def card(
    manifest: Manifest, kind: Format = "onnx", report: AuditReport | None = None, precision: str = "float32"
) -> list[str]:
    data = Data(patients_trained=30, patients_held_out=12, gone=0)
    return card_of(manifest, 7, kind, data, CHECK, precision, report or audited()).splitlines()


def section(lines: list[str], title: str) -> list[str]:
    start = next(place for place, line in enumerate(lines) if line.startswith(f"## {title}"))
    end = next((place for place in range(start + 1, len(lines)) if lines[place].startswith("## ")), len(lines))
    return lines[start:end]


def judged(**changes: Any) -> dict[str, Any]:
    return {
        "frames": 90,
        "patients": 12,
        "judged_on": HELD_OUT,
        "sample": "uniform",
        "exact_match": asdict(JUDGED),
        "exact_match_parent": asdict(SENSITIVE),
        "patients_better": 5,
        "patients_worse": 2,
        "symptoms": {"A|line": {"accuracy": asdict(JUDGED), "sensitivity": asdict(SENSITIVE), "specificity": None}},
    } | changes


def test_figures_stand_with_their_intervals_frames_and_patients() -> None:
    found = section(card(manifest_of(metrics=judged())), "Figures of this network")
    shown = "0.750 (0.610 to 0.860; 90 frames, 12 patients)"
    assert f"| every label right | {shown} |" in found
    assert "| the same of its parent | 0.500 (0.250 to 0.800; 10 frames, 4 patients) |" in found
    assert "| patients | 5 better than by its parent, 2 worse |" in found
    assert f"| A\\|line | {shown} | 0.500 (0.250 to 0.800; 10 frames, 4 patients) | not measured |" in found


def test_figures_of_patients_that_may_be_known_are_marked() -> None:
    def marked(on: str) -> bool:
        return any("may do worse on new patients" in line for line in card(manifest_of(metrics=judged(judged_on=on))))

    assert marked(NEWEST_AUDIT)
    assert not marked(HELD_OUT)


@pytest.mark.parametrize(("sample", "said"), [("uniform", "a uniform"), ("not uniform", "not a uniform"), ("", None)])
def test_a_sample_is_called_what_it_is(sample: str, said: str | None) -> None:
    found = "\n".join(section(card(manifest_of(metrics=judged(sample=sample))), "Figures of this network"))
    assert (f"({HELD_OUT}; {said} sample of the pool)" if said else f"({HELD_OUT})") in found


def test_where_nothing_was_measured_nothing_is_claimed() -> None:
    found = section(card(manifest_of(metrics={"frames": 0, "exact_match": None})), "Figures of this network")
    assert any(line.startswith("Not measured") for line in found)
    assert not any(line.startswith("|") for line in found)


def test_a_figure_from_before_there_were_intervals_says_so() -> None:
    found = card(manifest_of(metrics={"frames": 9, "exact_match": 0.5}))
    assert "| every label right | 0.500 (interval not known) |" in found


def test_figures_of_the_ticks_stand_apart() -> None:
    found = card(manifest_of(ticks={"stood": asdict(JUDGED)}), report=audited(3, 4))
    ticks = section(found, "Figures of the ticks")
    for share in (
        "right in every label, all audits by now",
        "right in every label, by the memory",
        "A-line",
    ):
        assert f"| {share} | 0.750 (0.301 to 0.954; 4 frames) |" in ticks
    assert "| ticks that stood, as of this version | 0.750 (0.610 to 0.860; 90 frames, 12 patients) |" in ticks
    assert not any("0.301" in line for line in section(found, "Figures of this network"))


def test_the_check_is_stated_with_what_is_served() -> None:
    found = "\n".join(section(card(manifest_of(), precision="bfloat16"), "Checked"))
    for fact in ("on 40 frames", "2 more could not be read", "| 3e-07 |", "| 0.0012 | 0.0002 |", "3 of the 160"):
        assert fact in found
    assert "bfloat16" in found
    assert "bfloat16" not in "\n".join(card(manifest_of()))


@pytest.mark.parametrize("kind", list(EXAMPLES))
def test_a_card_says_how_its_file_is_run(kind: Format) -> None:
    text = "\n".join(card(manifest_of(), kind))
    assert EXAMPLES[kind] in text
    assert not any(other in text for name, other in EXAMPLES.items() if name != kind)


def test_the_place_of_the_weights_stays_unknown() -> None:
    text = "\n".join(card(manifest_of(weights="/srv/secret/lungs.pth")))
    assert "lungs.pth" in text
    assert "secret" not in text


def test_the_check_compares_three_answers() -> None:
    ours = np.array([[0.2, 0.49], [0.9, 0.5]], np.float32)
    network = ours + np.array([[0, 0], [0, 1e-5]], np.float32)
    served = np.array([[0.2, 0.51], [0.8, 0.5]], np.float32)
    found = Check.of(ours, network, served, unreadable=4)
    assert (found.frames, found.unreadable, found.labels, found.crossed) == (2, 4, 4, 1)
    assert found.largest == pytest.approx(1e-5, rel=0.01)
    assert found.served == pytest.approx(0.1, rel=1e-4)
    assert found.served_mean == pytest.approx(0.03, rel=1e-4)
