"""Give a version away as a file that runs without this package, checked against the product, with a model card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import ExportFailed, FrameUnreadable
from ml_backend.frames.frame import Frame
from ml_backend.loop.audit import audit
from ml_backend.loop.model_card import CARD, Check, Data, card_of
from ml_backend.msml import exported
from ml_backend.msml.exported import FILE_OF, Format, Images, Run, Whole
from ml_backend.msml.frames import decode
from ml_backend.services import Services
from ml_backend.store.replaced import replaced, require_free
from ml_backend.store.versions import Manifest, TrainedOn

FRAMES = 100
"""The most frames that a file is checked on."""
TOLERANCE = 1e-4
"""How far a probability may lie from the network's own in float32."""
BATCH = 8
WHAT = "a model"

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Sample:
    """Frames to check on.

    ``images`` (n, 224, 224, 3) as the network sees them, ``served`` (n, l) the probabilities that the backend serves
    for them, and the number of frames that could not be read.
    """

    images: Images
    served: NDArray[np.float32]
    unreadable: int


def make(services: Services, project: int, manifest: Manifest, to: Path, kind: Format, report: Report) -> Check:
    """Write a version's whole network and its card into the folder ``to``, which is replaced.

    Then run the file as users do, on up to `FRAMES` frames of the project, and return how closely it agreed.

    Raises:
        InvalidRequest: if ``to`` holds anything that this does not write.
        VersionUnknown: if the version's weights are missing or do not fit the network that is set.
        ExportFailed: if the network cannot be exported, or the file says something else; nothing is left then.
        FrameUnreadable: if there is no frame to check on.
        ExtraMissing: if a library that the format needs is not installed.
        NotWritten: if the disk is full or cannot be written.
    """
    require_free(to, _is_model, WHAT)
    exported.require(kind)
    network = services.predictor.fresh(len(manifest.label_names))
    network.load_tail(services.versions(project).tail(manifest.version))
    whole = Whole(network)
    # All of Label Studio's part comes first: it may be away when the long work is done.
    frames, audited = _all_frames(services, project), audit(services, project)
    sample = _sample(services, project, manifest, frames, report)
    with replaced(to, _is_model, WHAT) as aside:
        path = aside / FILE_OF[kind]
        report("exporting", 0, 1)
        exported.write(whole, path, kind, manifest.label_names)
        check = _checked(whole, exported.opened(path, kind), sample, report)
        card = card_of(
            manifest,
            project=project,
            kind=kind,
            data=_data(manifest, frames),
            check=check,
            precision=network.precision,
            audited=audited,
        )
        (aside / CARD).write_text(card, encoding="utf-8")
    return check


def _is_model(folder: Path) -> bool:
    return {one.name for one in folder.iterdir()} <= {CARD, *FILE_OF.values()}


def _all_frames(services: Services, project: int) -> list[Frame]:
    configuration = services.configuration(services.studio.project(project).label_config)
    return [services.frame(task.id, task.data, configuration) for task in services.studio.tasks(project)]


def _sample(services: Services, project: int, manifest: Manifest, frames: Sequence[Frame], report: Report) -> _Sample:
    """Draw frames of the project, the same ones as long as it has the same tasks, and ask the backend about them."""
    drawn = np.random.default_rng(services.settings.seed).permutation(len(frames))[:FRAMES]
    images: dict[int, NDArray[np.uint8]] = {}
    wanted = [frames[place] for place in sorted(drawn.tolist())]
    for done, frame in enumerate(wanted):
        report("reading frames", done, len(wanted))
        try:
            images[frame.task] = decode(services.fetcher.fetch(frame.url, frame.task))
        except FrameUnreadable:
            continue
    tasks: list[int] = []
    served: list[NDArray[np.float32]] = []
    readable = [frame for frame in wanted if frame.task in images]
    # Where a file was replaced, the backend has to look at the new one too.
    for chunk in services.predictor.activations(readable, len(manifest.label_names), check=True):
        tasks += chunk.tasks.tolist()
        served.append(services.predictor.probabilities(chunk.activations, manifest, services.versions(project)))
        report("asking the backend", len(tasks), len(readable))
    if not tasks:
        raise FrameUnreadable(
            f"none of {len(wanted)} frames of project {project} can be read, so the file cannot be checked: "
            "`tsal doctor` says what keeps frames from being read"
        )
    return _Sample(np.stack([images[task] for task in tasks]), np.concatenate(served), len(wanted) - len(tasks))


def _checked(whole: Whole, run: Run, sample: _Sample, report: Report) -> Check:
    """Compare the file with the network and with the backend."""
    pieces: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    for start in range(0, len(sample.images), BATCH):
        report("checking", start, len(sample.images))
        batch = sample.images[start : start + BATCH]
        pieces.append((run(batch), whole.run(batch)))
    ours, theirs = (np.concatenate(rows) for rows in zip(*pieces, strict=True))
    check = Check.of(ours, theirs, sample.served, sample.unreadable)
    if not check.largest <= TOLERANCE:  # a NaN too is a difference
        raise ExportFailed(
            f"the file's probabilities differ from the network's by up to {check.largest:.2g}, by more than "
            f"{TOLERANCE:g}, on {check.frames} frames: nothing is written. Try the other --format, and report it with "
            "the versions of torch, onnxscript and onnxruntime"
        )
    return check


def _data(manifest: Manifest, frames: Sequence[Frame]) -> Data:
    """Count what the version was made of; patients are those that the tasks name now."""
    patient_of = {frame.task: frame.patient for frame in frames}

    def patients(seen: Sequence[TrainedOn]) -> int:
        return len({patient_of[one.task] for one in seen if one.task in patient_of})

    return Data(
        patients_trained=patients(manifest.trained_on),
        patients_held_out=patients(manifest.held_out),
        gone=sum(one.task not in patient_of for one in manifest.trained_on + manifest.held_out),
    )
