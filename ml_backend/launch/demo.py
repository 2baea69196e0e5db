"""The whole loop on this machine: Label Studio, Redis, backend, worker, sidecar, a project with frames."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path

from ml_backend.errors import InvalidRequest
from ml_backend.frames.networks import Networks
from ml_backend.ingest.apart import Limits, start_early
from ml_backend.ingest.importer import Importer
from ml_backend.ingest.origins import Rule
from ml_backend.ingest.served import Folder
from ml_backend.launch import serve
from ml_backend.launch.annotator import ROUND_SECONDS, Annotator
from ml_backend.launch.clips import Clips, held_out_clips, read_clips
from ml_backend.launch.demo_state import DemoState, Options, alone_in, earlier, first
from ml_backend.launch.label_studio import EMAIL, PASSWORD, answers, begin_studio, wait_for_studio, wait_until
from ml_backend.launch.processes import Processes, require_free
from ml_backend.phantom.clips import generate
from ml_backend.services import Services
from ml_backend.settings import Settings, load
from ml_backend.setup.connect import connect
from ml_backend.setup.evidence import with_panel
from ml_backend.setup.label_configuration import render
from ml_backend.setup.machine import model_problem
from ml_backend.studio.configuration import Configuration

RUNS = Path("runs")


def run(options: Options) -> None:
    """Start everything, import frames and print where to go; stop everything with Ctrl-C.

    An earlier demo in the folder is opened again with its answers and versions; nothing is imported twice.
    """
    _check(options)
    folder = (options.folder or RUNS / f"demo-{datetime.now():%Y%m%d-%H%M%S}").resolve()  # noqa: DTZ005
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # it holds the clips and the token of its Label Studio
    with alone_in(folder):
        there = earlier(options, folder)
        state = there or first(options, folder)
        clips = None
        # A user's clips may be refused, so they are read first; phantom frames can be made while Label Studio starts.
        if options.unattended or (state.clips and not state.imported):
            clips = _clips(state, folder, options.unattended or state.held_out is not None)
        if clips and there is None and options.unattended:
            state = replace(state, held_out=sorted(held_out_clips(clips, state.seed)))
        state.write()
        _run(options, state, clips)
    print(f"open it again with: tsal demo --folder {folder}", flush=True)


def _run(options: Options, state: DemoState, clips: Clips | None) -> None:
    """Start the processes, bring the project to the working state, and work or wait until the end."""
    folder, settings = Path(state.folder), _settings(state)

    def on_line(name: str, line: str) -> None:
        log.write(f"{name:8} {line}\n")
        log.flush()
        if name != "studio":
            print(f"{name:8} {line}", flush=True)

    with (folder / "demo.log").open("a", encoding="utf-8") as log, Processes(on_line) as processes:
        # Label Studio makes its database for half a minute, on one core: whatever does not need it is done meanwhile.
        begin_studio(processes, settings, folder)
        serve.start(processes, settings)
        start_early()
        if clips is None and not state.imported:
            clips = _clips(state, folder, state.held_out is not None)
        if not Networks(settings).were_built:
            model_problem(settings)  # `connect` says what is wrong, if anything is
        wait_for_studio(processes, settings)
        wait_until(lambda: answers(f"{settings.backend_url}/health"), 60, "the backend does not answer", processes)
        services = Services(settings)
        project = _project(services, state, clips)
        connect(services, project, lambda line: print(f"connect  {line}", flush=True))
        orders = services.orders(project)
        wait_until(lambda: orders.current_name() is not None, ROUND_SECONDS, "the first order is not there", processes)
        if options.unattended:
            assert clips is not None
            Annotator(services, project, clips, set(state.held_out or ()), options, processes).work()
        else:
            _welcome(services, project)
            serve.keep_running(processes)


def _check(options: Options) -> None:
    """Refuse what cannot work before anything is made or started."""
    if options.labels and not options.clips:
        raise InvalidRequest("--labels belongs to clips of your own: add --clips DIR")
    if options.unattended and options.clips and not options.labels:
        raise InvalidRequest("--unattended needs --labels FILE: the table that the simulated annotator answers from")
    if options.clips and not options.clips.is_dir():
        raise InvalidRequest(f"{options.clips} is not a folder: --clips names the folder of the clips")
    if min(options.rounds, 1 if options.batch is None else options.batch) < 1:
        raise InvalidRequest("--rounds and --batch must be 1 or more")
    if options.port:
        require_free("127.0.0.1", options.port, "--port")


def _clips(state: DemoState, folder: Path, labelled: bool) -> Clips:
    """The clips to show and what is known about them; without any, makes phantom frames, once."""
    if state.clips is None:
        clips, table = folder / "phantom" / "clips", folder / "phantom" / "clips.csv"
        if not table.exists():
            print("making phantom frames", flush=True)
            progress = sys.stderr.isatty()
            generate(
                folder / "phantom", 16, clips_per_patient=3, frames_per_clip=30, seed=state.seed, progress=progress
            )
        return read_clips(clips, table)
    clips = Path(state.clips)
    if state.labels is None:
        return Clips(clips, Configuration.parse(render()).label_names, {}, {})
    known = read_clips(clips, Path(state.labels))
    if labelled and not known.labels:
        raise InvalidRequest(
            f"no clip in {clips} is labelled in {state.labels}: the column file holds the clips' names"
        )
    return known


def _settings(state: DemoState) -> Settings:
    folder = Path(state.folder)
    return load(
        label_studio_url=f"http://127.0.0.1:{state.studio_port}",
        label_studio_token=state.token,
        document_root=folder / "files",
        backend_url=f"http://127.0.0.1:{state.port}",
        host="127.0.0.1",
        port=state.port,
        webhook_secret=state.webhook_secret,
        basic_auth_user=EMAIL,
        basic_auth_password=PASSWORD,
        data_dir=folder / "data",
        redis_url=None,
        backbone=os.environ.get("TSAL_BACKBONE", "efficientnet_lite0"),
        k_max=state.batch,
        refresh=max(1, state.batch // 2),
        seed=state.seed,
    )


def _project(services: Services, state: DemoState, clips: Clips | None) -> int:
    """Return the demo's project, after making it and importing its frames where that is not done yet."""
    if state.project is None:
        assert clips is not None
        xml = render(symptoms=clips.symptoms)
        if services.settings.evidence:
            xml = with_panel(Configuration.parse(xml), services.settings.evidence_key)
        project = services.studio.create_project("Lung ultrasound", xml)
        state = replace(state, project=project)
        state.write()
    assert state.project is not None
    if not state.imported:
        assert clips is not None
        _import(services, state.project, clips, state)
        replace(state, imported=True).write()
    return state.project


