"""The hook class that Label Studio's ML framework knows: ``predict`` and ``fit``, both thin.

It runs under label-studio-ml 1.0.9 and under the 2.x interface; what differs between them is absorbed here.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any

import numpy as np
from label_studio_ml.model import LabelStudioMLBase

from ml_backend import jobs
from ml_backend.errors import InvalidRequest
from ml_backend.logs import event as log_event
from ml_backend.ordering import active_manifest, predictions_of
from ml_backend.predictor import Frame, concatenate
from ml_backend.services import Services
from ml_backend.settings import load
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import Checker, Prediction, prediction_payload
from ml_backend.tsal.acquisition import score

logger = logging.getLogger(__name__)
UNTRAINED = "untrained"


def project_number(project_id: str | int | None) -> int:
    """Label Studio's project id from what it sends: ``7`` or ``7.1795374234``.

    Raises:
        InvalidRequest: where that is no number.
    """
    text = str(project_id or "").split(".")[0]
    if not text.isdigit():
        raise InvalidRequest(f"the project {project_id!r} is not the number of a Label Studio project")
    return int(text)


class LungUltrasoundModel(LabelStudioMLBase):  # type: ignore[misc]
    """Predicts symptoms with the project's active version and enqueues fine-tunes."""

    def __init__(
        self,
        project_id: str | None = None,
        label_config: str | None = None,
        services: Services | None = None,
        **kwargs: Any,
    ) -> None:
        accepted = inspect.signature(LabelStudioMLBase.__init__).parameters
        if "project_id" in accepted:
            super().__init__(project_id=project_id, label_config=label_config, **kwargs)
        else:
            super().__init__(label_config=label_config, **kwargs)
        self._services = services or Services(load())
        self._project_id = project_id
        self._xml = label_config

    @property
    def served_version(self) -> str:
        """The name predictions go out under: the order that Label Studio serves, ``untrained`` before the first."""
        return self._services.orders(project_number(self._project_id)).current_name() or UNTRAINED

    def predict(
        self, tasks: list[dict[str, Any]], context: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Return one prediction a task, in order, each valid for the project's configuration.

        The result is empty before the first fine-tune and for a frame that cannot be read.

        Raises:
            ConfigurationUnusable: where the labelling configuration cannot be worked with.
        """
        services = self._services
        project = project_number(self._project_id)
        configuration = Configuration.parse(self._xml or "")
        version = self.served_version
        empty = [
            Prediction(int(task.get("id") or -row), None, 1.0, version, {}) for row, task in enumerate(tasks, start=1)
        ]
        manifest = active_manifest(services, project, configuration)
        if manifest is None or not tasks:
            return [_result(prediction, configuration) for prediction in empty]
        frames = [
            Frame(prediction.task, str((task.get("data") or {}).get(configuration.image_key, "")))
            for prediction, task in zip(empty, tasks, strict=True)
        ]
        store = services.versions(project)
        scores = concatenate(list(services.predictor.scores(frames, manifest, store)), len(manifest.label_names))
        strategy = services.settings.strategy
        values = score(scores.probabilities, strategy, np.random.default_rng(services.settings.seed))
        order = services.orders(project).current()
        positions = np.array([order.place(value) if order else 1.0 for value in values])
        by_task = {
            prediction.task: prediction
            for prediction in predictions_of(scores, configuration, version, strategy, positions)
        }
        checker = Checker(configuration)
        results = []
        for nothing in empty:
            result = _result(by_task.get(nothing.task, nothing), configuration)
            problems = checker.errors(result)
            if problems:
                log_event(logger, "prediction refused", level=logging.ERROR, project=project, reason=problems[0])
                result = _result(nothing, configuration)
            results.append(result)
        return results

    def fit(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Record an event and enqueue a fine-tune if it completes a batch; answers at once.

        Takes ``fit(event, data, **kwargs)`` as 2.x calls it and ``fit(tasks, event=..., data=...)`` as 1.x does.
        """
        event, data = _event_and_data(args, kwargs)
        project = self._project_id or data.get("project", {}).get("id")
        job = jobs.record(self._services, project_number(project), event, data)
        return {"job": job} if job else {}


def _event_and_data(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    event = kwargs.get("event") if "event" in kwargs else (args[0] if args else None)
    data = kwargs.get("data") if "data" in kwargs else (args[1] if len(args) > 1 else {})
    if not isinstance(event, str) or not isinstance(data, dict):
        raise InvalidRequest("fit needs the name of an event and its data")
    return event, data


def _result(prediction: Prediction, configuration: Configuration) -> dict[str, Any]:
    payload = prediction_payload(prediction, configuration)
    payload.pop("task", None)
    return payload
