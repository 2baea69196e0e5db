"""The hook class that Label Studio's ML framework knows: ``predict`` and ``fit``, both thin.

It runs under label-studio-ml 1.0.9, under the 2.x interface and without either; what differs is absorbed here.
"""

from __future__ import annotations

import inspect
import logging
import re
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from ml_backend.errors import BackendError, ConfigurationUnusable, InvalidRequest
from ml_backend.frames.frame import Frame
from ml_backend.frames.scores import concatenate
from ml_backend.logs import event as log_event
from ml_backend.loop import confirm, jobs
from ml_backend.loop.order import strategy_of
from ml_backend.loop.push import predictions_of
from ml_backend.services import Services
from ml_backend.settings import load
from ml_backend.store.orders import Order
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import Checker, Prediction
from ml_backend.tsal.acquisition import score
from ml_backend.tsal.round import COVER

# 1.x imports torch, where it is installed, for processes that we never start: seconds, and half a gigabyte of memory.
_HIDDEN = "torch" not in sys.modules
if _HIDDEN:
    sys.modules["torch"] = None  # type: ignore[assignment]
try:
    from label_studio_ml.model import LabelStudioMLBase
except ImportError:

    class LabelStudioMLBase:  # type: ignore[no-redef]
        """Stand in for the framework's base class if label-studio-ml is not installed."""

        def __init__(self, label_config: str | None = None, **_: object) -> None:
            self.label_config = label_config


finally:
    if _HIDDEN:
        del sys.modules["torch"]

logger = logging.getLogger(__name__)
UNTRAINED = "untrained"
PROJECT = re.compile(r"([0-9]{1,18})(\.[0-9]*)?")


def project_number(project_id: object) -> int:
    """Label Studio's project id from what it sends: ``7`` or ``7.1795374234``.

    Raises:
        InvalidRequest: where that is no number.
    """
    match = PROJECT.fullmatch(str(project_id))
    if match is None:
        raise InvalidRequest(f"the project {project_id!r} is not the number of a Label Studio project")
    return int(match[1])


@cache
def shared_services() -> Services:
    """What all models of a process share; label-studio-ml 2.x makes a model for each request."""
    return Services(load())


