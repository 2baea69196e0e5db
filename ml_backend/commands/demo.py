"""The whole loop on this machine: Label Studio, Redis, backend, worker, sidecar, a project with frames."""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from ml_backend.commands import serve
from ml_backend.commands.connect import connect
from ml_backend.commands.import_frames import EVERY, Importer, distinct, picture_name, seconds, write_picture
from ml_backend.commands.label_configuration import column, render
from ml_backend.commands.processes import ROOT, Child, Processes, free_port, require_free
from ml_backend.errors import BackendError, InvalidRequest
from ml_backend.frames.frame import Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.frames.scores import concatenate
from ml_backend.ingest.files import frames_of
from ml_backend.phantom.clips import generate
from ml_backend.services import Services
from ml_backend.settings import Settings, load
from ml_backend.store.features import FeatureStore
from ml_backend.store.orders import Order
from ml_backend.store.versions import Manifest
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import choices_result
from ml_backend.tsal import metrics
from ml_backend.tsal.split import held_out

EMAIL = "demo@example.com"
PASSWORD = "lung-ultrasound"  # noqa: S105  of a Label Studio that listens on this machine only and lives as long as the demo
STUDIO = ROOT / ".venv-label-studio" / "bin" / "label-studio"
STUDIO_SECONDS = 240.0
ROUND_SECONDS = 600.0
TEST_SHARE = 0.25


@dataclass(frozen=True)
class Clips:
    """Clips and what is known of them: ``labels`` maps a clip's name to its (l,) uint8 combination."""

    folder: Path
    symptoms: tuple[str, ...]
    patients: dict[str, str]
    labels: dict[str, NDArray[np.uint8]]


def main(arguments: list[str] | None = None) -> int:
    """Start everything, import frames and print where to go; stop everything with Ctrl-C."""
    options = _parser().parse_args(arguments)
    _check(options)
    folder = (options.folder or ROOT / "runs" / f"demo-{datetime.now():%Y%m%d-%H%M%S}").resolve()  # noqa: DTZ005
    if (folder / "data").exists():
        raise InvalidRequest(f"{folder} holds an earlier demo: choose another --folder")
    folder.mkdir(parents=True, exist_ok=True)
    settings = _settings(options, folder)
    clips = _clips(options, folder)
    tested = held_out_clips(clips, options.seed) if options.unattended else set()

    def on_line(name: str, line: str) -> None:
        log.write(f"{name:8} {line}\n")
        log.flush()
        if name != "studio":
            print(f"{name:8} {line}", flush=True)

    with (folder / "demo.log").open("a", encoding="utf-8") as log, Processes(on_line) as processes:
        start_studio(processes, settings, folder)
        serve.start(processes, settings)
        _wait(lambda: answers(f"{settings.backend_url}/health"), 60, "the backend does not answer", processes)
        services = Services(settings)
        project = services.studio.create_project("Lung ultrasound", render(symptoms=clips.symptoms))
        _import(services, project, clips, tested, options)
        connect(services, project, lambda line: print(f"connect  {line}", flush=True))
        orders = services.orders(project)
        _wait(lambda: orders.current_name() is not None, ROUND_SECONDS, "the first order is not there", processes)
        if options.unattended:
            _unattended(services, project, clips, tested, options, processes)
        else:
            _welcome(settings, project, len(clips.symptoms))
            serve.keep_running(processes)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--clips", type=Path, metavar="DIR", help="folder of clips (default: phantom frames are made)")
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="table with file, patient and a column a symptom (a_line, b_line, …)",
    )
    parser.add_argument("--unattended", action="store_true", help="a simulated annotator answers from --labels")
    parser.add_argument("--rounds", type=int, default=3, help="batches the simulated annotator confirms (3)")
    parser.add_argument("--batch", type=int, default=20, help="annotations that start a fine-tune (20)")
    parser.add_argument(
        "--report", type=Path, default=ROOT / "runs" / "demo-report.json", help="where the report of --unattended goes"
    )
    parser.add_argument("--every", type=seconds, default=EVERY, metavar="SECONDS", help="time between frames (0.5)")
    parser.add_argument("--port", type=int, help="port of Label Studio (default: a free one)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (0)")
    parser.add_argument("--folder", type=Path, help="where the demo keeps its files (default: a new one in runs)")
    return parser


