"""Convert the JSON of annotations and predictions to label combinations, and back.

A confirmed annotation without a choice, and a prediction with an empty list of choices, mean *no symptom*. A
prediction without any choices result means nothing: there is no model yet, the frame cannot be read, or it is to be
judged unaided. If the configuration offers the answer *none of these*, a prediction says *no symptom* with that answer,
because Label Studio's browser shows an empty list of choices as a tick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from label_studio_sdk.label_interface import LabelInterface
from numpy.typing import NDArray

from ml_backend.errors import ConfigurationUnusable, UnknownLabel
from ml_backend.studio.configuration import CERTAINTY, NONE_OF_THESE, NOT_ASSESSABLE, OTHERWISE, Configuration

# Label Studio keeps unknown keys of a result in the prediction, and its browser strips this one from the annotation
# that is made of it; `meta` and a numeric `score` would be copied into the annotation.
AUDIT = "tsal"
IMPORTED = "imported"
"""Key below `AUDIT` in the result of an imported annotation."""
_SOURCES = {
    "memory": "from similar confirmed frames",
    "network": "from the network",
    "table": "from the network and known combinations",
}


@dataclass(frozen=True)
class Prediction:
    """What is sent to Label Studio for one frame.

    ``labels`` (l,) uint8 is the pseudo-label, None where there is none; ``score`` in [0, 1] the position in the queue,
    lowest asked first; ``audit`` what is kept for people: probabilities by name, margin, distance, the plain label.
    """

    task: int
    labels: NDArray[np.uint8] | None
    score: float
    model_version: str
    audit: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Imported:
    """Where an imported annotation comes from: the name of the table, and when it was imported (ISO 8601).

    ``annotator`` and ``date`` as the table gives them, empty if it does not.
    """

    file: str
    at: str
    annotator: str = ""
    date: str = ""


@dataclass(frozen=True)
class Default:
    """The defaults that an annotator saw: the validated combination and the plain (0.5 threshold) one, None if none."""

    labels: NDArray[np.uint8] | None
    plain: NDArray[np.uint8] | None
    audit: Mapping[str, Any]


def prediction_payload(prediction: Prediction, configuration: Configuration) -> dict[str, Any]:
    """Write a prediction as Label Studio's bulk import and its ML-backend protocol take it."""
    result: list[dict[str, Any]] = []
    if prediction.labels is not None:
        no_symptom = configuration.none_of_these and not prediction.labels.any()
        ticked = choices_result(prediction.labels, configuration)
        if no_symptom:
            ticked |= {"from_name": OTHERWISE, "value": {"choices": [NONE_OF_THESE]}}
        result.append({"id": f"{ticked['from_name']}-{prediction.task}", **ticked, AUDIT: dict(prediction.audit)})
    if configuration.certainty:
        result.append(
            {
                "id": f"{CERTAINTY}-{prediction.task}",
                "from_name": CERTAINTY,
                "to_name": configuration.target,
                "type": "textarea",
                "value": {"text": [certainty(prediction)]},
            }
        )
    return {
        "task": prediction.task,
        "model_version": prediction.model_version,
        "score": prediction.score,
        "result": result,
    }


def certainty(prediction: Prediction) -> str:
    """Describe a suggestion for the labelling page: how sure it is and where it comes from, as far as known."""
    if prediction.labels is None:
        return "No suggestion: please judge this frame yourself."
    suggestion = "Suggestion" if prediction.labels.any() else f"Suggestion: {NONE_OF_THESE}"
    sure = sureness(prediction.audit.get("confidence"), prediction.audit.get("source"))
    return f"{suggestion} · {sure}" if sure else suggestion


def sureness(confidence: float | None, source: str | None) -> str:
    """Describe how sure a suggestion is and where it comes from; empty where neither is known."""
    # Rounding must not promise certainty.
    sure = None if confidence is None else f"{min(float(confidence), 0.99):.0%} sure"
    return " · ".join(words for words in (sure, _SOURCES.get(source or "")) if words)


def choices_result(labels: NDArray[np.uint8], configuration: Configuration) -> dict[str, Any]:
    """Write a (l,) combination as one item of a result, without an id."""
    stored = dict(zip(configuration.label_names, configuration.values, strict=True))
    return {
        "from_name": configuration.control,
        "to_name": configuration.target,
        "type": "choices",
        "value": {"choices": [stored[name] for name in configuration.label_set.decode(labels)]},
    }


def imported_result(labels: NDArray[np.uint8], configuration: Configuration, origin: Imported) -> list[dict[str, Any]]:
    """Write an imported (l,) combination as an annotation's result, with its origin.

    When somebody updates the annotation in the browser, the origin is lost: the answer is that person's from then on.
    """
    item = choices_result(labels, configuration)
    if configuration.none_of_these and not labels.any():
        item |= {"from_name": OTHERWISE, "value": {"choices": [NONE_OF_THESE]}}
    return [{**item, AUDIT: {IMPORTED: asdict(origin)}}]


def origin_of(result: object) -> Imported | None:
    """Return the origin of an imported annotation; None if it was not imported, or its result is invalid."""
    for item in result if isinstance(result, list | tuple) else ():
        told = item.get(AUDIT) if isinstance(item, Mapping) else None
        origin = told.get(IMPORTED) if isinstance(told, Mapping) else None
        if isinstance(origin, Mapping):
            return Imported(**{name: str(origin.get(name) or "") for name in Imported.__dataclass_fields__})
    return None


