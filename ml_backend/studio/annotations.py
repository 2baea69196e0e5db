"""Annotations, and the predictions that their annotators were shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml_backend.studio.payloads import Imported, is_accepted_unseen, is_confirmed, origin_of
from ml_backend.studio.projects import Projects

EXPORT_PIECE = 150  # task IDs that fit into an address


@dataclass(frozen=True)
class ConfirmedAnnotation:
    """A submitted annotation of ``task``; ``updated_at`` is Label Studio's ISO 8601 text.

    ``accepted_unseen``: the Data Manager made it from a prediction, and nobody has opened it since. ``by`` is the ID of
    the user who submitted it, None where Label Studio does not say. ``created_at`` has the format of
    ``updated_at``. ``seconds``: how long it took, None if it was not timed. ``imported``: where it comes from if
    `tsal import-labels` made it and nobody has updated it since.
    """

    id: int
    task: int
    updated_at: str
    data: Mapping[str, Any]
    result: Sequence[Mapping[str, Any]]
    accepted_unseen: bool = False
    by: int | None = None
    created_at: str = ""
    seconds: float | None = None
    imported: Imported | None = None

    @property
    def by_person(self) -> bool:
        """Whether somebody of the team looked at the frame and answered."""
        return not self.accepted_unseen and self.imported is None


class Annotations(Projects):
    """Reads and submits annotations."""

    def confirmed_annotations(self, project: int) -> list[ConfirmedAnnotation]:
        """Read every submitted annotation, several of one task too; skipped ones are left out."""
        # Count first, so that annotations submitted meanwhile make no difference.
        counted = self.counts(project).annotations
        found = self._confirmed_annotations(project, "greater")
        if len(found) < counted:
            # Label Studio on PostgreSQL can lose count of a task's annotations: storing predictions counts them anew,
            # and overwrites what was submitted in between.
            known = {annotation.id for annotation in found}
            rest = self._confirmed_annotations(project, "equal")
            found += [annotation for annotation in rest if annotation.id not in known]
        return found

    def _confirmed_annotations(self, project: int, operator: str) -> list[ConfirmedAnnotation]:
        """The annotations of tasks whose number of annotations, as Label Studio counts, is ``greater`` or ``equal``."""
        fields = (
            "id,data,annotations,result,was_cancelled,updated_at,lead_time,parent_prediction,updated_by,completed_by,"
            "created_at"
        )
        what = f"reading the annotations of project {project}"
        return [
            ConfirmedAnnotation(
                id=annotation["id"],
                task=row["id"],
                updated_at=annotation["updated_at"],
                data=row["data"],
                result=annotation["result"] or [],
                accepted_unseen=is_accepted_unseen(annotation),
                by=_user(annotation.get("completed_by")),
                created_at=annotation.get("created_at") or "",
                seconds=annotation.get("lead_time"),
                imported=origin_of(annotation["result"]),
            )
            for row in self._rows(what, project, [("total_annotations", operator, 0)], "all", fields)
            for annotation in row["annotations"]
            if is_confirmed(annotation)
        ]

    def shown_predictions(
        self, project: int, annotations: Sequence[ConfirmedAnnotation]
    ) -> dict[int, Mapping[str, Any]]:
        """Find what the annotators were shown: {annotation ID: prediction}, without annotations made from scratch.

        Label Studio writes a copy of its answer to this on its own disk, so ask for the new annotations only.
        """
        what = f"reading what the annotators of project {project} were shown"
        wanted = {annotation.id for annotation in annotations}
        tasks = sorted({annotation.task for annotation in annotations})
        shown = {}
        for start in range(0, len(tasks), EXPORT_PIECE):
            ids = tasks[start : start + EXPORT_PIECE]
            exported = self._get(what, f"api/projects/{project}/export", slow=True, exportType="JSON", **{"ids[]": ids})
            for annotation in (one for task in exported for one in task["annotations"] if one["id"] in wanted):
                prediction = self._shown(what, annotation)
                if prediction:
                    shown[annotation["id"]] = prediction
        return shown

    def is_annotated(self, task: int) -> bool:
        """Say whether somebody has answered a task by now; a skipped one is not answered."""
        found = self._get(f"reading the annotations of task {task}", f"api/tasks/{task}/annotations/")
        return any(not one["was_cancelled"] for one in found)

    def submit(
        self,
        task: int,
        result: Sequence[Mapping[str, Any]],
        lead_time: float | None = None,
        parent_prediction: int | None = None,
    ) -> int:
        """Submit an annotation and return its ID; ``parent_prediction`` is the prediction that was shown."""
        return self._annotate(task, result=list(result), lead_time=lead_time, parent_prediction=parent_prediction)

    def skip(self, task: int) -> int:
        """Skip a task, and return the ID of the cancelled annotation that records it."""
        return self._annotate(task, result=[], was_cancelled=True)

    def delete_annotation(self, annotation: int) -> None:
        """Delete an annotation."""
        self._calls.write(f"deleting annotation {annotation}", lambda: self._sdk.annotations.delete(annotation))

    def _shown(self, what: str, annotation: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The prediction behind an exported annotation.

        ``prediction`` is the one of the version that was active at submission, ``parent_prediction`` the one that the
        browser showed: another one where the version changed in between, and None also where it was deleted since.
        """
        snapshot: Mapping[str, Any] = annotation.get("prediction") or {}
        parent = annotation.get("parent_prediction")
        if parent is not None:
            return snapshot if snapshot.get("id") == parent else self._prediction(what, parent)
        return snapshot if snapshot and self._prediction(what, snapshot["id"]) is None else None

    def _prediction(self, what: str, prediction: int) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._calls.read(
            what, lambda: self._calls.request("GET", f"api/predictions/{prediction}/", absent="No Prediction matches")
        )
        return found

    def _annotate(self, task: int, **fields: Any) -> int:
        sent = {name: value for name, value in fields.items() if value is not None}
        return self._make(f"annotating task {task}", lambda: self._sdk.annotations.create(task, **sent))


def _user(value: Any) -> int | None:
    """Return a user's ID. Some releases of Label Studio send the whole user instead."""
    found = value.get("id") if isinstance(value, Mapping) else value
    return found if isinstance(found, int) else None