def _check(options: argparse.Namespace) -> None:
    """Refuse what cannot work before anything is made or started."""
    if options.labels and not options.clips:
        raise InvalidRequest("LABELS=FILE belongs to clips of your own: add CLIPS=DIR")
    if options.unattended and options.clips and not options.labels:
        raise InvalidRequest("UNATTENDED=1 needs LABELS=FILE: the table that the simulated annotator answers from")
    if options.clips and not options.clips.is_dir():
        raise InvalidRequest(f"{options.clips} is no folder: CLIPS=DIR is the folder that the clips lie in")
    if min(options.rounds, options.batch) < 1:
        raise InvalidRequest("ROUNDS and BATCH must be 1 or more")
    if options.port:
        require_free("127.0.0.1", options.port, "PORT")
    if not STUDIO.exists():
        raise InvalidRequest(f"{STUDIO} is not there: run `make install`")


def _clips(options: argparse.Namespace, folder: Path) -> Clips:
    """The clips to show and what is known of them; without any, phantom frames are made."""
    clips, table = options.clips, options.labels
    if clips is None:
        print("making phantom frames", flush=True)
        clips, table = folder / "phantom" / "clips", folder / "phantom" / "clips.csv"
        progress = sys.stderr.isatty()
        generate(folder / "phantom", 16, clips_per_patient=3, frames_per_clip=30, seed=options.seed, progress=progress)
    if table is None:
        return Clips(clips, Configuration.parse(render()).label_names, {}, {})
    known = read_clips(clips, table)
    if options.unattended and not known.labels:
        raise InvalidRequest(f"no clip in {clips} is labelled in {table}: the column file holds the clips' names")
    return known


def read_clips(folder: Path, table: Path) -> Clips:
    """Read a table of clips: file, patient, a column of 0 and 1 for each symptom, and labelled (1 where it is missing).

    A symptom without a column is left out; so are the labels of clips that are not labelled or not there.

    Raises:
        InvalidRequest: naming what to change in the table.
    """
    symptoms = Configuration.parse(render()).label_names
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"{table} cannot be read: {error}") from None
    columns = {symptom: column(symptom) for symptom in symptoms}
    known = tuple(symptom for symptom in symptoms if rows and columns[symptom] in rows[0])
    if len(known) < 2 or "file" not in rows[0] or "patient" not in rows[0]:
        raise InvalidRequest(
            f"{table} needs rows, and the columns file, patient and two or more of {', '.join(columns.values())}"
        )
    labels = {
        row["file"]: np.array([_label(table, row, columns[symptom]) for symptom in known], np.uint8)
        for row in rows
        if row.get("labelled", "1") == "1" and (folder / row["file"]).is_file()
    }
    return Clips(folder, known, {row["file"]: row["patient"] for row in rows}, labels)


def _label(table: Path, row: dict[str, str], name: str) -> int:
    if row[name] not in ("0", "1"):
        raise InvalidRequest(f"{table}: {row['file']} has {row[name]!r} in the column {name}; write 0 or 1")
    return int(row[name])


def held_out_clips(clips: Clips, seed: int) -> set[str]:
    """Clips of the patients who never enter the project: each symptom with and without, on both sides, if it can be.

    Raises:
        InvalidRequest: where all clips are of one patient.
    """
    names = sorted(clips.labels)
    truth = np.array([clips.labels[name] for name in names])
    patients = [clips.patients[name] for name in names]
    if len(set(patients)) < 2:
        raise InvalidRequest("the simulated annotator needs clips of two patients or more: one is kept for the test")

    def missing(side: NDArray[np.bool_]) -> int:
        return sum(len(np.unique(values)) < 2 for values in truth[side].T)

    splits = [held_out(patients, TEST_SHARE, seed * 1000 + attempt) for attempt in range(200)]
    best = min(
        (split for split in splits if 0 < split.sum() < len(names)), key=lambda one: missing(one) + missing(~one)
    )
    return {name for name, held in zip(names, best, strict=True) if held}


def _settings(options: argparse.Namespace, folder: Path) -> Settings:
    studio_port, port = options.port or free_port(), free_port()
    return load(
        label_studio_url=f"http://127.0.0.1:{studio_port}",
        label_studio_token=secrets.token_hex(20),
        document_root=folder / "files",
        backend_url=f"http://127.0.0.1:{port}",
        host="127.0.0.1",
        port=port,
        webhook_secret=secrets.token_hex(20),
        basic_auth_user="label-studio",
        basic_auth_password=secrets.token_hex(20),
        data_dir=folder / "data",
        redis_url=None,
        backbone=os.environ.get("TSAL_BACKBONE", "efficientnet_lite0"),
        k_max=options.batch,
        seed=options.seed,
    )


