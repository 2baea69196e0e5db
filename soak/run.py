"""Let a team work on a whole installation while every known fault happens, and count what was lost."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tqdm import tqdm

from ml_backend.commands.command import run
from ml_backend.errors import BackendError
from ml_backend.setup.connect import connect
from ml_backend.setup.label_configuration import render
from ml_backend.store.files import write_aside
from soak import audit
from soak.faults import FAULTS, settle, suffer, train_the_rest, unseen
from soak.hostile import Credentials, assault
from soak.site import PROGRAMS, Site, SoakFailed, running_site
from soak.team import Ledger, Serving, Team

ANNOTATORS = 4
FRAMES_A_FAULT = 60  # enough for the batches that it takes, and for what it imports
ROUNDS_A_MINUTE = 4
RECOVERY_SECONDS = 120.0
"""What the README promises: the loop goes on by itself within this time."""
LATEST_KILL = 12.0  # seconds after the first annotation of a batch
EXAMPLES = 5
LARGE = 100_000_000  # bytes of a file that is not searched for secrets: the cache of activations


@dataclass
class Result:
    """What `runs/soak.json` holds: the figures, and in words the first cases of each problem."""

    requests_tried: int = 0
    server_errors: int = 0
    kill_rounds: int = 0
    annotations_lost: int = 0
    tasks_served: int = 0
    double_served: int = 0
    recovery_seconds: dict[str, float] = field(default_factory=dict)
    confirmed: int = 0
    out_of_order: int = 0
    out_of_order_otherwise: int = 0  # not while predictions were pushed
    versions: int = 0
    seed: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def recovered(self, fault: str, seconds: float) -> None:
        """Remember the worst recovery of a fault."""
        self.recovery_seconds[fault] = round(max(seconds, self.recovery_seconds.get(fault, 0.0)), 1)

    def late(self) -> list[tuple[str, float]]:
        """Faults from which the recovery took longer than promised."""
        return [(fault, seconds) for fault, seconds in self.recovery_seconds.items() if seconds > RECOVERY_SECONDS]


def main(arguments: list[str] | None = None) -> int:
    """Soak the whole installation: hostile requests, a team of four, every fault, rounds of kills; ends with 1 if
    anything was lost, served twice, or answered with a server error.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="rounds in which something is killed (20)")
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="repeat rounds until so many minutes have passed (0)"
    )
    parser.add_argument("--tasks", type=int, default=400, help="frames that the team confirms undisturbed (400)")
    parser.add_argument("--requests", type=int, default=5000, help="malformed requests (5000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (0)")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/soak.json"), help="where the figures go (runs/soak.json)"
    )
    options = parser.parse_args(arguments)
    result = Result(seed=options.seed)
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="tsal-soak-") as folder:
            _soak(Path(folder), options, result, started)
    except BackendError as error:
        result.problems.append(str(error))
    result.seconds = round(time.monotonic() - started, 1)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_aside(options.output, json.dumps(asdict(result), indent=1) + "\n")
    print(json.dumps(asdict(result), indent=1))
    return 1 if result.problems else 0


def _soak(folder: Path, options: argparse.Namespace, result: Result, started: float) -> None:
    rounds = max(options.rounds, int(ROUNDS_A_MINUTE * options.minutes))
    frames = options.tasks + FRAMES_A_FAULT * (len(FAULTS) + rounds)
    with running_site(folder, frames, seed=options.seed) as site:
        site.importer().run(site.next_clips(options.tasks + 10 * site.settings.k_max))
        connect(site.services, site.project, lambda line: site.log.add("connect", line))
        team = Team(site, ANNOTATORS, options.seed)
        try:
            hostile(site, options.requests, result, options.seed)
            _undisturbed(site, team, options.tasks)
            for fault in tqdm(FAULTS, unit="fault", desc="faults"):
                try:
                    result.recovered(fault.name, suffer(site, team, fault))
                except SoakFailed as error:  # the other results are still of interest
                    result.problems.append(f"{fault.name}: {error}")
            _kills(site, team, options, result, started)
            settle(site)
            train_the_rest(site)
        finally:
            judge(site, team, result)


def hostile(site: Site, requests: int, result: Result, seed: int) -> None:
    """Send malformed requests, and add to the result what came of them."""
    password, secret = site.settings.basic_auth_password, site.settings.webhook_secret
    assert password is not None
    assert secret is not None
    credentials = Credentials("label-studio", password.get_secret_value(), secret.get_secret_value())
    tally = assault(site.settings.backend_url, credentials, site.project, render(), count=requests, seed=seed)
    result.requests_tried += tally.tried
    result.server_errors += tally.server_errors
    result.problems += [f"{one.sent} was answered {one.answer}" for one in tally.offences]


