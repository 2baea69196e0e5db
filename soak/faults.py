"""Faults of real installations, caused in a running one; each measures how long the recovery took.

A recovery is counted from the fault - or, where Label Studio was down, from when it answers again - until the version
that the fault delayed is trained and Label Studio serves its order.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ml_backend.errors import InvalidRequest
from ml_backend.launch import serve
from ml_backend.launch.processes import tsal
from ml_backend.setup.connect import connect
from ml_backend.setup.label_configuration import render
from ml_backend.web.access import secret_header
from soak.site import PATIENCE_SECONDS, Site, SoakFailed
from soak.team import Team

DOWN_SECONDS = 5.0
TRIES = 10
SMALLEST_FILE = 4096
PUSHED = r'"POST /api/projects/\d+/import/predictions'  # Label Studio has the predictions


@dataclass(frozen=True)
class Fault:
    """A fault.

    ``strike`` causes it while the team works and returns when recovery began, by the monotonic clock; ``told`` is the
    regular expression that one line of the log must match; ``mend`` puts the installation right again afterwards.
    """

    name: str
    strike: Callable[[Site, Team], float]
    told: str
    mend: Callable[[Site], None] = lambda site: None


def suffer(site: Site, team: Team, fault: Fault) -> float:
    """Let a fault strike and wait until the loop has recovered and said so; returns the seconds that it took."""
    settle(site)
    began = time.monotonic()
    before = len(site.versions())
    try:
        struck = fault.strike(site, team)
        site.wait_for(f"the version after {fault.name}", lambda: len(site.versions()) > before)
        site.wait_for(f"its order after {fault.name}", site.served)
        seconds = time.monotonic() - struck
    finally:
        fault.mend(site)
    if site.log.find(fault.told, since=began) is None:
        raise SoakFailed(f"no line of the log reports {fault.name} ({fault.told})\n{site.log.tail()}")
    return seconds


def settle(site: Site) -> None:
    """Wait until nothing is under way: no batch complete, the newest version served. Import frames if few are left."""
    k_max = site.settings.k_max
    if site.unlabelled() < 5 * k_max:
        site.importer().run(site.next_clips(10 * k_max))
    site.wait_for("a batch to be trained", lambda: len(unseen(site)) < k_max)
    site.wait_for("the newest version's order", lambda: site.newest() is None or site.served())
    site.wait_for("an order", site.services.orders(site.project).current_name)


def unseen(site: Site) -> set[int]:
    """Annotations by people in Label Studio that the newest version has not seen in their present form."""
    newest = site.newest()
    known = {(one.annotation, one.updated_at) for one in newest.seen} if newest else set()
    found = site.services.studio.confirmed_annotations(site.project)
    return {one.id for one in found if one.by_person and (one.id, one.updated_at) not in known}


def train_the_rest(site: Site) -> None:
    """Ask for a training with what no version has seen yet, so that every annotation must be in the newest one."""
    if unseen(site):
        webhook(site, "START_TRAINING")
    site.wait_for("the last version", lambda: not unseen(site))
    site.wait_for("its order", site.served)


def _batch(site: Site) -> int:
    """How many frames complete the batch that is being annotated."""
    return site.settings.k_max - len(unseen(site))


def _at_stage(site: Site, team: Team, stage: str, harm: Callable[[], float]) -> float:
    """Complete a batch and cause a fault as soon as the log reports a stage of work; returns what the fault returns."""
    began = time.monotonic()
    with team.at_work(_batch(site)):
        site.wait_for_line(rf"INFO {stage} project={site.project} ", since=began)
        return harm()


# The parts of `make serve`


def _worker_killed(site: Site, team: Team) -> float:
    return _at_stage(site, team, "training", lambda: site.kill("worker"))


def _redis_killed(site: Site, team: Team) -> float:
    return _at_stage(site, team, "training", lambda: site.kill("redis"))


def _redis_emptied(site: Site, team: Team) -> float:
    wanted = _batch(site)
    team.confirm(wanted // 2)
    with site.nobody_restarts():
        struck = site.kill("redis")
        shutil.rmtree(site.settings.data_dir / "redis")
        (site.settings.data_dir / "redis").mkdir()
    team.confirm(wanted - wanted // 2)
    return struck


def _two_workers(site: Site, team: Team) -> float:
    url = site.services.settings.redis_url
    assert url is not None
    environment = {**serve.environment(site.settings), "TSAL_REDIS_URL": url}
    second = site.processes.start("worker2", tsal("worker"), environment)
    site.kill("worker")  # so that both start at the same time
    struck = time.monotonic()
    before = len(site.versions())
    team.confirm(_batch(site))
    site.wait_for("a version of either worker", lambda: len(site.versions()) > before)
    second.process.terminate()
    second.process.wait()
    return struck


def _stored_but_not_active(site: Site, team: Team) -> float:
    store = site.services.versions(site.project)
    return _between(site, team, "worker", "training", lambda since: store.names()[-1:], store.active)


def _pushed_but_not_switched(site: Site, team: Team) -> float:
    current_name = site.services.orders(site.project).current_name
    return _between(site, team, "worker", "pushing", lambda since: site.log.find(PUSHED, since), current_name)


def _between(
    site: Site,
    team: Team,
    name: str,
    stage: str,
    written: Callable[[float], object],
    pointed: Callable[[], str | None],
) -> float:
    """Kill a program after a ``stage`` of its work, when it has ``written`` something and not yet ``pointed`` to it.

    ``written(since)`` returns something else as soon as the program has written after ``since``. The moment is short:
    hitting it may take a few batches.
    """
    for _ in range(TRIES):
        began = time.monotonic()
        before, pointer = written(began), pointed()
        with team.at_work(_batch(site)):
            site.wait_for_line(rf"{name} .*INFO {stage} project={site.project} ", since=began)
            family = site.family(name)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while written(began) == before:
                if time.monotonic() > deadline:
                    raise SoakFailed(f"the {name} wrote nothing\n{site.log.tail()}")
            struck = site.kill_all(family)
            in_between = pointed() == pointer
        if in_between:
            return struck
        settle(site)
    raise SoakFailed(f"the {name} was never killed between writing and switching, in {TRIES} tries")


# The disk and the clock


def _disk_full(site: Site, team: Team) -> float:
    """The kernel refuses what would make a file larger than a few kilobytes, as it refuses to write to a full disk."""

    def limit(size: int) -> None:
        for name in ("worker", "sidecar"):
            for one in site.family(name):
                resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    began = time.monotonic()
    limit(SMALLEST_FILE)
    before = len(site.versions())
    try:
        team.confirm(_batch(site))
        site.wait_for_line(r"fine-tune failed .*File too large", since=began)
        if len(site.versions()) > before:
            raise SoakFailed("a version was written to a full disk")
    finally:
        struck = time.monotonic()
        limit(resource.RLIM_INFINITY)
    return struck


def _clock_set_back(site: Site, team: Team) -> float:
    """Set the wall clock of all that `make serve` runs two hours back in the middle of a batch."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise InvalidRequest("there is no C compiler to set the clock back with: install the package gcc")
    library, offset = site.folder / "clock.so", site.folder / "clock"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(  # noqa: S603  the command is ours
        [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True
    )
    offset.write_text("0", encoding="utf-8")
    site.restart_serve(LD_PRELOAD=str(library), SOAK_CLOCK=str(offset))
    wanted = _batch(site)
    team.confirm(wanted // 2)
    struck = time.monotonic()
    offset.write_text("-7200", encoding="utf-8")
    team.confirm(wanted - wanted // 2)
    return struck


# Label Studio


def _studio_down(site: Site) -> float:
    """End it and start it again; returns when it answers."""
    site.kill_studio()
    time.sleep(DOWN_SECONDS)
    site.start_studio()
    return time.monotonic()


def _studio_down_at(stage: str) -> Callable[[Site, Team], float]:
    return lambda site, team: _at_stage(site, team, stage, lambda: _studio_down(site))


def _studio_down_while_frames_are_fetched(site: Site, team: Team) -> float:
    began = time.monotonic()
    site.importer().run(site.next_clips(4 * site.settings.k_max))
    site.wait_for_line(r"INFO scoring ", since=began)
    struck = _studio_down(site)
    team.confirm(_batch(site))
    return struck


def _studio_down_during_import(site: Site, team: Team) -> float:
    """The command fails, says why, and does the rest when it is run again."""
    before = site.services.studio.counts(site.project).tasks
    clips = site.next_clips(6 * site.settings.k_max)
    table = site.folder / "patients.csv"
    rows = [f"{clip.name},{site.clips.patients[clip.name]}\n" for clip in clips]
    table.write_text("file,patient\n" + "".join(rows), encoding="utf-8")
    root = site.folder / "files"
    command = tsal(
        "import",
        *("--project", str(site.project), "--patients", str(table), "--distance", "0"),
        *("--frames", str(root / "frames"), "--document-root", str(root)),
        *map(str, clips),
    )
    environment = serve.environment(site.settings)
    first = site.processes.start("import", command, environment)
    site.wait_for(
        "the first imported frames", lambda: site.services.studio.counts(site.project).tasks > before, look=0.001
    )
    site.kill_studio()
    first.process.wait()
    site.start_studio()
    struck = time.monotonic()
    second = site.processes.start("import", command, environment)
    if second.process.wait() != 0:
        raise SoakFailed(f"the import did not go on\n{site.log.tail()}")
    urls = [task.data[site.configuration.image_key] for task in site.services.studio.tasks(site.project)]
    if len(set(urls)) < len(urls):
        raise SoakFailed(f"{len(urls) - len(set(urls))} frames were imported twice")
    team.confirm(_batch(site))
    return struck


# Webhooks


def _webhooks_lost(site: Site, team: Team) -> float:
    wanted = _batch(site)
    with site.nobody_restarts():
        site.kill("backend")
        team.confirm(wanted)
        return time.monotonic()


def _webhooks_disordered(site: Site, team: Team) -> float:
    """Old ones come again, late; those of the current batch come twice and in the wrong order."""
    began = time.monotonic()
    newest = site.newest()
    trained = list(newest.seen)[: 2 * site.settings.k_max] if newest else []
    for one in trained:
        webhook(site, "ANNOTATION_CREATED", annotation={"id": one.annotation, "task": one.task})
    site.wait_for_line(r"INFO fine-tune not due", since=began)
    wanted = _batch(site)
    team.confirm(wanted - 1)
    struck = time.monotonic()
    in_hand = [deed for deed in team.ledger.deeds if deed.acknowledged][-(wanted - 1) :]
    for deed in reversed(in_hand):
        created = {"id": deed.annotation, "task": deed.task}
        webhook(site, "ANNOTATIONS_DELETED", annotations=[{"id": deed.annotation}])
        for _ in range(2):
            webhook(site, "ANNOTATION_UPDATED", annotation=created)
        webhook(site, "ANNOTATIONS_DELETED", annotations=[{"id": deed.annotation}])
    team.confirm(max(1, _batch(site)))
    return struck


def _webhook_of_a_gone_project(site: Site, team: Team) -> float:
    gone = site.services.studio.create_project("Gone", render())
    connect(site.services, gone, lambda line: site.log.add("connect", line))
    httpx.delete(
        f"{site.settings.label_studio_url}/api/projects/{gone}/",
        headers={"Authorization": site.services.studio.authorization()},
        timeout=60,
    ).raise_for_status()
    struck = time.monotonic()
    for number in range(site.settings.k_max):
        webhook(site, "ANNOTATION_CREATED", project=gone, annotation={"id": 10**6 + number, "task": 10**6 + number})
    team.confirm(_batch(site))
    site.wait_for_line(rf"project={gone} .*no such project", since=struck)
    return struck


def webhook(site: Site, action: str, project: int | None = None, **content: Any) -> None:
    """Send the backend a webhook as Label Studio would."""
    number = project or site.project
    httpx.post(
        f"{site.settings.backend_url}/webhook?project={number}",
        json={"action": action, "project": {"id": number}, **content},
        headers=secret_header(site.settings),
        timeout=10,
    ).raise_for_status()


FAULTS = [
    Fault("worker killed in a fine-tune", _worker_killed, r"worker +ended with -9: starting it again"),
    Fault("redis killed", _redis_killed, r"redis +ended with -9: starting it again"),
    Fault("redis restarted empty", _redis_emptied, r"redis +ended with -9: starting it again"),
    Fault("crash between storing a version and activating it", _stored_but_not_active, r"a crash had cut this off"),
    Fault("crash between pushing predictions and switching", _pushed_but_not_switched, r"worker +ended with -9"),
    Fault("disk full", _disk_full, r"fine-tune failed .*File too large"),
    Fault("clock set back", _clock_set_back, r"the clock jumped seconds=-7200", mend=lambda site: site.restart_serve()),
    Fault("two workers at once", _two_workers, r"version active"),
    Fault("label studio down during import", _studio_down_during_import, r"Label Studio .*does not answer"),
    Fault("label studio down while annotations are read", _studio_down_at("reading annotations"), r"does not answer"),
    Fault("label studio down while frames are fetched", _studio_down_while_frames_are_fetched, r"does not answer"),
    Fault("label studio down during scoring", _studio_down_at("scoring"), r"does not answer"),
    Fault("label studio down during push", _studio_down_at("pushing"), r"does not answer"),
    Fault("webhooks lost", _webhooks_lost, r"backend +ended with -9: starting it again"),
    Fault("webhooks doubled, late and out of order", _webhooks_disordered, r"fine-tune not due"),
    Fault("webhook of a project that is gone", _webhook_of_a_gone_project, r"project=\d+ .*no such project"),
]
