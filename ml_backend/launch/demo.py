"""The whole loop on this machine: Label Studio, Redis, backend, worker, sidecar, a project with frames."""

from __future__ import annotations

import os
import secrets
import sys
from datetime import datetime
from pathlib import Path

from ml_backend.errors import InvalidRequest
from ml_backend.ingest.importer import Importer
from ml_backend.launch import serve
from ml_backend.launch.annotator import ROUND_SECONDS, unattended
from ml_backend.launch.clips import Clips, held_out_clips, read_clips
from ml_backend.launch.label_studio import EMAIL, PASSWORD, answers, start_studio, wait_until
from ml_backend.launch.options import Options
from ml_backend.launch.processes import Processes, free_port, require_free
from ml_backend.phantom.clips import generate
from ml_backend.services import Services
from ml_backend.settings import Settings, load
from ml_backend.setup.connect import connect
from ml_backend.setup.label_configuration import render
from ml_backend.studio.configuration import Configuration

RUNS = Path("runs")
REPORT = RUNS / "demo-report.json"


def run(options: Options) -> None:
    """Start everything, import frames and print where to go; stop everything with Ctrl-C."""
    _check(options)
    folder = (options.folder or RUNS / f"demo-{datetime.now():%Y%m%d-%H%M%S}").resolve()  # noqa: DTZ005
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
        wait_until(lambda: answers(f"{settings.backend_url}/health"), 60, "the backend does not answer", processes)
        services = Services(settings)
        project = services.studio.create_project("Lung ultrasound", render(symptoms=clips.symptoms))
        _import(services, project, clips, tested, options)
        connect(services, project, lambda line: print(f"connect  {line}", flush=True))
        orders = services.orders(project)
        wait_until(lambda: orders.current_name() is not None, ROUND_SECONDS, "the first order is not there", processes)
        if options.unattended:
            unattended(services, project, clips, tested, options, processes)
        else:
            _welcome(settings, project, len(clips.symptoms))
            serve.keep_running(processes)


def _check(options: Options) -> None:
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


def _clips(options: Options, folder: Path) -> Clips:
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


def _settings(options: Options, folder: Path) -> Settings:
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


def _import(services: Services, project: int, clips: Clips, tested: set[str], options: Options) -> None:
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
        keys=services.data_keys,
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