class LungUltrasoundModel(LabelStudioMLBase):  # type: ignore[misc]
    """Predicts symptoms with the version that Label Studio serves, and enqueues fine-tunes.

    Raises ConfigurationUnusable where the labelling configuration cannot be worked with.
    """

    TRAIN_EVENTS = confirm.ACTIONS  # what 1.x hands on to `fit`

    def __init__(
        self,
        project_id: str | None = None,
        label_config: str | None = None,
        services: Services | None = None,
        **kwargs: Any,
    ) -> None:
        # Before the base class, whose constructor calls `setup` in 2.x.
        self._services = services or shared_services()
        self._project_id = project_id
        self._configuration = self._services.configuration(label_config) if label_config else None
        if "project_id" in inspect.signature(LabelStudioMLBase.__init__).parameters:
            kwargs["project_id"] = project_id
        try:
            super().__init__(label_config=label_config, **kwargs)
        except BackendError:
            raise
        except Exception as error:  # it parses the configuration too, each release with other libraries
            raise ConfigurationUnusable(f"label-studio-ml cannot read the labelling configuration: {error}") from None

    def setup(self) -> None:
        """Tell the 2.x framework the version that it answers Label Studio's /setup with."""
        self.set("model_version", self.served_version)

    @property
    def served_version(self) -> str:
        """The name predictions go out under: of the order that Label Studio serves, ``untrained`` before the first."""
        return self._served(project_number(self._project_id))[0]

    def predict(
        self, tasks: list[dict[str, Any]], context: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Return one prediction a task, in order, each valid for the project's configuration.

        The result is empty before the first fine-tune and for a frame that cannot be read.

        Raises:
            InvalidRequest: where the labelling configuration or the project is not known.
        """
        configuration = self._configuration
        if configuration is None:
            raise InvalidRequest("label_config, the project's labelling configuration, is missing")
        if not tasks:
            return []
        # 1.x does not say which project it is about, but each task does.
        project = project_number(self._project_id or tasks[0].get("project"))
        frames = _frames(tasks, configuration.image_key, self._services.settings.clip_key)
        name, version, order = self._served(project)
        predicted = self._predicted(project, frames, configuration, name, version, order) if version else {}
        predicted |= _told(order, frames, configuration)
        checker = Checker(configuration)
        results = []
        for frame in frames:
            payload, problem = checker.payload(predicted.get(frame.task, Prediction(frame.task, None, 1.0, name)))
            if problem:
                log_event(logger, "prediction refused", level=logging.ERROR, project=project, reason=problem)
            del payload["task"]
            results.append(payload)
        return results

    def fit(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Record an event and enqueue a fine-tune if it completes a batch; answers at once.

        2.x calls ``fit(event, data, **kwargs)``, 1.x ``fit(tasks, event=..., data=..., **kwargs)``.
        """
        called = dict(zip(("event", "data"), args, strict=False)) | kwargs
        event, data = called.get("event"), called.get("data", {})
        if not isinstance(event, str) or not isinstance(data, dict):
            raise InvalidRequest("fit needs the name of an event and its data")
        sent = data.get("project")
        project = self._project_id or (sent.get("id") if isinstance(sent, dict) else None)
        job = jobs.record(self._services, project_number(project), event, data)
        return {"job": job} if job else {}

    def _served(self, project: int) -> tuple[str, str | None, Order | None]:
        """What Label Studio serves: name, model version behind it, order; without an order the active version."""
        order = self._services.orders(project).current()
        if order is not None:
            return order.about.name, order.about.version, order
        version = self._services.versions(project).active()
        return version or UNTRAINED, version, None

    def _predicted(
        self,
        project: int,
        frames: Sequence[Frame],
        configuration: Configuration,
        name: str,
        version: str,
        order: Order | None,
    ) -> dict[int, Prediction]:
        """Predictions by task, of the frames that can be read; none where the version shares no symptom."""
        services = self._services
        store = services.versions(project)
        manifest = store.get(version)
        names = manifest.label_names
        if set(names).isdisjoint(configuration.label_names):
            return {}
        followed = order.about.strategy if order else COVER
        strategy = strategy_of(services, manifest) if followed == COVER else followed
        # An annotator is waiting: predict the frames that are here, whether or not Label Studio delivers the rest.
        found = services.predictor.scores(frames, manifest, store, without_studio=True)
        scores = concatenate(list(found), len(names))
        rng = np.random.default_rng(services.settings.seed)
        values = score(scores.probabilities, strategy, rng, services.strategies)
        positions = np.array([order.place(value) if order else 1.0 for value in values])
        predictions = predictions_of(scores, names, configuration, name, strategy, positions)
        return {prediction.task: prediction for prediction in predictions}


def _told(order: Order | None, frames: Sequence[Frame], configuration: Configuration) -> dict[int, Prediction]:
    """What the order that is served tells of those of the frames that are in it, as it was pushed."""
    if order is None or order.told is None or order.about.symptoms != configuration.label_names:
        return {}
    wanted = np.flatnonzero(np.isin(order.tasks, [frame.task for frame in frames]))
    wanted = wanted[~np.isnan(order.told.confidence[wanted])]
    return {
        int(order.tasks[row]): Prediction(
            int(order.tasks[row]),
            order.told.labels[row],
            float(row / len(order.tasks)),
            order.about.name,
            {"confidence": round(float(order.told.confidence[row]), 4)},
        )
        for row in wanted.tolist()
    }


def _frames(tasks: Sequence[dict[str, Any]], image_key: str, clip_key: str) -> list[Frame]:
    """One frame a task; a task without a number of its own gets a negative one, which Label Studio has for none."""
    frames: dict[int, Frame] = {}
    for place, task in enumerate(tasks, start=1):
        number = task.get("id")
        if not isinstance(number, int) or not 0 < number < 2**63 or number in frames:
            number = -place
        frames[number] = Frame.of(number, task.get("data"), image_key, clip_key)
    return list(frames.values())
