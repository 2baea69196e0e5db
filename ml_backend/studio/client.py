"""Label Studio as this backend uses it: bulk reads and writes, every failure a StudioUnavailable or a StudioRefused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ml_backend.errors import StudioRefused
from ml_backend.studio.calls import Calls
from ml_backend.studio.payloads import is_accepted_unseen, is_confirmed

PAGE = 1000  # tasks a request, when reading
PIECE = 5000  # tasks or predictions a request, when writing: Label Studio recounts the whole project after each
_EXPORT_PIECE = 150  # task IDs that fit into an address


@dataclass(frozen=True)
class ProjectInfo:
    """A project's settings; ``model_version`` names the predictions that annotators are shown, None for none."""

    id: int
    title: str
    label_config: str
    model_version: str | None
    sampling: str
    maximum_annotations: int
    show_collab_predictions: bool
    skip_queue: str
    tasks: int
    annotations: int


@dataclass(frozen=True)
class Counts:
    """A project's totals: ``annotations`` without the ``skipped`` ones; ``annotated`` tasks have one at least.

    ``unlabelled`` tasks wait for an annotation, as `Studio.tasks` lists them; those that were skipped for good or whose
    annotation has a star may be counted in while others wait too, so that 0 means that nobody is needed any more.
    """

    tasks: int
    annotated: int
    unlabelled: int
    annotations: int
    skipped: int
    predictions: int


@dataclass(frozen=True)
class Task:
    """A frame's task; ``annotations`` counts the confirmed ones, ``skipped`` the others."""

    id: int
    data: Mapping[str, Any]
    annotations: int
    skipped: int


@dataclass(frozen=True)
class ConfirmedAnnotation:
    """A submitted annotation of ``task``; ``updated_at`` is Label Studio's ISO 8601 text, ``lead_time`` in seconds.

    ``accepted_unseen``: the Data Manager made it from a prediction, and nobody has opened it since.
    """

    id: int
    task: int
    updated_at: str
    data: Mapping[str, Any]
    result: Sequence[Mapping[str, Any]]
    completed_by: int | None
    lead_time: float | None
    parent_prediction: int | None
    accepted_unseen: bool = False


@dataclass(frozen=True)
class Webhook:
    """A project's webhook; its headers hold our secret and stay out of its repr."""

    id: int
    url: str
    actions: tuple[str, ...]
    send_for_all_actions: bool
    send_payload: bool
    is_active: bool
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Backend:
    """An ML backend that is registered in a project; ``state`` is Label Studio's code: CO connected, ER error, …

    ``basic_auth_user`` is None where Label Studio sends no password.
    """

    id: int
    url: str
    title: str
    state: str
    error: str | None
    basic_auth_user: str | None


@dataclass(frozen=True)
class LocalStorage:
    """A folder that Label Studio serves as local files."""

    id: int
    path: str
    title: str


@dataclass(frozen=True)
class User:
    """Who a token belongs to."""

    id: int
    email: str