def labels_of(
    result: Sequence[Mapping[str, Any]], configuration: Configuration
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Read a confirmed annotation's result; other controls are ignored.

    Returns its (l,) uint8 combination, and the choices that the configuration does not have (any more): the answers on
    the other symptoms stand. Raises UnknownLabel where nothing else is ticked, or for a result that is not of Label
    Studio's form.
    """
    names, gone = _names(_items(result, configuration), configuration)
    return _known(names, gone, configuration), tuple(gone)


def is_not_assessable(result: object) -> bool:
    """Return whether an annotation's result says that the frame cannot be judged; False for an invalid result."""
    return _otherwise(result, NOT_ASSESSABLE) is not None


def _otherwise(result: object, answer: str) -> Mapping[str, Any] | None:
    """Find the item of a result that gives this answer of the control ``otherwise``."""
    for item in result if isinstance(result, list | tuple) else ():
        if isinstance(item, Mapping) and item.get("from_name") == OTHERWISE:
            value = item.get("value")
            choices = value.get("choices") if isinstance(value, Mapping) else None
            if isinstance(choices, list) and answer in choices:
                return item
    return None


def default_of(prediction: Mapping[str, Any] | None, configuration: Configuration) -> Default:
    """Read the defaults that an annotator saw from the prediction, as Label Studio stored it.

    A choice that the configuration does not have any more is left out; where it was the only one, nothing was shown.
    """
    nothing = Default(None, None, {})
    try:
        result = (prediction or {}).get("result") or []
        items = _items(result, configuration)
        said = items[0] if items else _otherwise(result, NONE_OF_THESE)
        if said is None:
            return nothing
        audit = said.get(AUDIT)
        audit = audit if isinstance(audit, Mapping) else {}
        plain = None
        if "plain" in audit:
            now = [name for name in audit["plain"] if name in configuration.label_names]
            plain = _known(now, [name for name in audit["plain"] if name not in now], configuration)
        return Default(_known(*_names(items, configuration), configuration), plain, audit)
    except UnknownLabel:
        return nothing


def is_confirmed(annotation: Mapping[str, Any]) -> bool:
    """Tell whether an annotation was submitted, not skipped."""
    return not annotation.get("was_cancelled")


def is_accepted_unseen(annotation: Mapping[str, Any]) -> bool:
    """Tell whether an annotation is a copy of a prediction that nobody has opened.

    The Data Manager's "Create Annotations From Predictions" notes the prediction and neither a time nor an editor. A
    submit or an update, in the browser or through the API, always notes who made it (``updated_by``), and the browser
    also how long it took (``lead_time``). Imported annotations have no parent prediction. When a prediction is
    deleted, Label Studio forgets that it was the parent; what only a prediction says stays in the annotation.
    """
    if any(annotation.get(name) is not None for name in ("lead_time", "updated_by")):
        return False
    return annotation.get("parent_prediction") is not None or _says_what_predictions_say(annotation.get("result"))


def _says_what_predictions_say(result: object) -> bool:
    """Whether a result has what only our predictions have, or is empty, like a prediction without ticks."""
    items = [item for item in result if isinstance(item, Mapping)] if isinstance(result, list | tuple) else []
    ours = any(AUDIT in item or item.get("from_name") == CERTAINTY for item in items)
    return result == [] or (ours and origin_of(result) is None)


class Checker:
    """Label Studio's own check of predictions against one configuration, its XML parsed once.

    Raises ConfigurationUnusable where that check cannot read the configuration.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        try:
            self._interface = LabelInterface(configuration.xml)
        except Exception as error:  # the SDK names no exceptions of its own here
            raise ConfigurationUnusable(
                f"Label Studio's check cannot read the labelling configuration: {error}"
            ) from None

    def payload(self, prediction: Prediction) -> tuple[dict[str, Any], str | None]:
        """Write a prediction that Label Studio accepts: if its check refuses this one, an empty one and the reason."""
        payload = prediction_payload(prediction, self._configuration)
        problems = self.errors(payload)
        if not problems:
            return payload, None
        return prediction_payload(replace(prediction, labels=None), self._configuration), problems[0]

    def errors(self, payload: Mapping[str, Any]) -> list[str]:
        """List what Label Studio would reject in a prediction's payload; empty where it is valid."""
        return [str(problem) for problem in self._interface.validate_prediction(payload, return_errors=True)]


def _items(result: Sequence[Mapping[str, Any]], configuration: Configuration) -> list[Mapping[str, Any]]:
    if not isinstance(result, list | tuple) or not all(isinstance(item, Mapping) for item in result):
        raise UnknownLabel("the annotation's result is not a list of items")
    return [item for item in result if item.get("from_name") == configuration.control and item.get("type") == "choices"]


def _known(names: Sequence[str], gone: Sequence[str], configuration: Configuration) -> NDArray[np.uint8]:
    if gone and not names:
        raise UnknownLabel(
            f"unknown choice {gone[0]!r} and no other; the configuration allows {', '.join(configuration.values)}"
        )
    return configuration.label_set.encode(names)


def _names(items: Sequence[Mapping[str, Any]], configuration: Configuration) -> tuple[list[str], list[str]]:
    """The symptoms that are ticked, and the stored choices that the configuration does not have."""
    names = dict(zip(configuration.values, configuration.label_names, strict=True))
    chosen: list[str] = []
    gone: list[str] = []
    for item in items:
        value = item.get("value")
        choices = value.get("choices") if isinstance(value, Mapping) else None
        if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
            raise UnknownLabel(f"the choices of {configuration.control} are not a list of texts")
        for choice in choices:
            if choice in names:
                chosen.append(names[choice])
            else:
                gone.append(choice)
    return chosen, gone
