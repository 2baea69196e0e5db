"""The interface of label-studio-ml 2.x, as far as its server uses a model, and one round of its server's calls.

2.x is not on the package index, so it is stood in for. Run as a program it answers with what the model did as JSON.
"""

from __future__ import annotations

import json
import sys
import types
from typing import Any

CACHE: dict[tuple[str, str], Any] = {}


class LabelStudioMLBase:
    """Constructed anew for each request, with these two arguments and no others."""

    INITIAL_MODEL_VERSION = "0.0.1"

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        if label_config is not None:
            self.use_label_config(label_config)
        if not self.model_version:
            self.set("model_version", self.INITIAL_MODEL_VERSION)
        self.setup()

    def setup(self) -> None:
        """For models to override."""

    def use_label_config(self, label_config: str) -> None:
        from label_studio_sdk.label_interface import LabelInterface

        self.label_interface = LabelInterface(config=label_config)
        self.set("label_config", label_config)

    def get(self, key: str) -> Any:
        return CACHE.get((self.project_id, key))

    def set(self, key: str, value: Any) -> None:
        CACHE[self.project_id, key] = value

    @property
    def label_config(self) -> Any:
        return self.get("label_config")

    @property
    def model_version(self) -> Any:
        return self.get("model_version")


def main() -> None:
    """Make the calls of 2.x's server for /setup, /predict and /webhook."""
    replaced = types.ModuleType("label_studio_ml.model")
    replaced.LabelStudioMLBase = LabelStudioMLBase  # type: ignore[attr-defined]
    sys.modules["label_studio_ml.model"] = replaced
    from ml_backend.errors import ConfigurationUnusable
    from ml_backend.model import LungUltrasoundModel

    project, xml, tasks, events = (json.loads(sys.argv[1])[name] for name in ("project", "xml", "tasks", "events"))
    version = LungUltrasoundModel(project_id=project, label_config=xml).get("model_version")
    model = LungUltrasoundModel(project_id=project, label_config=xml)
    results = model.predict(tasks, context={}, login=None, password=None)
    told = [LungUltrasoundModel(project, label_config=xml).fit(event, data) for event, data in events]
    told.append(LungUltrasoundModel(project).fit(event="START_TRAINING", data={}, job_id="1"))
    try:
        LungUltrasoundModel(project_id=project, label_config="<View/>")
        refused = ""
    except ConfigurationUnusable as error:
        refused = str(error)
    shared = model._services is LungUltrasoundModel(project, label_config=xml)._services
    print(json.dumps({"version": version, "results": results, "told": told, "refused": refused, "shared": shared}))


if __name__ == "__main__":
    main()