def start_studio(
    processes: Processes, settings: Settings, folder: Path, environment: Mapping[str, str] | None = None
) -> Child:
    """Start the Label Studio that ``settings`` name, with its data in ``folder``, and wait until it answers.

    ``environment`` adds to its variables, as for another database than its own SQLite.
    """
    (folder / "files").mkdir(exist_ok=True)
    port = settings.label_studio_url.rsplit(":", 1)[1]
    print("starting Label Studio: its first start makes a database and takes about half a minute", flush=True)
    child = processes.start(
        "studio",
        [str(STUDIO), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", port],
        {
            "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "label-studio"),
            "LABEL_STUDIO_USERNAME": EMAIL,
            "LABEL_STUDIO_PASSWORD": PASSWORD,
            "LABEL_STUDIO_USER_TOKEN": settings.token(),
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
            "LATEST_VERSION_CHECK": "false",
            "COLLECT_ANALYTICS": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            # Label Studio refuses backends on private addresses unless it is told that this is meant.
            "USE_DEFAULT_BANNED_SUBNETS": "false",
            "SSRF_PROTECTION_ENABLED": "false",
            "ML_BLOCK_LOCAL_IP": "false",
            "LOCAL_FILES_SERVING_ENABLED": "true",
            "LOCAL_FILES_DOCUMENT_ROOT": str(folder / "files"),
            **(environment or {}),
        },
    )
    _wait(
        lambda: answers(f"{settings.label_studio_url}/health"),
        STUDIO_SECONDS,
        f"Label Studio does not answer on port {port}",
        processes,
    )
    return child


def _import(services: Services, project: int, clips: Clips, tested: set[str], options: argparse.Namespace) -> None:
    """Import the frames; the simulated annotator can answer for labelled clips only."""
    root = services.settings.document_root
    assert root is not None
    importer = Importer(
        services.studio,
        project,
        frames=root / "frames",
        document_root=root,
        data_dir=services.settings.data_dir,
        every=options.every,
        patients=clips.patients,
    )
    paths = [clips.folder / name for name in sorted(clips.labels.keys() - tested)]
    report = importer.run(paths if options.unattended else [clips.folder])
    print(f"import   {report.imported} frames of {report.files} clips", flush=True)
    if not report.imported:
        raise InvalidRequest(f"no frame of {clips.folder} could be read")


def _welcome(settings: Settings, project: int, symptoms: int) -> None:
    print(
        f"""
  Open      {settings.label_studio_url}/projects/{project}/data
  Log in    {EMAIL}   password {PASSWORD}
  Press     "Label All Tasks", then 1 to {symptoms} for the symptoms and Submit
            (not "Label Tasks As Displayed": that leaves the computed order)

  After {settings.k_max} annotations the model retrains in the background; from then on the symptoms are ticked already
  and the queue asks for other frames. Ctrl-C stops everything.
""",
        flush=True,
    )


def _unattended(
    services: Services,
    project: int,
    clips: Clips,
    tested: set[str],
    options: argparse.Namespace,
    processes: Processes,
) -> None:
    """Confirm batches like an annotator, wait for each version, and write the report."""
    store, orders = services.versions(project), services.orders(project)
    configuration = Configuration.parse(services.studio.project(project).label_config)
    rounds: list[tuple[Manifest, Order, float]] = []
    for number in range(1, options.rounds + 1):
        order = orders.current()
        assert order is not None
        in_order = _annotate(services, project, configuration, clips, order, options.batch)
        print(f"annotator confirmed {options.batch} frames of round {number}, {in_order:.0%} in order", flush=True)
        before = rounds[-1][0].version if rounds else None
        _wait(
            lambda before=before: _refreshed(services, project, before),  # type: ignore[misc]
            ROUND_SECONDS,
            f"round {number} brought no new version in force",
            processes,
        )
        manifest, after = store.newest(), orders.current()
        assert manifest is not None
        assert after is not None
        rounds.append((manifest, after, in_order))
    evaluated = _evaluate(services, project, clips, tested, [manifest for manifest, _, _ in rounds], options)
    report = {
        "rounds": [
            {
                "round": number,
                "model_version": manifest.version,
                "trained_by_job": manifest.job,
                "job_started_by": manifest.trigger,
                "labelled": len(manifest.seen),
                "manual_share_plain": manifest.batch["manual_share_plain"],
                "manual_share_validated": manifest.batch["manual_share_validated"],
                "served_in_order": in_order,
                "metrics": figures["symptoms"],
                "exact_match": figures["exact_match"],
                "seconds": {
                    "finetune": manifest.seconds["finetune"],
                    "scoring": order.about.seconds["scoring"],
                    "refresh": order.about.seconds["refresh"],
                },
            }
            for number, ((manifest, order, in_order), figures) in enumerate(zip(rounds, evaluated, strict=True), 1)
        ],
        "settings": {
            **services.settings.model_dump(
                mode="json", exclude={"label_studio_token", "webhook_secret", "basic_auth_password"}
            ),
            "held_out_clips": sorted(tested),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: installed(name) for name in ("torch", "torchvision", "rq", "redis", "label-studio-sdk")},
            "label-studio": services.studio.version(),
        },
    }
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(f"report   {options.report}", flush=True)


