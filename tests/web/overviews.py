"""Made-up overviews, censuses and maps for tests of the lead's page."""

from __future__ import annotations

import numpy as np

from ml_backend.store.census import Census, Entry, Source
from ml_backend.store.overviews import (
    Agreement,
    Asked,
    Audit,
    Doubtful,
    Doubts,
    LookAgain,
    Measure,
    Moment,
    Overview,
    Person,
    Plan,
    Standing,
    Version,
)
from ml_backend.store.pool_map import PoolMap
from tests.installation import PROJECT

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"
DRAWN = PoolMap(np.arange(9, 0, -1), np.linspace([1.125, -0.125], [0.125, 0.875], 9, dtype=np.float32), 20)
"""A map of the frames of `counted`, and of one that is there no longer."""
NOON = "2026-01-01T12:00:00+00:00"


def share(value: float, frames: int = 40) -> Measure:
    """Make a share with an interval."""
    return Measure(value=value, low=max(0.0, value - 0.1), high=min(1.0, value + 0.05), frames=frames, patients=9)


def doubts(why: str, *tasks: int) -> Doubts:
    """Make frames that deserve a second look; as many again are counted but not listed."""
    first = tuple(Doubtful(task=task, url=f"/data/local-files/?d={task}.png", why=why) for task in tasks)
    return Doubts(count=2 * len(first), first=first)


def made_up(markup: str = "", versions: int = 5, project: int = PROJECT) -> Overview:
    """Make a complete overview; ``markup`` is part of every text that comes from outside."""
    names = [f"msml-{number:04d}-{number:08d}" for number in range(1, versions + 1)]
    return Overview(
        project=project,
        title=f"Lungs {markup}",
        at=NOON,
        symptoms=("Healthy", "A-line", f"B-line {markup}"),
        standing=Standing(
            frames=1440,
            people=410,
            accepted=3,
            left=1030,
            machine=1010,
            unreadable=2,
            bins=(1, 3, 7, 20, 44, 80, 110, 155, 230, 360),
        ),
        audit=Audit(
            frames=62,
            patients=14,
            right=share(0.87, 62),
            sources={"memory": share(0.91, 50), "network": share(0.7, 12)},
            symptoms={"Healthy": share(0.95), "A-line": share(0.9), f"B-line {markup}": share(0.88)},
            bias=Measure(value=0.07, low=-0.05, high=0.2),
            calibration_error=0.06,
        ),
        plans=tuple(
            Plan(epsilon=epsilon, size=size, answers=answers)
            for epsilon, size, answers in [(0.01, 310, 820), (0.03, 120, 430), (0.1, 36, 60)]
        ),
        history=tuple(Moment(at=NOON, people=25 * one, answers=1000 - 33 * one) for one in range(2, 17)),
        versions=tuple(
            Version(
                version=name,
                number=place + 1,
                parent=names[place - 1] if place else None,
                created_at=NOON,
                trained_on=80 * (place + 1),
                held_out=20,
                seconds=130.0,
                exact_match=share(0.5 + 0.4 * place / versions),
                exact_match_parent=share(0.5) if place else None,
                sample="uniform",
                stood=share(0.6),
                corrected=0.5,
                held_back=f"worse {markup}" if place == versions - 2 else "",
                notes=(f"left out {markup}",),
                reasons=(f"chosen {markup}",),
            )
            for place, name in enumerate(names)
        ),
        asked=tuple(
            Asked(
                order=f"{name}.1",
                created_at=NOON,
                version=name,
                strategy="cover",
                reasons={"different": 60, "audit": 15, f"new clip {markup}": 25},
            )
            for name in names
        ),
        people=(
            Person(name=f"Ada {markup}", answers=210, timed=205, hours=1.4, accepted=0, kept=share(0.8)),
            Person(name="Bea", answers=200, timed=0, hours=0.0, accepted=3),
        ),
        days={f"2026-01-{day:02d}": 20 + day for day in range(1, 20)},
        agreement=(
            Agreement(symptom="Healthy", frames=42, people=2, alpha=0.84),
            Agreement(symptom=f"B-line {markup}", frames=42, people=2, alpha=None),
        ),
        again=LookAgain(
            order="an order",
            suspects=doubts(f"confirmed {markup}", 1, 2),
            disagreements=doubts(f"Healthy; {markup}", 3),
            accepted=doubts("accepted unseen", 4),
            unreadable=Doubts(count=1, first=(Doubtful(task=5, url="", why=f"no picture {markup}"),)),
        ),
        seconds=0.4,
    )


def counted(markup: str = "") -> Census:
    """Make a census of two clips and a frame without one; ``markup`` is part of every text from outside."""
    told: list[tuple[str, Source, float | None]] = [
        (f"B-line {markup}", "person", None),
        ("Healthy", "memory", 0.9),
        ("Healthy", "network", 0.6),
        (f"B-line {markup}", "table", 0.997),
        ("", "unreadable", None),
        ("", "after the answer", None),
        ("Healthy", "accepted unseen", None),
        ("not assessable", "person", None),
    ]
    clips = [f"first {markup}"] * 4 + ["second"] * 3 + ["task 8"]
    return Census(
        frames=tuple(
            Entry(
                task=task,
                url="" if source == "unreadable" else f"/data/local-files/?d={task}.png",
                clip=clips[task - 1],
                patient=f"p{len(told) - task} {markup}",
                time=None if task == 8 else (4 - task) / 4,  # the last task comes first
                label=label,
                source=source,
                confidence=confidence,
                reason=f"audit {markup}" if source == "after the answer" else "later",
            )
            for task, (label, source, confidence) in enumerate(told, start=1)
        )
    )