def _undisturbed(site: Site, team: Team, tasks: int) -> None:
    """The team works while versions change under it, and nothing else happens."""
    settle(site)
    if tasks:
        with tqdm(total=tasks, unit="frame", desc="team") as bar:

            def show(done: int) -> None:
                bar.update(min(done, tasks) - bar.n)

            team.confirm(tasks, progress=show)


def _kills(site: Site, team: Team, options: argparse.Namespace, result: Result, started: float) -> None:
    """Kill something at any moment while the team works, again and again."""
    chance = random.Random(options.seed)
    with tqdm(total=options.rounds, unit="round", desc="kills") as bar:
        while result.kill_rounds < options.rounds or time.monotonic() - started < 60 * options.minutes:
            victim = chance.choice([*PROGRAMS, "label studio"])
            seconds = kill_and_recover(site, team, victim, chance)
            result.recovered(f"{victim} killed at any moment", seconds)
            result.kill_rounds += 1
            bar.update()


def kill_and_recover(site: Site, team: Team, victim: str, chance: random.Random) -> float:
    """Kill a part somewhere between the first annotation of a batch and its new order; returns the seconds from there
    to the order.
    """
    settle(site)
    before = len(site.versions())
    with team.at_work(site.settings.k_max - len(unseen(site))):
        time.sleep(chance.uniform(0, LATEST_KILL))
        struck = time.monotonic()
        if victim == "label studio":
            site.kill_studio()
            site.start_studio()
        else:
            site.kill(victim)
    site.wait_for("the version after a kill", lambda: len(site.versions()) > before)
    site.wait_for("its order after a kill", site.served)
    return time.monotonic() - struck


def judge(site: Site, team: Team, result: Result) -> None:
    """Add to the result what came of the annotations, servings and versions, by the laws of `audit`."""
    ledger, versions = team.ledger, site.versions()
    in_studio = {one.id for one in site.services.studio.confirmed_annotations(site.project)}
    kept = [deed.annotation for deed in ledger.deeds if deed.acknowledged and deed.deleted is None]
    lost = audit.lost(ledger, in_studio, versions[-1] if versions else None)
    twice, jumped = audit.double_served(ledger), audit.out_of_order(ledger)
    result.annotations_lost = len(lost)
    result.tasks_served = len({serving.task for serving in ledger.servings})
    result.double_served = len(twice)
    result.out_of_order = len(jumped)
    # Label Studio skips a row that another transaction has locked, and storing predictions locks their tasks' rows.
    pushes = site.log.pushes()

    def while_pushed(one: Serving) -> bool:
        return any(one.asked < end and begin < one.answered for begin, end in pushes)

    jumped = [(one, free) for one, free in jumped if not while_pushed(one)]
    result.out_of_order_otherwise = len(jumped)
    result.confirmed = ledger.confirmed()
    result.versions = len(versions)
    order = site.services.orders(site.project).current()
    result.problems += [
        *(f"annotation {one} was lost" for one in lost[:EXAMPLES]),
        *(
            f"task {one.task} was served to {one.annotator} while another held it: {_past(ledger, one.task)}"
            for one in twice[:EXAMPLES]
        ),
        *(f"task {one.task} was served before {free} in {one.order}: {one}" for one, free in jumped[:EXAMPLES]),
        *(f"annotation {one} left the training set" for one in audit.dropped(versions, filter(None, kept))[:EXAMPLES]),
        *audit.wrong_batches(versions, site.settings.k_max),
        *(f"{fault}: recovery took {seconds} s" for fault, seconds in result.late()),
        *(f"task {task} was given up: {why}" for task, why in (order.about.unreadable if order else {}).items()),
        *_leaks(site),
    ]


def _past(ledger: Ledger, task: int) -> str:
    """Everything that befell a frame, by the monotonic clock."""
    servings = [
        (one.asked, f"{one.annotator} served at {one.answered:.1f}") for one in ledger.servings if one.task == task
    ]
    deeds = [(one.sent, str(one)) for one in ledger.deeds if one.task == task]
    return "; ".join(f"{at:.1f} {what}" for at, what in sorted([*servings, *deeds]))


def _leaks(site: Site) -> list[str]:
    """Look for secrets in our log, and in the files that we and Redis keep."""
    names = ("label_studio_token", "webhook_secret", "basic_auth_password")
    secrets = {name: getattr(site.settings, name).get_secret_value().encode() for name in names}
    found = audit.leaks(secrets, {"the log": site.log.ours().encode()})
    for path in site.settings.data_dir.rglob("*"):
        with suppress(FileNotFoundError):  # the sidecar removes old orders
            if path.is_file() and path.stat().st_size < LARGE:
                found += audit.leaks(secrets, {str(path.relative_to(site.folder)): path.read_bytes()})
    return found


if __name__ == "__main__":
    run(main)
