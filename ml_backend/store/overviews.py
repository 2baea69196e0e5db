"""The overview of a project for the lead's page: computed in the background and saved as one file."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Measure(_Kept):
    """A share in [0, 1] with its 95% interval and the numbers of frames and patients behind it (0 if unknown)."""

    value: float
    low: float
    high: float
    frames: int = 0
    patients: int = 0


class Standing(_Kept):
    """Numbers of frames by the state of their labels.

    ``people``: answered by people; ``accepted``: accepted unseen; ``imported``: with a label that was imported, and no
    answer; ``left``: not yet answered, of which the machine
    labels ``machine`` and cannot read ``unreadable``; ``not_assessable``: judged not assessable by people. ``bins`` is
    the histogram of the machine's confidence over ten equal parts of [0, 1], empty where there is none.
    """

    frames: int = 0
    people: int = 0
    accepted: int = 0
    imported: int = 0
    left: int = 0
    machine: int = 0
    unreadable: int = 0
    not_assessable: int = 0
    bins: tuple[int, ...] = ()


class Audit(_Kept):
    """Accuracy of the ticks on the answered audit frames.

    ``right``: right in every symptom; ``sources`` and ``symptoms``: the same by source and by symptom; ``bias``: the
    automation bias, in [-1, 1], None where it is unknown.
    """

    frames: int = 0
    patients: int = 0
    right: Measure | None = None
    sources: dict[str, Measure] = {}
    symptoms: dict[str, Measure] = {}
    bias: Measure | None = None
    calibration_error: float | None = None


class Plan(_Kept):
    """The cost of a finish at ``epsilon`` with 95% confidence: an audit of ``size`` frames, ``answers`` in all."""

    epsilon: float
    size: int
    answers: float


class Moment(_Kept):
    """A point in a project's history.

    ``people``: frames answered by people; ``answers``: forecast of the answers left until a finish, None if unknown;
    ``right``: accuracy of the ticks by the audit so far.
    """

    at: str
    people: int
    answers: float | None = None
    right: Measure | None = None


class Version(_Kept):
    """A version, from its manifest.

    ``corrected``: share of the preceding batch whose ticks people changed; ``stood``: share of that batch's audit
    frames whose ticks were right; ``reasons``: why the next batch is chosen as it is.
    """

    version: str
    number: int
    parent: str | None
    created_at: str
    trained_on: int
    held_out: int
    seconds: float | None = None
    exact_match: Measure | None = None
    exact_match_parent: Measure | None = None
    sample: str = ""
    stood: Measure | None = None
    corrected: float | None = None
    held_back: str = ""
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


class Asked(_Kept):
    """The reasons for the first frames of an order, with the number of frames for each."""

    order: str
    created_at: str
    version: str | None
    strategy: str
    reasons: dict[str, int]


class Person(_Kept):
    """The work of one annotator.

    ``hours``: time spent on the ``timed`` answers; ``accepted``: answers accepted unseen; ``kept``: share of the audit
    frames whose visible ticks this person left unchanged.
    """

    name: str
    answers: int
    timed: int
    hours: float
    accepted: int
    kept: Measure | None = None


class Agreement(_Kept):
    """Agreement on a symptom: Krippendorff's ``alpha`` over the frames that two or more people answered."""

    symptom: str
    frames: int
    people: int
    alpha: float | None = None


class Doubtful(_Kept):
    """A frame that deserves a second look: its ``task``, the ``url`` of its picture, and ``why`` in words."""

    task: int
    url: str
    why: str


class Doubts(_Kept):
    """Frames that deserve a second look for one reason: ``count`` of them, of which the ``first`` are listed."""

    count: int = 0
    first: tuple[Doubtful, ...] = ()


class LookAgain(_Kept):
    """Frames that deserve a second look.

    ``suspects``: confirmed frames that similar frames and the network contradict, as of ``order``; ``disagreements``:
    frames that people answered differently; ``accepted``: frames accepted unseen; ``unreadable``: unreadable frames.
    """

    order: str = ""
    suspects: Doubts = Doubts()
    disagreements: Doubts = Doubts()
    accepted: Doubts = Doubts()
    unreadable: Doubts = Doubts()


class Overview(_Kept):
    """Everything on the lead's page that takes time to compute.

    ``answered``: answered audit frames of the last finish; ``ended``: why the loop has ended, empty while it runs.
    """

    project: int
    title: str
    at: str
    symptoms: tuple[str, ...]
    standing: Standing = Standing()
    audit: Audit = Audit()
    plans: tuple[Plan, ...] = ()
    history: tuple[Moment, ...] = ()
    versions: tuple[Version, ...] = ()
    asked: tuple[Asked, ...] = ()
    people: tuple[Person, ...] = ()
    days: dict[str, int] = {}
    agreement: tuple[Agreement, ...] = ()
    again: LookAgain = LookAgain()
    answered: int = 0
    ended: str = ""
    seconds: float = 0.0


def measure(content: Any) -> Measure | None:
    """Read a measure from the JSON of a `Figure` or a `Share`; None where nothing was measured."""
    if isinstance(content, int | float):  # from before 0.2.0: its interval is unknown
        return Measure(value=content, low=0.0, high=1.0)
    return Measure.model_validate(content) if content and content.get("value") is not None else None