def _annotate(
    services: Services, project: int, configuration: Configuration, clips: Clips, order: Order, count: int
) -> float:
    """Answer what Label Studio serves; returns the share of frames that came in the computed order."""
    expected = order.tasks.tolist()
    in_order = 0
    for place in range(count):
        task = services.studio.next_task(project)
        if task is None:
            raise BackendError(f"Label Studio has no frame left after {place} of {count}: take fewer rounds or batches")
        in_order += place < len(expected) and task["id"] == expected[place]
        shown = [one["id"] for one in task.get("predictions", []) if one.get("model_version") == order.about.name]
        services.studio.submit(
            task["id"],
            [choices_result(clips.labels[task["data"]["clip"]], configuration)],
            parent_prediction=shown[0] if shown else None,
        )
    return in_order / count


def _refreshed(services: Services, project: int, before: str | None) -> bool:
    """Whether there is a version after ``before``, and Label Studio serves its order unless it was held back."""
    store = services.versions(project)
    newest, order = store.newest(), services.orders(project).current()
    if newest is None or newest.version == before or order is None:
        return False
    return bool(newest.held_back) or newest.version == store.active() == order.about.version


class _Files:
    """Frames of test clips, which are files and never come to Label Studio."""

    def fetch(self, url: str, task: int | None = None) -> bytes:
        return Path(url).read_bytes()


def _evaluate(
    services: Services,
    project: int,
    clips: Clips,
    tested: set[str],
    manifests: Sequence[Manifest],
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Figures of each version on the patients who never entered the project, by the 0.5 threshold."""
    folder = services.settings.data_dir.parent / "held-out"
    folder.mkdir(exist_ok=True)
    frames: list[Frame] = []
    truth: list[NDArray[np.uint8]] = []
    for name in sorted(tested):
        for frame in distinct(frames_of(clips.folder / name, options.every), 0):
            path = folder / picture_name(frame.picture)
            write_picture(frame.picture, path)
            frames.append(Frame(len(frames), str(path)))
            truth.append(clips.labels[name])
    features = FeatureStore(folder / "features", 1_000_000_000)
    predictor = Predictor(services.settings, _Files(), features)
    labels = np.array(truth, np.uint8)
    results = []
    for manifest in manifests:
        scores = concatenate(list(predictor.scores(frames, manifest, services.versions(project))), labels.shape[1])
        results.append(
            {
                "symptoms": metrics.per_label(labels[scores.tasks], scores.plain, manifest.label_names),
                "exact_match": metrics.exact_match(labels[scores.tasks], scores.plain),
            }
        )
    return results


def answers(url: str) -> bool:
    """Whether a server answers a request there with success."""
    try:
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _wait(done: Callable[[], bool], limit: float, otherwise: str, processes: Processes) -> None:
    deadline = time.monotonic() + limit
    while not done():
        ended = processes.ended()
        if ended:
            raise BackendError(f"{ended[0].name} ended with {ended[0].process.returncode}: see demo.log")
        if time.monotonic() > deadline:
            raise BackendError(f"{otherwise} within {limit:.0f} s: see demo.log")
        time.sleep(0.3)
