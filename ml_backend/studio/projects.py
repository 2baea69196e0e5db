"""Label Studio projects: their settings and totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ml_backend.errors import StudioRefused
from ml_backend.studio.tasks import Tasks


@dataclass(frozen=True)
class ProjectInfo:
    """A project's settings; ``model_version`` names the predictions that annotators are shown, None for none."""

    title: str
    label_config: str
    model_version: str | None
    sampling: str
    maximum_annotations: int
    show_collab_predictions: bool


@dataclass(frozen=True)
class Counts:
    """A project's totals: ``annotations`` without skipped ones; ``annotated`` tasks have one at least.

    ``unlabelled`` tasks wait for an annotation, as `Studio.tasks` lists them; those that were skipped for good or whose
    annotation has a star may be counted in while others wait too, so that 0 means that no work is left.
    """

    tasks: int
    annotated: int
    unlabelled: int
    annotations: int


class Projects(Tasks):
    """Reads, makes and changes projects."""

    def project(self, project: int) -> ProjectInfo:
        """Read a project's settings."""
        found = self._calls.read(f"reading project {project}", lambda: self._sdk.projects.get(project))
        return ProjectInfo(
            title=found.title,
            label_config=found.label_config or "",
            model_version=found.model_version or None,
            sampling=str(found.sampling),
            maximum_annotations=found.maximum_annotations,
            show_collab_predictions=bool(found.show_collab_predictions),
        )

    def create_project(self, title: str, label_config: str, **fields: Any) -> int:
        """Make a project and return its ID; ``fields`` are those of Label Studio's project."""
        return self._make(
            f"making the project {title!r}",
            lambda: self._sdk.projects.create(title=title, label_config=label_config, **fields),
        )

    def update_project(self, project: int, **fields: Any) -> None:
        """Change settings of a project; a ``model_version`` must be one of its predictions or a backend's title."""
        self._calls.write(
            f"changing {', '.join(fields)} of project {project}", lambda: self._sdk.projects.update(project, **fields)
        )

    def counts(self, project: int) -> Counts:
        """Read a project's totals; cheap enough to ask often."""
        names = (
            "id,task_number,num_tasks_with_annotations,total_annotations_number,skipped_annotations_number,"
            "ground_truth_number"
        )
        what = f"counting project {project}"
        found = self._calls.read(what, lambda: self._sdk.projects.list_counts(ids=str(project), include=names).results)
        if not found:
            raise StudioRefused(f"{what}: Label Studio has no such project, or the user of the token cannot see it")
        one = found[0]
        unlabelled = one.task_number - one.num_tasks_with_annotations
        if 0 < unlabelled <= one.skipped_annotations_number + one.ground_truth_number:
            # Frames that were skipped for good, or whose annotation has a star, are not among those with annotations:
            # the last batch would wait for them for ever.
            unlabelled = sum(1 for _ in self.tasks(project, only_unlabelled=True))
        return Counts(
            tasks=one.task_number,
            annotated=one.num_tasks_with_annotations,
            unlabelled=unlabelled,
            annotations=one.total_annotations_number,
        )
