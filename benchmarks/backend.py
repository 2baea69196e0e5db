"""Run the real backend for a benchmark, and time its answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from benchmarks import workload
from ml_backend.launch import serve
from ml_backend.launch.label_studio import answers, wait_until
from ml_backend.launch.processes import Processes, embedded_redis, free_port, tsal
from ml_backend.services import Services
from ml_backend.settings import load

PICTURES = 16
WAIT_SECONDS = 120.0
XML = (
    '<View><Image name="image" value="$image"/><Choices name="s" toName="image" choice="multiple">'
    + "".join(f'<Choice value="{name}"/>' for name in workload.NAMES)
    + "</Choices></View>"
)
Prepared = TypeVar("Prepared")


@contextmanager
def running_backend(
    folder: Path, prepare: Callable[[Services], Prepared], **more: Any
) -> Iterator[tuple[str, Prepared]]:
    """Run a backend with Redis below ``folder``, on `PICTURES` phantom frames and without a Label Studio.

    ``prepare`` fills its stores before it starts; ``more`` are settings besides the usual ones. Yields the backend's
    address and what ``prepare`` returned.
    """
    root = folder / "files"
    root.mkdir()
    for number, content in enumerate(workload.pictures(PICTURES, 2)):
        (root / f"{number}.jpg").write_bytes(content)
    port = free_port()
    command, redis = embedded_redis(folder / "redis")
    settings = load(
        label_studio_token="0" * 40,
        document_root=root,
        data_dir=folder / "data",
        redis_url=redis,
        port=port,
        backend_url=f"http://127.0.0.1:{port}",
        k_max=10_000_000,
        **more,
    )
    prepared = prepare(Services(settings))
    with Processes(lambda name, line: None) as processes:
        processes.start("redis", command, {})
        serve.wait_for_redis(redis)
        processes.start("backend", tsal("backend"), serve.environment(settings))
        health = f"{settings.backend_url}/health"
        wait_until(lambda: answers(health), WAIT_SECONDS, "the backend does not answer", processes)
        yield settings.backend_url, prepared


def timed(client: httpx.Client, method: str, path: str, body: dict[str, Any] | None = None) -> float:
    """Return the milliseconds of one request; raise httpx.HTTPStatusError where it fails."""
    started = time.perf_counter()
    client.request(method, path, json=body).raise_for_status()
    return 1000 * (time.perf_counter() - started)


def predict_body(number: int) -> dict[str, Any]:
    """What Label Studio sends to have one frame predicted."""
    task = {"id": number, "data": {"image": f"/data/local-files/?d={number % PICTURES}.jpg"}}
    return {"tasks": [task], "project": "1.0", "label_config": XML}


def webhook(client: httpx.Client, number: int) -> float:
    """Announce an annotation, as Label Studio does; return the milliseconds it took."""
    body = {"action": "ANNOTATION_CREATED", "annotation": {"id": number, "task": number}}
    return timed(client, "POST", "/webhook?project=1", body)