def _import(services: Services, project: int, clips: Clips, state: DemoState) -> None:
    """Import the frames; the simulated annotator can answer for labelled clips only."""
    root = services.settings.document_root
    assert root is not None
    importer = Importer(
        services.studio,
        project,
        Folder(root / "frames", root),
        data_dir=services.settings.data_dir,
        every=Fraction(state.every),
        rule=Rule(clips.patients),
        keys=services.data_keys,
        evidence=services.evidence_addresses if services.settings.evidence else None,
        limits=Limits.of(services.settings),
    )
    paths = [clips.folder]
    if state.held_out is not None:
        paths = [clips.folder / name for name in sorted(clips.labels.keys() - set(state.held_out))]
    report = importer.run(paths)
    print(f"import   {report.imported} frames of {report.files} clips", flush=True)
    if not report.imported + report.already_there:
        raise InvalidRequest(f"no frame of {clips.folder} could be read")


def _welcome(services: Services, project: int) -> None:
    settings = services.settings
    symptoms = len(services.configuration(services.studio.project(project).label_config).label_names)
    print(
        f"""
  Open      {settings.label_studio_url}/projects/{project}/data
  Log in    {EMAIL}   password {PASSWORD}
  Press     "Label All Tasks", then 1 to {symptoms} for the symptoms and Submit
            (not "Label Tasks As Displayed": that leaves the computed order)
  Lead      {settings.backend_url}/lead/   how far the project is, with the same login
  Backend   {settings.backend_url}   with the same login

  After {settings.k_max} annotations the model retrains in the background; from then on the symptoms are ticked already
  and the queue asks for other frames. Ctrl-C stops everything.
""",
        flush=True,
    )