class Studio:
    """One Label Studio, as the user of an access token (legacy or personal).

    ``timeout`` in seconds holds for an ordinary call, ``slow`` for a bulk one. Safe to use from several threads.
    Every method raises StudioUnavailable where Label Studio does not answer and StudioRefused where it refuses; the
    message says which call, why, and what to change, and never contains a token.
    """

    def __init__(self, url: str, token: str, timeout: float = 30.0, slow: float = 600.0) -> None:
        self._calls = Calls(url, token, timeout, slow)
        self._sdk = self._calls.sdk

    def __repr__(self) -> str:
        return f"Studio({self._calls.url!r}, {self._calls.credentials!r})"

    def authorization(self) -> str:
        """Value of the Authorization header, for fetching files; valid for a minute at least."""
        return self._calls.credentials.header()

    def version(self) -> str:
        """Label Studio's release, such as ``1.23.2``."""
        return str(self._calls.read("asking for the version", self._sdk.versions.get).release)

    def me(self) -> User:
        """The user of the token."""
        user = self._calls.read("asking who the token belongs to", self._sdk.users.whoami)
        return User(user.id, user.email)

    # Projects

    def project(self, project: int) -> ProjectInfo:
        """Read a project's settings."""
        found = self._calls.read(f"reading project {project}", lambda: self._sdk.projects.get(project))
        return ProjectInfo(
            id=found.id,
            title=found.title,
            label_config=found.label_config or "",
            model_version=found.model_version or None,
            sampling=str(found.sampling),
            maximum_annotations=found.maximum_annotations,
            show_collab_predictions=bool(found.show_collab_predictions),
            skip_queue=str(found.skip_queue),
            tasks=found.task_number or 0,
            annotations=found.total_annotations_number or 0,
        )

    def create_project(self, title: str, label_config: str, **fields: Any) -> int:
        """Make a project and return its ID; ``fields`` are those of Label Studio's project."""
        return int(
            self._calls.write(
                f"making the project {title!r}",
                lambda: self._sdk.projects.create(title=title, label_config=label_config, **fields),
            ).id
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
            "ground_truth_number,total_predictions_number"
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
            skipped=one.skipped_annotations_number,
            predictions=one.total_predictions_number,
        )

    # Tasks and annotations

    def tasks(self, project: int, only_unlabelled: bool = False) -> Iterator[Task]:
        """Read the tasks in the order of their IDs, a page at a time.

        ``only_unlabelled`` leaves out those with a confirmed annotation, and those that were skipped where the project
        counts a skip as done; a frame that was skipped and waits for others stays in.
        """
        filters = [("total_annotations", "equal", 0)] if only_unlabelled else []
        fields = "id,data,total_annotations,cancelled_annotations,is_labeled"
        for row in self._rows(f"reading the tasks of project {project}", project, filters, "task_only", fields):
            # One that is labelled without any annotation is one that Label Studio lost count of: among the unlabelled
            # it gets predictions, which makes Label Studio count again, and nobody is served it.
            counted = row["total_annotations"] or row["cancelled_annotations"]
            if not (only_unlabelled and row["is_labeled"] and counted):
                yield Task(row["id"], row["data"], row["total_annotations"], row["cancelled_annotations"])

    def confirmed_annotations(self, project: int) -> list[ConfirmedAnnotation]:
        """Read every submitted annotation, several of one task too; skipped ones are left out."""
        # Counted first, so that what is submitted meanwhile makes no difference.
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
        """Those of tasks whose noted number of annotations is ``greater`` than 0, or ``equal``."""
        fields = (
            "id,data,annotations,result,was_cancelled,updated_at,completed_by,lead_time,parent_prediction,updated_by"
        )
        what = f"reading the annotations of project {project}"
        return [
            ConfirmedAnnotation(
                id=annotation["id"],
                task=row["id"],
                updated_at=annotation["updated_at"],
                data=row["data"],
                result=annotation["result"] or [],
                completed_by=annotation["completed_by"],
                lead_time=annotation["lead_time"],
                parent_prediction=annotation["parent_prediction"],
                accepted_unseen=is_accepted_unseen(annotation),
            )
            for row in self._rows(what, project, [("total_annotations", operator, 0)], "all", fields)
            for annotation in row["annotations"]
            if is_confirmed(annotation)
        ]

    def shown_predictions(
        self, project: int, annotations: Sequence[ConfirmedAnnotation]
    ) -> dict[int, Mapping[str, Any]]:
        """Find what the annotators were shown: {annotation ID: prediction}, without those who were shown nothing.

        Label Studio writes a copy of its answer to this on its own disk, so ask for the new annotations only.
        """
        what = f"reading what the annotators of project {project} were shown"
        wanted = {annotation.id for annotation in annotations}
        tasks = sorted({annotation.task for annotation in annotations})
        shown = {}
        for start in range(0, len(tasks), _EXPORT_PIECE):
            ids = tasks[start : start + _EXPORT_PIECE]
            exported = self._get(what, f"api/projects/{project}/export", slow=True, exportType="JSON", **{"ids[]": ids})
            for annotation in (one for task in exported for one in task["annotations"] if one["id"] in wanted):
                prediction = self._shown(what, annotation)
                if prediction:
                    shown[annotation["id"]] = prediction
        return shown

    def import_tasks(self, project: int, data: Sequence[Mapping[str, Any]]) -> list[int]:
        """Make a task of each row and return their IDs in the same order."""
        what = f"importing tasks into project {project}"
        made: list[int] = []
        for start in range(0, len(data), PIECE):
            piece = [{"data": row} for row in data[start : start + PIECE]]
            ids = self._calls.write(
                what,
                lambda piece=piece: self._sdk.projects.import_tasks(  # type: ignore[misc]
                    project, request=piece, return_task_ids=True, request_options=self._calls.slow
                ).task_ids,
            )
            if len(ids or []) != len(piece):
                raise StudioRefused(f"{what}: {len(piece)} tasks were sent and {len(ids or [])} made")
            made.extend(ids)
        return made

    def next_task(self, project: int) -> dict[str, Any] | None:
        """Take and lock the task that the button Label All Tasks gives this user next; None at the end."""
        found: dict[str, Any] | None = self._calls.write(
            f"asking for the next task of project {project}",
            lambda: self._calls.request(
                "POST",
                "api/dm/actions/",
                params={"id": "next_task", "project": project},
                json={},
                absent="There are no tasks",
            ),
        )
        return found

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

    # Predictions

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

    def switch_version(self, project: int, model_version: str) -> None:
        """Make the predictions of a version the ones that annotators are shown and that order the queue."""
        self.update_project(project, model_version=model_version, show_collab_predictions=True)

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

    # What a project is connected to

    def webhooks(self, project: int) -> list[Webhook]:
        """List a project's webhooks."""
        found = self._calls.read(
            f"listing the webhooks of project {project}", lambda: self._sdk.webhooks.list(project=str(project))
        )
        return [
            Webhook(
                id=one.id,
                url=one.url,
                actions=tuple(sorted(one.actions or ())),
                send_for_all_actions=bool(one.send_for_all_actions),
                send_payload=bool(one.send_payload),
                is_active=bool(one.is_active),
                headers=one.headers or {},
            )
            for one in found
        ]

    def create_webhook(
        self, project: int, url: str, actions: Sequence[str], headers: Mapping[str, str], send_payload: bool = True
    ) -> int:
        """Make a webhook for some actions and return its ID."""
        return int(
            self._calls.write(
                f"making a webhook in project {project}",
                lambda: self._sdk.webhooks.create(
                    project=project,
                    url=url,
                    actions=list(actions),
                    headers=dict(headers),
                    send_for_all_actions=False,
                    send_payload=send_payload,
                ),
            ).id
        )

    def update_webhook(self, webhook: int, **fields: Any) -> None:
        """Change a webhook; ``fields`` are those of Label Studio's webhook."""
        self._calls.write(
            f"changing webhook {webhook}",
            lambda: self._calls.request("PATCH", f"api/webhooks/{webhook}/", json=fields),
        )

    def delete_webhook(self, webhook: int) -> None:
        """Delete a webhook."""
        self._calls.write(f"deleting webhook {webhook}", lambda: self._sdk.webhooks.delete(webhook))

    def backends(self, project: int) -> list[Backend]:
        """List a project's ML backends; Label Studio calls each of them for it."""
        found = self._calls.read(
            f"listing the ML backends of project {project}", lambda: self._sdk.ml.list(project=project)
        )
        return [
            Backend(
                id=one.id,
                url=one.url,
                title=one.title or "",
                state=str(one.state),
                error=one.error_message,
                basic_auth_user=one.basic_auth_user or None,
            )
            for one in found
        ]

    def create_backend(
        self, project: int, url: str, title: str, user: str | None = None, password: str | None = None
    ) -> int:
        """Register an ML backend, which must answer at once, and return its ID."""
        fields = _backend_fields(url=url, title=title, user=user, password=password)
        return int(
            self._calls.write(
                f"registering the ML backend {url} in project {project}",
                lambda: self._sdk.ml.create(project=project, **fields),
            ).id
        )

    def update_backend(
        self, project: int, backend: int, url: str, title: str, user: str | None = None, password: str | None = None
    ) -> None:
        """Change an ML backend, which must answer at once."""
        fields = _backend_fields(url=url, title=title, user=user, password=password)
        self._calls.write(
            f"changing the ML backend {url} of project {project}",
            lambda: self._sdk.ml.update(backend, project=project, **fields),
        )

    def delete_backend(self, backend: int) -> None:
        """Remove an ML backend; the webhook that Label Studio made with it stays."""
        self._calls.write(f"removing ML backend {backend}", lambda: self._sdk.ml.delete(backend))

    def local_storages(self, project: int) -> list[LocalStorage]:
        """List the folders that a project serves as local files."""
        found = self._calls.read(
            f"listing the local files of project {project}",
            lambda: self._sdk.import_storage.local.list(project=project),
        )
        return [LocalStorage(one.id, one.path or "", one.title or "") for one in found]

    def create_local_storage(self, project: int, path: str, title: str) -> int:
        """Let a project serve a folder below Label Studio's document root; no task is made of what lies in it."""
        return int(
            self._calls.write(
                f"serving the folder {path} in project {project}",
                lambda: self._sdk.import_storage.local.create(
                    project=project, path=path, title=title, use_blob_urls=True, regex_filter=".*"
                ),
            ).id
        )

    def _rows(
        self, what: str, project: int, filters: Sequence[tuple[str, str, int]], fields: str, include: str
    ) -> Iterator[dict[str, Any]]:
        # By ID and not by page number, because annotators empty the pages while we turn them; and not through the SDK,
        # whose models treble the time.
        last = 0
        while True:
            query = {
                "filters": {
                    "conjunction": "and",
                    "items": [
                        {"filter": f"filter:tasks:{name}", "operator": operator, "type": "Number", "value": value}
                        for name, operator, value in [*filters, ("id", "greater", last)]
                    ],
                },
                "ordering": ["tasks:id"],
            }
            answer = self._get(
                what,
                "api/tasks",
                slow=True,
                project=project,
                page=1,
                page_size=PAGE,
                fields=fields,
                include=include,
                query=json.dumps(query),
            )
            page = answer["tasks"]
            yield from page
            # A page can be empty while the total is not: what it held was annotated or deleted in between.
            if not page or answer["total"] <= len(page):
                return
            last = page[-1]["id"]

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
        return int(self._calls.write(f"annotating task {task}", lambda: self._sdk.annotations.create(task, **sent)).id)

    def _get(self, what: str, path: str, slow: bool = False, **params: Any) -> Any:
        return self._calls.read(what, lambda: self._calls.request("GET", path, params=params, slow=slow))


def _backend_fields(*, url: str, title: str, user: str | None, password: str | None) -> dict[str, Any]:
    if user is None:
        # Label Studio signs with whatever name it has, whatever the method says.
        return {"url": url, "title": title, "auth_method": "NONE", "basic_auth_user": ""}
    return {
        "url": url,
        "title": title,
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": user,
        "basic_auth_pass": password,
    }
