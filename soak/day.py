"""A long day: two projects with four annotators each, the lead's page open, imports, exports and faults throughout."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
from redis.exceptions import RedisError
from tqdm import tqdm

from ml_backend.commands.command import run
from ml_backend.errors import BackendError
from ml_backend.launch import serve
from ml_backend.launch.processes import tsal
from ml_backend.setup.connect import connect
from ml_backend.store.files import write_aside
from soak.faults import FAULTS, settle, suffer, train_the_rest
from soak.growth import Limits, Sample, broken, summary
from soak.lead import Lead
from soak.measure import sample
from soak.run import Result, hostile, judge
from soak.shift import Shift
from soak.site import Site, running_site
from soak.team import Habits
from soak.temporary import temporary_folder
from soak.waits import Waits

ANNOTATORS = 4  # of each project
CACHE_GIGABYTES = 1.0
# Faults that strike while a team works on: the others need a rare moment between two steps, or a batch of their own.
OF_THE_DAY = [
    fault
    for fault in FAULTS
    if not fault.name.startswith(("crash between", "webhooks doubled", "webhook of a project"))
]
# How often something is done, in hours.
IMPORT, EXPORT, BACKUP, ACTIVATE, FAULT, SAMPLE = 1 / 6, 1 / 4, 1 / 3, 1 / 3, 1 / 12, 1 / 60
FINISH_AFTER = 0.75  # of the day
RELOAD_SECONDS = 15.0
COMMAND_SECONDS = 1800.0
NOT_NOW = (BackendError, OSError, RedisError, httpx.HTTPError)
"""What is raised while a part is down."""


@dataclass
class Figures:
    """What `runs/day.json` holds; it is written as the day goes on."""

    minutes: float
    hour_seconds: float
    seed: int
    seconds: float = 0.0
    waits: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    growth: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)  # how often something failed because a part was down
    failures: dict[str, str] = field(default_factory=dict)  # the last error of each
    commands: dict[str, dict[str, int]] = field(default_factory=dict)
    lead_answers: dict[int, int] = field(default_factory=dict)
    activations: int = 0
    finish: str = ""
    faults: list[tuple[float, int, str, float]] = field(default_factory=list)  # when, project, name, seconds
    projects: dict[int, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass
class Day:
    """One day: the sites, who works there, what is measured."""

    sites: list[Site]
    shifts: list[Shift]
    lead: Lead
    waits: Waits
    figures: Figures
    output: Path
    temporary: Path
    frames_an_import: int
    limits: Limits
    began: float = field(default_factory=time.monotonic)
    over: threading.Event = field(default_factory=threading.Event)
    measured: list[Sample] = field(default_factory=list)
    finishing: Site | None = None

    def run(self) -> None:
        """Let everything go on until the day is over."""
        hour = self.figures.hour_seconds
        with ExitStack() as stack:
            for shift in self.shifts:
                stack.enter_context(shift.working())
            stack.enter_context(self._again(SAMPLE * hour, self.measure))
            stack.enter_context(self._again(IMPORT * hour, self._import))
            stack.enter_context(self._again(EXPORT * hour, self.export))
            stack.enter_context(self._again(BACKUP * hour, self.back_up))
            stack.enter_context(self._again(ACTIVATE * hour, self._activate))
            stack.enter_context(self._again(RELOAD_SECONDS, self._reload))
            stack.callback(self.over.set)
            self._faults(self.began + 60 * self.figures.minutes)

    def write(self) -> None:
        """Write the figures so far."""
        figures = self.figures
        figures.seconds = round(time.monotonic() - self.began, 1)
        spreads = self.waits.by_hour(self.began, figures.hour_seconds)
        figures.waits = {what: [asdict(one) for one in of_hours] for what, of_hours in spreads.items()}
        figures.growth = summary(self.measured, self.limits)
        figures.samples = [asdict(one) for one in self.measured]
        figures.lead_answers = dict(self.lead.answers)
        write_aside(self.output, json.dumps(asdict(figures), indent=1) + "\n")

    # What comes again and again

    @contextmanager
    def _again(self, seconds: float, do: Callable[[], None]) -> Iterator[None]:
        """Do something every ``seconds`` while the block runs; what fails because a part is down is only counted."""

        def repeat() -> None:
            while not self.over.wait(seconds):
                try:
                    do()
                except NOT_NOW as error:
                    name = do.__name__.strip("_")
                    self.figures.failed[name] = self.figures.failed.get(name, 0) + 1
                    self.figures.failures[name] = f"{type(error).__name__}: {error}"
                except Exception as error:  # the day goes on, but has failed
                    self.figures.problems.append(f"{do.__name__}: {error!r}")

        thread = threading.Thread(target=repeat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def measure(self) -> None:
        """Take a sample, and write the figures."""
        answers = [shift.ledger.confirmed() for shift in self.shifts]
        at = sample(self.sites, answers, self.began, self.figures.hour_seconds, self.temporary)
        self.measured.append(at)
        self.write()

    def _import(self) -> None:
        for site in self.sites:
            with site.importing:
                clips = site.next_clips(min(self.frames_an_import, site.frames_waiting()))
                if clips:
                    site.importer().run(clips)

    def export(self) -> None:
        """Export both projects, one after the other, with `tsal export`."""
        for site in self.sites:
            folder = site.folder / f"export-{site.project}"
            self.command("export", "--project", str(site.project), "--to", str(folder), "--frames", "refer")

    def back_up(self) -> None:
        """Back up the data folder with `tsal backup`."""
        self.command("backup", str(self.sites[0].folder / "backup.tar"))

    def command(self, name: str, *arguments: str) -> int:
        """Run a `tsal` command beside everything, and count how it ended."""
        site = self.sites[0]
        environment = {**serve.environment(site.settings), "TSAL_REDIS_URL": site.services.settings.redis_url or ""}
        child = site.processes.start(name, tsal(name, *arguments), environment)
        code = child.process.wait(COMMAND_SECONDS)
        site.processes.end(child)
        counts = self.figures.commands.setdefault(name, {})
        counts[str(code)] = counts.get(str(code), 0) + 1
        return code

    def _reload(self) -> None:
        for site in self.sites:
            self.lead.reload(site.project)
        if self.finishing is None and time.monotonic() > self.began + 60 * FINISH_AFTER * self.figures.minutes:
            self._begin_finish(self.sites[-1])

    def _begin_finish(self, site: Site) -> None:
        """Ask for a finish until there is one: a fault may lose the request."""
        if site.services.finishes(site.project).newest() is not None:
            self.finishing = site
        elif site.newest() is not None:
            self.lead.wish(site.project, "begin", error="20", confidence="90")

    def _activate(self) -> None:
        for site in self.sites:
            names = site.services.versions(site.project).names()
            if len(names) > 1 and site is not self.finishing:
                chance = random.Random(f"{self.figures.seed} {site.project} {names[-1]}")
                self.figures.activations += self.lead.activate(site.project, names[-5:], chance)

    # What befalls them

    def _faults(self, end: float) -> None:
        chance = random.Random(self.figures.seed)
        with tqdm(total=round(end - self.began), unit="s", desc="day") as bar:
            while True:
                wait = min(chance.uniform(0.5, 1.5) * FAULT * self.figures.hour_seconds, end - time.monotonic())
                self.over.wait(max(0.0, wait))
                bar.update(round(time.monotonic() - self.began) - bar.n)
                if time.monotonic() >= end:
                    return
                self._strike(chance)

    def _strike(self, chance: random.Random) -> None:
        fault = chance.choice(OF_THE_DAY)
        # Nothing is trained while a finish stands, so nothing could recover there.
        place = chance.choice([number for number, site in enumerate(self.sites) if not self._stands(site)])
        site, at = self.sites[place], round(time.monotonic() - self.began, 1)
        try:
            with site.importing:
                seconds = suffer(site, self.shifts[place], fault)
            self.figures.faults.append((at, site.project, fault.name, round(seconds, 1)))
        except NOT_NOW as error:
            self.figures.problems.append(f"{fault.name} in project {site.project} after {at} s: {error}")
        self.write()

    def _stands(self, site: Site) -> bool:
        late = time.monotonic() > self.began + 60 * FINISH_AFTER * self.figures.minutes
        return site is self.sites[-1] and late

    # The evening

    def close(self) -> None:
        """Give up the finish, train what is left, export and back up once more, and judge by the laws."""
        last = self.sites[-1]
        finishes = last.services.finishes(last.project)
        newest = finishes.newest()
        self.figures.finish = newest.state if newest else "none"
        if newest is None:
            self.figures.problems.append("no finish began")
        if finishes.standing() is not None:
            last.wait_for("the end of the finish", lambda: self._given_up(last), look=5)
        for site, shift in zip(self.sites, self.shifts, strict=True):
            result = Result(seed=self.figures.seed)
            try:
                settle(site)
                train_the_rest(site)
            finally:
                judge(site, shift, result)
                self.figures.projects[site.project] = asdict(result)
                self.figures.problems += [f"project {site.project}: {one}" for one in result.problems]
        self.measure()
        for name, do in (("export", self.export), ("backup", self.back_up)):
            before = Counter(self.figures.commands.get(name, {}))
            do()
            if set(Counter(self.figures.commands[name]) - before) != {"0"}:
                self.figures.problems.append(f"the last {name} failed: {self.figures.commands[name]}")

    def _given_up(self, site: Site) -> bool:
        if site.services.finishes(site.project).standing() is None:
            return True
        with suppress(*NOT_NOW):
            self.lead.wish(site.project, "give up")
        return False

    def judge_use(self) -> None:
        """Check that the samples and the answers to the lead are within their bounds."""
        failed = self.figures.failed.get("measure", 0)
        if failed > len(self.measured):
            self.figures.problems.append(f"no sample {failed} times, the last time: {self.figures.failures['measure']}")
        self.figures.problems += broken(self.measured, self.limits)
        errors = {code: count for code, count in self.lead.answers.items() if code >= 500 and code != 503}
        if errors:
            self.figures.problems.append(f"the lead's page had server errors: {errors}")


def main(arguments: list[str] | None = None) -> int:
    """Let two teams of four work through a long day while everything happens that can; ends with 1 if anything was
    lost, served twice, or grew beyond its bound.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=180.0, help="length of the day (180)")
    parser.add_argument("--since", type=float, help="when the minutes began, in seconds since 1970 (now)")
    parser.add_argument("--hour", type=float, default=3600.0, help="seconds that count as an hour, for a trial (3600)")
    parser.add_argument(
        "--pause", type=float, default=12.0, help="seconds that people look at a frame, on average (12)"
    )
    parser.add_argument("--batch", type=int, default=30, help="answers that start a fine-tune (30)")
    parser.add_argument("--requests", type=int, default=5000, help="malformed requests before it begins (5000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (0)")
    parser.add_argument("--output", type=Path, default=Path("runs/day.json"), help="the figures (runs/day.json)")
    options = parser.parse_args(arguments)
    gone = time.time() - options.since if options.since else 0.0
    # What came before may have taken long: the day keeps half of the time in any case.
    minutes = max(options.minutes - gone / 60, options.minutes / 2)
    figures = Figures(minutes, options.hour, options.seed)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tsal-day-") as folder:
        try:
            # The socket of the embedded Redis lies there too.
            with temporary_folder(Path(folder) / "tmp") as temporary:
                _spend(Path(folder), temporary, options, figures)
        except BackendError as error:
            figures.problems.append(str(error))
        finally:
            write_aside(options.output, json.dumps(asdict(figures), indent=1) + "\n")
    shown = {name: value for name, value in asdict(figures).items() if name != "samples"}
    print(json.dumps(shown, indent=1))
    return 1 if figures.problems else 0


