"""Run everything that stands beside your Label Studio: backend, worker and sidecar, and Redis if none is set."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from ml_backend.errors import InvalidRequest, RedisUnavailable, WeightsUnavailable
from ml_backend.frames.networks import Networks
from ml_backend.launch.processes import Child, Processes, embedded_redis, require_free, tsal
from ml_backend.settings import PREFIX, Settings, load
from ml_backend.store.format import require_readable
from ml_backend.store.pending import connect

RESTART_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 60.0
STABLE_SECONDS = 60.0
"""A process that ran this long did not fail at its start."""
REDIS_SECONDS = 20.0
BACKEND_SECONDS = 15.0
LOOK_SECONDS = 0.1


def run() -> None:
    """Start backend, worker and sidecar with the settings of the environment, and keep them running until Ctrl-C.

    Nothing is started if the network cannot be built, or a newer release wrote the data folder.
    """
    settings = load()
    require_readable(settings.data_dir)
    settings.token()
    settings.require_authentication()
    if not Networks(settings).were_built:
        _require_model(settings)
    with Processes(lambda name, line: print(f"{name:8} {line}", flush=True)) as processes:
        start(processes, settings, wait_for_backend=BACKEND_SECONDS)
        print(f"backend on http://{settings.host}:{settings.port}; Ctrl-C stops everything", flush=True)
        keep_running(processes)


def _require_model(settings: Settings) -> None:
    # This imports nearly all our modules, which a restart need not wait for.
    from ml_backend.setup.machine import model_problem

    problem = model_problem(settings, serves=True)
    if problem:
        raise WeightsUnavailable(problem)


def start(processes: Processes, settings: Settings, wait_for_backend: float = 0.0) -> dict[str, Child]:
    """Start the processes with these settings; returns them by name.

    People wait for the backend, and starting a process keeps a core busy for seconds. The others therefore start once
    the backend answers, or after ``wait_for_backend`` seconds.

    Raises InvalidRequest if the port is in use, or the embedded Redis of the data folder is already running.
    """
    require_free(settings.host, settings.port, "TSAL_PORT")
    variables = environment(settings)
    children: dict[str, Child] = {}
    if settings.redis_url is None:
        command, url = embedded_redis(settings.data_dir / "redis")
        _require_first(url, settings.data_dir)
        children["redis"] = processes.start("redis", command, {})
        variables["TSAL_REDIS_URL"] = url
        wait_for_redis(url)
    else:
        connect(settings.redis_url).close()
    children["backend"] = processes.start("backend", tsal("backend"), variables)
    if wait_for_backend:
        _wait_for_backend(children["backend"], settings, wait_for_backend)
    commands = {"worker": tsal("worker")}
    for number in range(2, settings.scoring_workers + 1):
        commands[f"worker{number}"] = tsal("worker", "--scoring-only")
    commands["sidecar"] = tsal("sidecar")
    return children | {name: processes.start(name, command, variables) for name, command in commands.items()}


def keep_running(processes: Processes) -> None:
    """Restart what ends by itself, until Ctrl-C.

    A process that ends again and again is restarted after a growing wait, from ``RESTART_SECONDS`` to
    ``LONGEST_WAIT_SECONDS``; the others go on meanwhile.
    """
    waits: dict[str, Wait] = {}
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(min(1.0, RESTART_SECONDS or 0.05))
            for child in processes.ended():
                wait = waits.setdefault(child.name, Wait())
                if wait.due is None:
                    wait.due = wait.begin(child)
                    ended = f"{child.name:8} ended with {child.process.returncode}"
                    print(f"{ended}: starting it again in {wait.seconds:.0f} s", flush=True)
                if time.monotonic() >= wait.due:
                    wait.due = None
                    processes.restart(child)
    print("stopping", flush=True)


@dataclass
class Wait:
    """How long a process that ended waits to be started again."""

    seconds: float = 0.0
    due: float | None = None

    def begin(self, child: Child) -> float:
        """Begin to wait, longer each time unless the process ran well in between; returns when the wait ends."""
        now = time.monotonic()
        short = now - child.started < STABLE_SECONDS
        self.seconds = min(max(RESTART_SECONDS, 2 * self.seconds), LONGEST_WAIT_SECONDS) if short else RESTART_SECONDS
        return now + self.seconds


def environment(settings: Settings) -> dict[str, str]:
    """The settings as the processes read them."""
    variables = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if value is not None:
            variables[f"{PREFIX}{name.upper()}"] = ",".join(value) if isinstance(value, tuple) else str(value)
    return variables


def _wait_for_backend(backend: Child, settings: Settings, seconds: float) -> None:
    # Import it only now: the backend is already starting on another core.
    from ml_backend.launch.label_studio import answers

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  an address to ask
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/health"
    deadline = time.monotonic() + seconds
    while backend.process.poll() is None and time.monotonic() < deadline and not answers(address):
        time.sleep(LOOK_SECONDS)


def _require_first(url: str, data_dir: Path) -> None:
    # Two servers that write the same file would damage it.
    try:
        redis = connect(url)
    except RedisUnavailable:
        return
    with redis:
        process = redis.info("server")["process_id"]
    raise InvalidRequest(
        f"the embedded Redis of {data_dir} is already running (process {process}): end the `tsal serve` that it "
        "belongs to, or choose another TSAL_DATA_DIR"
    )


def wait_for_redis(url: str) -> None:
    deadline = time.monotonic() + REDIS_SECONDS
    while True:
        try:
            connect(url).close()
            return
        except RedisUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
