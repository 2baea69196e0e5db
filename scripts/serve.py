"""Run everything that stands beside your Label Studio: backend, worker and sidecar, and Redis where none is set."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ml_backend.errors import RedisUnavailable
from ml_backend.settings import Settings, load
from ml_backend.store.pending import connect
from scripts.command import run
from scripts.processes import Processes, embedded_redis, python

RESTART_SECONDS = 5.0
REDIS_SECONDS = 20.0


def main(arguments: list[str] | None = None) -> int:
    """Start backend, worker and sidecar with the settings of the environment (TSAL_*); stop all with Ctrl-C."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.parse_args(arguments)
    settings = load()
    settings.token()
    settings.require_authentication()
    with Processes(lambda name, line: print(f"{name:8} {line}", flush=True)) as processes:
        start(processes, settings, {})
        print(f"backend on http://{settings.host}:{settings.port}; Ctrl-C stops everything", flush=True)
        keep_running(processes, lambda: False)
    return 0


def start(processes: Processes, settings: Settings, environment: dict[str, str]) -> None:
    """Start the processes; ``environment`` goes to each of them.

    Raises:
        RedisUnavailable: where the embedded Redis does not come up.
    """
    if settings.redis_url is None:
        command, url = embedded_redis(settings.data_dir / "redis")
        processes.start("redis", command, {})
        environment = {**environment, "TSAL_REDIS_URL": url}
        _wait_for_redis(url)
    processes.start("backend", backend_command(settings), environment)
    processes.start("worker", python("worker.py"), environment)
    processes.start("sidecar", python("reorder_queue.py", "--watch"), environment)


def backend_command(settings: Settings) -> list[str]:
    """Gunicorn with one process: the network is loaded once, requests run in threads."""
    return [
        str(Path(sys.executable).with_name("gunicorn")),
        *("--bind", f"{settings.host}:{settings.port}", "--workers", "1", "--threads", str(settings.threads)),
        *("--timeout", "120", "--log-level", "warning", "--no-control-socket"),
        "ml_backend.server:create_app()",
    ]


def keep_running(processes: Processes, done: Callable[[], bool]) -> None:
    """Restart what ends by itself, until ``done`` or Ctrl-C."""
    stop = threading.Event()
    while not done() and not stop.wait(1.0):
        for child in processes.ended():
            print(f"{child.name} ended with {child.process.returncode}: starting it again", flush=True)
            # A child that cannot start would otherwise be restarted in a tight loop.
            stop.wait(max(0.0, RESTART_SECONDS - (time.monotonic() - child.started)))
            processes.restart(child)


def _wait_for_redis(url: str) -> None:
    deadline = time.monotonic() + REDIS_SECONDS
    while True:
        try:
            connect(url).close()
            return
        except RedisUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    run(main)
