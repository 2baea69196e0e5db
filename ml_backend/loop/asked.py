"""Requests that a lead makes on the page and a worker carries out, one at a time per project."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

from rq.exceptions import DuplicateJobError
from rq.job import JobStatus

from ml_backend.errors import BackendError, FinishStands
from ml_backend.logs import event
from ml_backend.loop import activate as activating
from ml_backend.loop import enqueued
from ml_backend.loop import finish as finishing
from ml_backend.services import Services
from ml_backend.settings import load

logger = logging.getLogger(__name__)
QUEUE = "tsal-lead"
SECONDS = 3600
What = Literal["activate", "rollback", "begin", "give up"]
SAID: dict[str, str] = {
    "activate": "make version {version} active",
    "rollback": "go back to version {version}",
    "begin": "begin a finish with an error of at most {epsilon:.3g}",
    "give up": "give up the finish",
}


@dataclass(frozen=True)
class Asked:
    """A lead's last request: ``said`` in words, its ``state``, and the ``reason`` if it was refused or failed."""

    said: str
    by: str
    state: Literal["waiting", "in progress", "done", "refused"]
    reason: str = ""


def ask(services: Services, project: int, what: What, by: str, **values: Any) -> None:
    """Hand a request to a worker.

    Raises:
        FinishStands: while an earlier request is in progress.
    """
    job_id = name_of(project)
    enqueued.clear_ended(services, job_id)
    try:
        services.queue(QUEUE).enqueue_call(
            do,
            args=(project, what, by, values),
            job_id=job_id,
            timeout=SECONDS,
            result_ttl=86_400,
            failure_ttl=86_400,
            unique=True,
            meta={"what": what, "by": by, "values": values},
            description=f"project {project}: {what}, for {by}",
        )
    except DuplicateJobError:
        raise FinishStands(
            f"project {project}: an earlier request is still in progress; wait until it is done"
        ) from None
    event(logger, "asked for", project=project, wish=what, by=by)


def do(project: int, what: What, by: str, values: dict[str, Any]) -> dict[str, str]:
    """The RQ job: carry out the request; a refusal is a result with a reason."""
    services = Services(load())
    try:
        _do(services, project, what, by, values)
    except BackendError as error:
        event(logger, "refused", level=logging.WARNING, project=project, wish=what, by=by, reason=error)
        return {"refused": str(error)}
    services.pending(project).announce()
    return {}


def _do(services: Services, project: int, what: What, by: str, values: dict[str, Any]) -> None:
    if what in ("activate", "rollback"):
        version = services.versions(project).get(values["version"])
        activating.activate(services, project, version, by, values["expected"], undo=what == "rollback")
    elif what == "give up":
        finishing.give_up(services, project)
    else:
        doing = services.doing(project)
        try:
            offered = finishing.offer(services, project, values["epsilon"], values["confidence"], None, doing.note)
            finishing.begin(services, project, offered)
        finally:
            doing.end()


def last(services: Services, project: int) -> Asked | None:
    """Return the last request, None if it is more than a day old."""
    job = enqueued.fetch(services, name_of(project))
    if job is None:
        return None
    said, by = SAID[job.meta["what"]].format(**job.meta["values"]), str(job.meta["by"])
    status = job.get_status(refresh=False)
    if status == JobStatus.STARTED:
        return Asked(said, by, "in progress")
    if status not in enqueued.ENDED:
        return Asked(said, by, "waiting")
    result = job.return_value() if status == JobStatus.FINISHED else {"refused": "it failed; see the worker's log"}
    reason = (result or {}).get("refused", "")
    return Asked(said, by, "refused" if reason else "done", reason)


def name_of(project: int) -> str:
    """The ID of the job that carries out a project's request."""
    return f"lead-{project}"
