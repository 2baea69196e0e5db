"""Let a worker compute what the next fine-tune needs while people still answer."""

from __future__ import annotations

from contextlib import suppress

from redis.exceptions import RedisError
from rq.exceptions import DuplicateJobError

from ml_backend.errors import BackendError
from ml_backend.loop import score as scoring
from ml_backend.loop.queue import Queue, Refresh

UNCLAIMED_SECONDS = 3600
"""A job that no worker takes is forgotten after this time; the fine-tune then computes the views itself."""


def compute_ahead(refresh: Refresh, queue: Queue) -> None:
    """Enqueue a job that computes augmented views of frames that the next fine-tune will learn.

    These are the frames confirmed since the newest version, and those that are asked for until the next refresh. A
    project has at most one such job at a time. The job only saves time, so without Redis none is enqueued.
    """
    services = refresh.services
    frames = [*refresh.answered, *refresh.first(queue, services.settings.refresh)]
    if not frames or services.settings.views == 1:
        return
    with suppress(DuplicateJobError, BackendError, RedisError):
        services.queue(scoring.QUEUE).enqueue_call(
            scoring.fill_cache,
            args=(
                refresh.project,
                [(frame.task, frame.url) for frame in frames],
                len(refresh.configuration.label_names),
                services.settings.views,
            ),
            job_id=name_of(refresh.project),
            unique=True,
            timeout=services.settings.job_timeout,
            ttl=UNCLAIMED_SECONDS,
            result_ttl=0,
            failure_ttl=60,
            description=f"views of {len(frames)} frames of project {refresh.project} for its next fine-tune",
        )


def name_of(project: int) -> str:
    """The ID of the job that computes a project's views."""
    return f"views-{project}"
