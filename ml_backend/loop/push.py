"""Send an order to Label Studio: what travels for each frame, and the switch to it when everything is there."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ml_backend.frames.scores import Scores
from ml_backend.logs import event
from ml_backend.services import Services
from ml_backend.store.orders import Order
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import Checker, Prediction
from ml_backend.tsal.correlation import pick_columns
from ml_backend.tsal.labels import columns_of

logger = logging.getLogger(__name__)
SAMPLING = "Uncertainty sampling"


def serve(
    services: Services, project: int, order: Order, predictions: Iterable[Prediction], configuration: Configuration
) -> None:
    """Send the predictions, and only when all are there let Label Studio serve the order."""
    services.studio.import_predictions(project, checked(predictions, configuration, project))
    services.studio.update_project(
        project, model_version=order.about.name, sampling=SAMPLING, show_collab_predictions=True
    )
    services.orders(project).activate(order.about.name)
    services.count(pushed=len(order.tasks))


def predictions_of(
    scores: Scores,
    names: Sequence[str],
    configuration: Configuration,
    name: str,
    strategy: str,
    positions: NDArray[np.float64],
    reasons: Sequence[str] | None = None,
) -> Iterator[Prediction]:
    """What travels to Label Studio for each row of ``scores``, whose columns are the symptoms ``names`` of a version.

    A symptom of the configuration that the version does not know gets neither tick nor probability; one that the
    configuration does not have any more is dropped. ``positions`` (n,) in [0, 1], lowest asked first; ``reasons`` (n,)
    why each frame stands there, where that is known.
    """
    columns = columns_of(configuration.label_names, names)
    known = [
        (name, column) for name, column in zip(configuration.label_names, columns, strict=True) if column is not None
    ]
    labels, plain = pick_columns(scores.labels, columns), pick_columns(scores.plain, columns)
    for row in range(len(scores.tasks)):
        probabilities = scores.probabilities[row]
        yield Prediction(
            int(scores.tasks[row]),
            labels[row],
            float(positions[row]),
            name,
            {
                "probabilities": {name: round(float(probabilities[column]), 4) for name, column in known},
                "margin": round(float(scores.margins[row]), 4),
                "distance": round(float(scores.distances[row]), 4),
                "plain": configuration.label_set.decode(plain[row]),
                "strategy": strategy,
            }
            | ({"reason": reasons[row]} if reasons is not None else {}),
        )


def checked(
    predictions: Iterable[Prediction], configuration: Configuration, project: int
) -> Iterator[dict[str, object]]:
    """Payloads that Label Studio's own check accepts; one that it does not is sent empty and logged."""
    checker = Checker(configuration)
    for prediction in predictions:
        payload, problem = checker.payload(prediction)
        if problem:
            event(
                logger, "prediction refused", level=logging.ERROR, project=project, task=prediction.task, reason=problem
            )
        yield payload
