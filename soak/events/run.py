"""Let everything happen to the loop in any order, on a stand-in or on a real Label Studio, and check the laws."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, reproduce_failure, seed, settings
from hypothesis import __version__ as hypothesis_version
from hypothesis.errors import DidNotReproduce
from hypothesis.stateful import run_state_machine_as_test
from tqdm import tqdm

from ml_backend.commands.command import run
from ml_backend.store.files import write_aside
from soak.events import clock
from soak.events.machine import Machine
from soak.events.scene import Stage
from soak.events.stages import on_label_studio, on_stand_in

MODULE = "soak.events.run"
STEPS_A_RUN, RUNS_A_PART = 40, 10
MOST_PROBLEMS = 10
PARTS = 10_000
"""The most parts that a run can have; each has a seed of its own."""


@dataclass
class Result:
    """What `runs/events.json` holds.

    ``events``: how often each happened; ``came``: what came of them; ``problems``: how a law was broken, by the seed
    of the part.
    """

    seed: int
    steps: int = 0
    events: dict[str, int] = field(default_factory=dict)
    came: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    problems: dict[int, str] = field(default_factory=dict)


def play(
    stage: Stage,
    steps: int,
    chance: int,
    shrink: bool = True,
    replay: str | None = None,
    note: Callable[[Result], None] = lambda result: None,
) -> Result:
    """Run at least ``steps`` steps, in parts with seeds of their own; ``note`` gets the result so far after each."""
    started, result = time.monotonic(), Result(seed=chance)
    stage.counted.clear()
    stage.came.clear()
    part = chance * PARTS
    # The events set the clock, so the bar counts steps instead of seconds.
    form = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}"
    with tqdm(total=steps, desc="events", bar_format=form, mininterval=0, miniters=25) as bar:
        stage.tick = bar.update
        while result.steps < steps:
            problem = play_part(stage, min(RUNS_A_PART * STEPS_A_RUN, steps - result.steps), part, shrink, replay)
            if problem:
                result.problems[part] = problem
                tqdm.write(f"part {part}: {problem}")
            result.events, result.came = dict(sorted(stage.counted.items())), dict(sorted(stage.came.items()))
            result.steps = stage.counted.total()
            result.seconds = round(time.monotonic() - started, 1)
            note(result)
            part += 1
            if replay or (problem and len(result.problems) >= MOST_PROBLEMS):
                break
    return result


def play_part(stage: Stage, steps: int, part: int, shrink: bool = True, replay: str | None = None) -> str:
    """Run about ``steps`` steps; returns the shortest way found to break a law, empty where none was broken."""
    machine: Any = type("Machine", (Machine,), {"stage": stage})
    chosen = settings(
        max_examples=1 + -(-steps // STEPS_A_RUN),
        stateful_step_count=STEPS_A_RUN,
        deadline=None,
        database=None,
        print_blob=True,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    with_events = reproduce_failure(hypothesis_version, replay.encode()) if replay else seed(part)
    try:
        run_state_machine_as_test(with_events(machine), settings=chosen)  # type: ignore[no-untyped-call]
    except DidNotReproduce:  # it no longer fails
        return ""
    except Exception as error:
        return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Put the loop through events in any order; ends with 1 if a law was broken."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--steps", type=int, default=5000, help="events (5000)")
    parser.add_argument("--real", action="store_true", help="on a real Label Studio instead of the stand-in")
    parser.add_argument("--seed", type=int, default=0, help="seed of the events (0)")
    parser.add_argument("--replay", help="repeat only the failure whose text a run has printed in @reproduce_failure")
    parser.add_argument("--no-shrink", action="store_true", help="do not search for fewer steps that also fail")
    parser.add_argument("--output", type=Path, default=Path("runs/events.json"), help="figures (runs/events.json)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tsal-events-") as place:
        folder = Path(place)
        if not clock.can_be_set():
            again = clock.restart_with_clock(folder, MODULE, arguments if arguments is not None else sys.argv[1:])
            if again is not None:
                return again
        torch.set_num_threads(1)
        (folder / "world").mkdir()
        with (on_label_studio if options.real else on_stand_in)(folder / "world") as stage:
            result = play(
                stage,
                options.steps,
                options.seed,
                not options.no_shrink,
                options.replay,
                lambda result: _write(options.output, result),
            )
    print(json.dumps(asdict(result), indent=1))
    return 1 if result.problems else 0


def _write(path: Path, result: Result) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_aside(path, json.dumps(asdict(result), indent=1) + "\n")


if __name__ == "__main__":
    run(main)
