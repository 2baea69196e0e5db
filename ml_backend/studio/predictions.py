"""Predictions in Label Studio: sending them, and the versions they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from ml_backend.errors import StudioRefused
from ml_backend.studio.projects import Projects

# Predictions per request, about 5 MB. Label Studio recounts the whole project after each request. For 6,836 tasks on
# SQLite that takes 5 seconds, as long as storing 20,000 predictions.
PIECE = 10_000


class Predictions(Projects):
    """Sends and deletes predictions."""

    def import_predictions(self, project: int, payloads: Iterable[Mapping[str, Any]]) -> None:
        """Store predictions, all of them or StudioRefused: Label Studio drops what it finds invalid without a word.

        ``payloads`` may be a generator; no more than a request's piece of it is held at a time.
        """
        what = f"sending predictions to project {project}"
        sent = created = 0
        rest = iter(payloads)
        while piece := list(islice(rest, PIECE)):
            sent += len(piece)
            created += self._calls.write(
                what,
                lambda piece=piece: self._sdk.projects.import_predictions(  # type: ignore[misc]
                    project, request=piece, request_options=self._calls.slow
                ).created,
            )
        if created != sent:
            raise StudioRefused(
                f"{what}: {sent} were sent and {created} stored; the others do not fit the project's "
                "labelling configuration"
            )

    def try_predictions(self, project: int) -> None:
        """Send an empty list of predictions, which changes nothing, to learn whether the user may create them."""
        what = f"trying to send predictions to project {project}"
        self._calls.write(what, lambda: self._sdk.projects.import_predictions(project, request=[]))

    def model_versions(self, project: int) -> list[str]:
        """List the versions that have predictions in a project."""
        return list(self._get(f"listing the versions of project {project}", f"api/projects/{project}/model-versions/"))

    def delete_model_version(self, project: int, model_version: str) -> None:
        """Delete the predictions of a version that is not shown any more; slow."""
        what = f"deleting the predictions {model_version!r} of project {project}"
        shown = self.project(project).model_version
        if shown == model_version or (shown is not None and shown not in self.model_versions(project)):
            # Label Studio would forget which version it shows, and serve the queue at random.
            raise StudioRefused(f"{what}: the project shows {shown!r}; switch it to another pushed version first")
        self._calls.write(
            what,
            lambda: self._calls.request(
                "DELETE",
                f"api/projects/{project}/model-versions/",
                json={"model_version": model_version},
                slow=True,
            ),
        )