def _spend(folder: Path, temporary: Path, options: argparse.Namespace, figures: Figures) -> None:
    # The most that people can confirm: a third is there at the beginning, the rest comes with the imports.
    frames = int(1.2 * ANNOTATORS * 60 * figures.minutes / options.pause) + 20 * options.batch
    imports = max(1, int(60 * figures.minutes / (IMPORT * figures.hour_seconds)))
    with running_site(
        folder,
        2 * frames,
        k_max=options.batch,
        seed=options.seed,
        cache_gigabytes=CACHE_GIGABYTES,
    ) as site:
        sites = [site, site.another("The other project")]
        for one in sites:
            one.importer().run(one.next_clips(frames // 3))
            connect(one.services, one.project, lambda line: site.log.add("connect", line))
        result = Result()
        hostile(site, options.requests, result, options.seed)
        figures.problems += result.problems
        waits = Waits()
        habits = Habits((0.5 * options.pause, 1.5 * options.pause), 0.04, 0.02, changes=0.03, accepts=0.02, looks=0.3)
        shifts = [
            Shift(one, ANNOTATORS, options.seed, name=f"annotator-{one.project}", habits=habits, waits=waits)
            for one in sites
        ]
        limits = Limits(site.settings.keep_pushed, int(1e9 * CACHE_GIGABYTES))
        lead = Lead(site.settings, waits)
        day = Day(
            sites, shifts, lead, waits, figures, options.output, temporary, -(-2 * frames // 3 // imports), limits
        )
        try:
            day.run()
            day.close()
        finally:
            day.judge_use()
            day.write()


if __name__ == "__main__":
    run(main)
