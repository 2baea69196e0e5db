"""What the lead's page shows of a project: computed in the background, kept as one file, read whole."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ml_backend.store.files import write_aside


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Measure(_Kept):
    """A share in [0, 1] with the ends of its 95% interval, and the frames and patients behind it (0 if unknown)."""

    value: float
    low: float
    high: float
    frames: int = 0
    patients: int = 0


class Standing(_Kept):
    """Where every frame's label stands, in frames.

    ``people`` looked at so many, ``accepted`` so many answers unseen; of the ``left`` ones the machine labels
    ``machine``, with the confidences ``bins`` (ten equal parts of [0, 1]; empty where none is told), and
    ``unreadable`` cannot be read. People found ``not_assessable`` of all frames not assessable.
    """

    frames: int = 0
    people: int = 0
    accepted: int = 0
    left: int = 0
    machine: int = 0
    unreadable: int = 0
    not_assessable: int = 0
    bins: tuple[int, ...] = ()


class Audit(_Kept):
    """What the answered audit frames say of the ticks: ``right`` in every symptom, also by source and by symptom.

    ``bias``: the share of ticks that stand because people saw them, in [-1, 1]; None where it is not known.
    """

    frames: int = 0
    patients: int = 0
    right: Measure | None = None
    sources: dict[str, Measure] = {}
    symptoms: dict[str, Measure] = {}
    bias: Measure | None = None
    calibration_error: float | None = None


class Plan(_Kept):
    """What a finish at ``epsilon`` with 95% confidence would take: an audit of ``size`` frames, ``answers`` in all."""

    epsilon: float
    size: int
    answers: float


class Moment(_Kept):
    """How far the project was: ``people`` had answered so many frames, ``answers`` were left until a finish, if known.

    ``right``: the ticks that were right by the audit frames answered until then.
    """

    at: str
    people: int
    answers: float | None = None
    right: Measure | None = None


class Version(_Kept):
    """A version, as its manifest has it.

    ``corrected``: the share of the batch before it whose ticks people changed; ``stood``: the share of the audit frames
    of that batch whose ticks were right; ``reasons``: why the next batch is asked as it is.
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
    """Why the first frames of an order were asked: so many for each reason."""

    order: str
    created_at: str
    version: str | None
    strategy: str
    reasons: dict[str, int]


class Person(_Kept):
    """What one annotator did; ``hours`` of the answers that were timed, ``timed`` so many.

    ``kept``: of the audit frames whose ticks this person saw, those left as they were; ``accepted``: answers that
    nobody looked at.
    """

    name: str
    answers: int
    timed: int
    hours: float
    accepted: int
    kept: Measure | None = None


class Agreement(_Kept):
    """How far people agree on a symptom: Krippendorff's ``alpha`` over the frames that two or more answered."""

    symptom: str
    frames: int
    people: int
    alpha: float | None = None


class Doubtful(_Kept):
    """A frame that deserves a second look: its ``task``, the address ``url`` of its picture, and ``why`` in words."""

    task: int
    url: str
    why: str


class Doubts(_Kept):
    """Frames that deserve a second look for one kind of reason: the first ones of ``count``."""

    count: int = 0
    first: tuple[Doubtful, ...] = ()


class LookAgain(_Kept):
    """Frames that deserve a second look.

    ``suspects``: confirmed ones that the frames like them, and the network, contradict, found when ``order`` began to
    serve; ``disagreements``: people said different things; ``accepted``: nobody looked; ``unreadable``: nobody can.
    """

    order: str = ""
    suspects: Doubts = Doubts()
    disagreements: Doubts = Doubts()
    accepted: Doubts = Doubts()
    unreadable: Doubts = Doubts()

    def find(self, task: int) -> Doubtful | None:
        """The frame of a task, if it is listed here."""
        lists = (self.suspects, self.disagreements, self.accepted, self.unreadable)
        return next((one for doubts in lists for one in doubts.first if one.task == task), None)


class Overview(_Kept):
    """Everything that the lead's page shows and that is not known at once.

    ``answered``: frames of the audit of the last finish that somebody has answered; ``ended``: why the loop has ended,
    empty while it goes on.
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


class OverviewStore:
    """The overview of one project below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "overview.json"

    def read(self) -> Overview | None:
        """The last overview; None before the first, and where it cannot be read: the next one replaces it."""
        try:
            state = self._path.stat()
            return _read(self._path, state.st_mtime_ns, state.st_size)
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, overview: Overview) -> None:
        """Replace the overview."""
        write_aside(self._path, overview.model_dump_json())


@lru_cache(maxsize=16)
def _read(path: Path, written_ns: int, size: int) -> Overview:
    """Somebody who reloads the page need not have it read anew, as long as it is the same."""
    return Overview.model_validate_json(path.read_bytes())


def measure(content: Any) -> Measure | None:
    """A measure of JSON such as a `Figure` or a `Share` writes; None where nothing was measured."""
    if isinstance(content, int | float):  # from before 0.2.0: its interval is unknown
        return Measure(value=content, low=0.0, high=1.0)
    return Measure.model_validate(content) if content and content.get("value") is not None else None
