"""Orders of the queue that were pushed to Label Studio, kept for audits and for placing single frames."""

from __future__ import annotations

import io
import logging
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ml_backend.logs import event
from ml_backend.store.files import read_json, write_aside, written_aside
from ml_backend.store.locks import alone

logger = logging.getLogger(__name__)
UNTRAINED = "diversity"
# Label Studio shows a prediction's score beside its name, as a percentage. Of a long name it shows the first eight
# characters and the last six; 0.1.0 had names without the words.
WORDS = "place in queue, "
NAME = re.compile(rf"^(?:{WORDS})?(?P<source>diversity|msml-\d{{4,}}-[0-9a-f]{{8}})\.(?P<serial>\d+)$")


class Basis(BaseModel):
    """What an order rests on besides its frames: if one of these changes, the queue must be put in order again.

    ``strategy`` and ``validator`` as in `tsal`; ``symptoms`` are those of the labelling configuration; ``audit`` and
    ``hold_out`` are the settings of the same names. Older orders, saved without these, have the defaults.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str | None
    strategy: str
    validator: str | None = None
    symptoms: tuple[str, ...] = ()
    audit: float | None = None
    hold_out: float | None = None


class About(Basis):
    """What an order is: its name is Label Studio's ``model_version`` of the predictions that carry it.

    ``pending``: frames that had been confirmed since the newest version when the order was made.
    """

    name: str
    created_at: str
    seed: int
    unreadable: dict[int, str]
    seconds: dict[str, float]
    pending: int = 0


@dataclass(frozen=True)
class Told:
    """What an order tells annotators: ``labels`` (n, l) uint8 of its symptoms and ``confidence`` (n,) in [0, 1].

    Rows as in the order; NaN where nothing is told. ``remembered``: {task: mark} of the confirmed frames behind it.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    remembered: dict[int, int]


@dataclass(frozen=True)
class Order:
    """A queue.

    ``tasks`` (n,) int64, asked first to last; ``reasons`` why each is asked there, as in `tsal.round`;
    ``informativeness`` (n,) float64, ascending: the strategy's scores of these frames; ``told`` None where the memory
    is not used.
    """

    about: About
    tasks: NDArray[np.int64]
    informativeness: NDArray[np.float64]
    reasons: tuple[str, ...] = ()
    told: Told | None = None

    def place(self, informativeness: float) -> float:
        """Queue position in [0, 1] of a frame that is not in the order (0: asked first)."""
        if len(self.tasks) == 0:
            return 0.0
        return float(np.searchsorted(self.informativeness, informativeness) / len(self.tasks))


class OrderStore:
    """The orders of one project below ``folder``; ``current`` names the one that Label Studio serves."""

    def __init__(self, folder: Path) -> None:
        self._orders = folder / "orders"
        self._pointer = folder / "order"

    def alone(self, wait: bool = True) -> AbstractContextManager[None]:
        """Wait until no other process makes or removes orders of this project, and keep the others waiting.

        Without ``wait``, raises BlockingIOError where one does.
        """
        return alone(self._orders / ".lock", wait)

    def next_name(self, version: str | None, taken: list[str]) -> str:
        """A name for the next order of a version that neither this store nor Label Studio (``taken``) has."""
        source = version or UNTRAINED
        here = [path.name.removesuffix(".npz") for path in self._orders.glob("*.npz")]
        serials = [
            int(match["serial"]) for name in here + taken if (match := NAME.match(name)) and match["source"] == source
        ]
        return f"{WORDS}{source}.{max(serials, default=0) + 1}"

    def save(self, order: Order) -> None:
        """Keep an order; it is current only after `activate`."""
        arrays: dict[str, Any] = {
            "tasks": order.tasks,
            "informativeness": order.informativeness,
        }
        # All frames share a few reasons. Spelled out, they would take most of the file and of the time to read it.
        names = sorted(set(order.reasons))
        place_of = {name: place for place, name in enumerate(names)}
        arrays |= {
            "reason_names": np.array(names, np.str_),
            "reason_of": np.fromiter(map(place_of.__getitem__, order.reasons), np.int32, len(order.reasons)),
        }
        if order.told is not None:
            arrays |= {"labels": order.told.labels, "confidence": order.told.confidence}
            arrays["remembered"] = np.array(sorted(order.told.remembered.items()), np.int64).reshape(-1, 2)
        with written_aside(self._orders / f"{order.about.name}.npz") as file:
            np.savez(file, **arrays)
        write_aside(self._orders / f"{order.about.name}.json", order.about.model_dump_json(indent=1))

    def activate(self, name: str) -> None:
        """Note that Label Studio serves this order now."""
        write_aside(self._pointer, name + "\n")

    def current_name(self) -> str | None:
        """Name of the order that Label Studio serves, None before the first."""
        try:
            return self._pointer.read_text().strip() or None
        except FileNotFoundError:
            return None

    def current(self) -> Order | None:
        """The order that Label Studio serves, None before the first."""
        name = self.current_name()
        return self.get(name) if name else None

    def about(self, name: str) -> About | None:
        """What an order is, without its frames; None where it is not there or cannot be read."""
        try:
            content = read_json(self._orders / f"{name}.json")
            return About.model_validate(content) if content is not None else None
        except ValueError:
            _tell_of_damage(self._orders / name)
            return None

    def get(self, name: str) -> Order | None:
        """One order by name, None where it is not there or cannot be read."""
        about = self.about(name)
        if about is None:
            return None
        try:
            # Read the whole file first: any later error is the content's fault, not the disk's.
            content = io.BytesIO((self._orders / f"{name}.npz").read_bytes())
            with np.load(content, allow_pickle=False) as arrays:
                told = None
                if "remembered" in arrays:
                    told = Told(arrays["labels"], arrays["confidence"], dict(arrays["remembered"].tolist()))
                return Order(about, arrays["tasks"], arrays["informativeness"], _reasons(arrays), told)
        except FileNotFoundError:  # pruned since we read its JSON
            return None
        except (EOFError, BadZipFile, ValueError, LookupError, RuntimeError):
            _tell_of_damage(self._orders / name)
            return None

    def prune(self, keep: list[str]) -> None:
        """Forget all orders but these and the current one."""
        wanted = {*keep, self.current_name()}
        for path in self._orders.glob("*.npz"):
            name = path.name.removesuffix(".npz")
            if name not in wanted:
                # In this sequence, so that what a sudden end leaves behind is no order, and the next call finds it.
                (self._orders / f"{name}.json").unlink(missing_ok=True)
                (self._orders / f"{name}.grounds").unlink(missing_ok=True)
                path.unlink()


def _reasons(arrays: Any) -> tuple[str, ...]:
    if "reason_of" in arrays:
        names = arrays["reason_names"].tolist()
        return tuple(names[place] for place in arrays["reason_of"].tolist())
    return tuple(arrays["reasons"].tolist()) if "reasons" in arrays else ()  # 0.1.0 kept none


@lru_cache(maxsize=64)
def _tell_of_damage(order: Path) -> None:
    """Log, once for each order, that it counts as absent."""
    event(logger, "order damaged", level=logging.WARNING, order=order, reason="it counts as absent and is made anew")
