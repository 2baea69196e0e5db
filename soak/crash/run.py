"""Interrupt each operation at each of its effects, start everything again, and check the laws."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from ml_backend.commands.command import run
from ml_backend.loop.watch import sweep
from ml_backend.store.files import write_aside
from soak.crash.deeds import pass_time
from soak.crash.effects import END, Point
from soak.crash.label_studio import running_label_studio
from soak.crash.laws import AT_ONCE, IN_THE_END, age, broken, state_of
from soak.crash.operations import OPERATIONS, Operation
from soak.crash.processes import Blow
from soak.crash.worlds import Snapshot, World, running_world, world_beside

REAL_SAMPLE = 5
"""Points of each operation beside a real Label Studio, where nobody has said how many."""
SIGNS_OF_LIFE = ("redis HSET rq:worker:* in", "redis EXPIRE rq:worker:*")


@dataclass
class Broken:
    """A blow after which laws were broken."""

    blow: Blow
    what: list[str]


@dataclass
class Result:
    """What came of one operation: its effects, the blows that were tried, those that missed, and what broke."""

    operation: str
    effects: int = 0
    names: int = 0
    possible: int = 0
    tried: int = 0
    missed: list[Blow] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.operation:28} {self.effects:4} effects, {self.tried:4} of {self.possible:4} points tried, "
            f"{len(self.missed)} missed, {len(self.broken)} broke a law, {self.seconds:.0f} s"
        )


def blows(points: Iterable[Point]) -> Iterator[Blow]:
    """Everything that can happen at these effects, and a kill after the last one.

    Only the first of a worker's signs of life is tried: the others differ from it in nothing else.
    """
    for one in points:
        if not one.name.startswith(SIGNS_OF_LIFE) or one.nth == 1:
            for fate in one.fates:
                yield Blow(one.name, one.nth, fate)
    yield Blow(END, 1, "kill")


def sampled(found: Sequence[Blow], count: int | None, chance: random.Random) -> list[Blow]:
    """At most ``count`` of the blows, of as many kinds as possible; None: all."""
    if count is None or count >= len(found):
        return list(found)
    shuffled = chance.sample(list(found), len(found))
    first: dict[tuple[str, str], Blow] = {}
    for one in shuffled:
        first.setdefault((one.name.split()[0], one.fate), one)
    rest = [one for one in shuffled if one not in first.values()]
    return [*first.values(), *rest][:count]


class Trial:
    """One operation in one world, to be interrupted again and again."""

    def __init__(self, operation: Operation, world: World) -> None:
        self._operation, self._world = operation, world
        operation.stage.reach(world)
        self._before: Snapshot = world.take("before")
        whole = world.run(operation.deed)
        if whole.code != 0:
            raise RuntimeError(f"{operation.name} failed: {whole.error}")
        self.points = whole.points
        problems = self._recovered()
        if problems:
            raise RuntimeError(f"{operation.name}, uninterrupted: {problems}")
        self._wanted = state_of(world)

    def strike(self, blow: Blow) -> list[str] | None:
        """Interrupt the operation; returns what is broken afterwards, None where the blow missed."""
        world, operation = self._world, self._operation
        world.put(self._before)
        ran = world.run(operation.deed, blow)
        if not ran.killed and not any((one.name, one.nth) == (blow.name, blow.nth) for one in ran.points):
            return None
        problems = [f"the process broke: {ran.error}"] if ran.code == 2 else []
        problems += [f"at once, {one}" for one in broken(world, AT_ONCE)]
        problems += self._recovered()
        if not problems and state_of(world) != self._wanted:
            problems.append(f"it leads to {state_of(world)} and not to {self._wanted}")
        return problems

    def _recovered(self) -> list[str]:
        """Start everything again, as a supervisor and a person would, and check the laws."""
        world = self._world
        age(world)
        pass_time(world.redis)
        for deed in self._operation.after:
            ran = world.run(deed)
            if ran.code != 0:
                return [f"{deed.__name__} after the restart: {ran.error}"]
        age(world)  # what the restart itself left behind goes with the next one
        sweep(world.settings.data_dir)
        return broken(world, IN_THE_END)


def tried(operation: Operation, world: World, count: int | None, seed: int, only: str = "") -> Result:
    """Interrupt one operation at all its points, or at a sample of them."""
    started = time.monotonic()
    trial = Trial(operation, world)
    found = [one for one in blows(trial.points) if only in f"{one.fate} {one.name}"]
    result = Result(operation.name, len(trial.points), len({one.name for one in trial.points}), len(found))
    points = sampled(found, count, random.Random(seed))
    for blow in tqdm(points, desc=operation.name, unit="point", leave=False, mininterval=5):
        try:
            problems = trial.strike(blow)
        except RuntimeError as error:
            problems = [str(error)]
        if problems is None:
            result.missed.append(blow)
            continue
        result.tried += 1
        if problems:
            result.broken.append(Broken(blow, problems))
            tqdm.write(f"{operation.name}: {blow.fate} at {blow.name} ({blow.nth}): {problems[0][:600]}")
    result.seconds = round(time.monotonic() - started, 1)
    return result


def all_tried(options: argparse.Namespace, chosen: Sequence[str]) -> Iterator[Result]:
    """Interrupt operations beside the stand-in, each in its own world, ``options.jobs`` at a time."""
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        under_way = [pool.submit(tried_alone, name, options.sample, options.seed, options.only) for name in chosen]
        for one in as_completed(under_way):
            yield one.result()


def all_tried_beside_real(options: argparse.Namespace, chosen: Sequence[str]) -> Iterator[Result]:
    """Interrupt operations one after another in one world, beside a real Label Studio on PostgreSQL."""
    with (
        tempfile.TemporaryDirectory(prefix="tsal-crash-") as folder,
        running_label_studio(Path(folder)) as studio,
        world_beside(studio, Path(folder)) as world,
    ):
        for operation in OPERATIONS:
            if operation.name in chosen:
                yield tried(operation, world, options.sample, options.seed, options.only)


def tried_alone(name: str, count: int | None, seed: int, only: str) -> Result:
    """Interrupt one operation in a world of its own."""
    (operation,) = [one for one in OPERATIONS if one.name == name]
    with tempfile.TemporaryDirectory(prefix="tsal-crash-") as folder, running_world(Path(folder)) as world:
        return tried(operation, world, count, seed, only)


def main(arguments: list[str] | None = None) -> int:
    """Interrupt each operation at each of its effects and check the laws; ends with 1 if one is broken."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    names = [one.name for one in OPERATIONS]
    parser.add_argument("--operation", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--real", action="store_true", help="with a real Label Studio instead of the stand-in")
    parser.add_argument("--sample", type=int, help=f"points of each operation to try (all; {REAL_SAMPLE} with --real)")
    parser.add_argument("--only", default="", help="only points whose name contains this, like 'kill rename'")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample (0)")
    parser.add_argument("--jobs", type=int, default=1, help="operations at a time beside the stand-in (1)")
    parser.add_argument("--output", type=Path, help="the figures (runs/crash.json, with --real runs/crash-real.json)")
    options = parser.parse_args(arguments)
    chosen = options.operation or names
    if options.real and options.sample is None:
        options.sample = REAL_SAMPLE
    output: Path = options.output or Path("runs", "crash-real.json" if options.real else "crash.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    came = (all_tried_beside_real if options.real else all_tried)(options, chosen)
    for one in tqdm(came, total=len(chosen), unit="operation", desc="crash points"):
        results.append(one)
        write_aside(output, json.dumps([asdict(result) for result in results], indent=1) + "\n")
        tqdm.write(str(one))
    return 1 if any(one.broken for one in results) else 0


if __name__ == "__main__":
    run(main)
