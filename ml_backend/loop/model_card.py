"""The card beside an exported model: what it was made of, how good it is, how to run it, and what it is not for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml_backend import __version__
from ml_backend.loop.judge import NOT_UNIFORM, UNIFORM
from ml_backend.loop.markdown import in_markdown
from ml_backend.msml.exported import FILE_OF, OPSET, Format
from ml_backend.store.versions import Manifest
from ml_backend.tsal.judgement import Figure
from ml_backend.tsal.reliability import AuditReport, Share
from ml_backend.tsal.split import HELD_OUT, NEWEST_AUDIT

CARD = "model-card.md"
EXAMPLES: dict[Format, str] = {
    "onnx": """\
import json
import numpy
import onnxruntime
from PIL import Image, ImageOps
session = onnxruntime.InferenceSession("model.onnx")
picture = Image.open("frame.jpg")
picture.draft(None, (224, 224))  # a large JPEG is read at a smaller size
frame = ImageOps.exif_transpose(picture).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
print(dict(zip(labels, session.run(None, {"frames": numpy.array(frame)[None]})[0][0].tolist())))
""",
    "torch-export": """\
import json
import numpy
import torch
from PIL import Image, ImageOps
extra = {"labels": ""}
model = torch.export.load("model.pt2", extra_files=extra).module()
picture = Image.open("frame.jpg")
picture.draft(None, (224, 224))  # a large JPEG is read at a smaller size
frame = ImageOps.exif_transpose(picture).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
print(dict(zip(json.loads(extra["labels"]), model(torch.tensor(numpy.array(frame))[None])[0].tolist())))
""",
}
"""Programs that run a file without this package; docs/models.md has the same."""

_SAMPLES = {UNIFORM: "a uniform sample", NOT_UNIFORM: "not a uniform sample"}


@dataclass(frozen=True)
class Data:
    """How many patients a version was trained on, and how many it was not; ``gone``: frames without a task by now."""

    patients_trained: int
    patients_held_out: int
    gone: int


@dataclass(frozen=True)
class Check:
    """How far an exported file's probabilities lie from others, on so many ``frames``.

    ``largest``: from the whole network's in float32; ``served`` and ``served_mean``: from those that the backend
    serves; ``crossed`` of ``labels`` lie on the other side of one half there. ``unreadable`` frames are not among them.
    """

    frames: int
    unreadable: int
    labels: int
    largest: float
    served: float
    served_mean: float
    crossed: int

    @classmethod
    def of(
        cls,
        ours: NDArray[np.float32],
        network: NDArray[np.float32],
        served: NDArray[np.float32],
        unreadable: int = 0,
    ) -> Check:
        """Compare the file's probabilities (n, l) with the network's and the backend's."""
        apart = np.abs(ours - served)
        return cls(
            frames=len(ours),
            unreadable=unreadable,
            labels=ours.size,
            largest=float(np.abs(ours - network).max()),
            served=float(apart.max()),
            served_mean=float(apart.mean()),
            crossed=int(((ours > 0.5) != (served > 0.5)).sum()),
        )


def card_of(
    manifest: Manifest, project: int, kind: Format, data: Data, check: Check, precision: str, audited: AuditReport
) -> str:
    """Write the card, Markdown; ``precision`` is what the backend computes in. The same facts give the same card."""
    parts = [
        _head(manifest, project, kind),
        _use(kind),
        _data(manifest, data),
        _figures(manifest),
        _ticks(manifest, audited),
        _check(kind, check, precision),
        _limits(manifest),
    ]
    return "".join(f"{line}\n" for part in parts for line in part)


def _head(manifest: Manifest, project: int, kind: Format) -> Iterator[str]:
    yield f"# Model card: {manifest.version} of project {project}"
    yield ""
    yield "**For research and annotation, not for diagnosis.**"
    yield ""
    yield (
        f"`{FILE_OF[kind]}` takes a still frame of lung ultrasound and returns a probability for each of these labels, "
        "in this order. The labels do not exclude each other."
    )
    yield ""
    for place, name in enumerate(manifest.label_names, start=1):
        yield f"{place}. {in_markdown(name)}"
    yield ""
    form = f"ONNX, opset {OPSET}" if kind == "onnx" else "torch.export (a .pt2 archive)"
    writers = ("torch", "onnxscript") if kind == "onnx" else ("torch",)
    yield from _table(
        ("", ""),
        ("format", form),
        ("written by", ", ".join([f"tsal {__version__}", *(f"{name} {version(name)}" for name in writers)])),
        ("version", f"{manifest.version}, trained {manifest.created_at}"),
        ("parent", manifest.parent or "none"),
        ("held back", manifest.held_back or "no"),
        # A path says something about the machine that trained.
        ("network", f"{manifest.backbone}, starting from {Path(manifest.weights).name} weights"),
        ("learning", ", ".join(f"{name} {value}" for name, value in sorted(manifest.settings.items())) or "not noted"),
        ("seed", str(manifest.seed)),
        ("notes", "; ".join(manifest.notes) or "none"),
    )


def _use(kind: Format) -> Iterator[str]:
    yield "## How to run it"
    yield ""
    yield "```python"
    yield EXAMPLES[kind].rstrip()
    yield "```"
    yield ""
    yield "Input `frames`: uint8 (n, 224, 224, 3), RGB, 0 to 255, any n. Output: float32 (n, labels), in [0, 1]."
    yield "Scaling, normalisation and sigmoid are inside the file. What comes before is not, and matters:"
    yield ""
    yield "- Turn the picture upright by its EXIF orientation, and make it RGB; grey becomes three equal channels."
    yield "- Transparency shows black. Of deeper samples keep the 8 highest bits of the depth that the scanner used."
    yield "- Resize to 224 x 224 with Pillow's bilinear filter, which averages where it shrinks. Do not keep the aspect"
    yield "  ratio, and do not crop. Another library's bilinear filter gives other pixels and other probabilities."
    yield "- Use frames cut out as those in training were: same borders, same overlays."
    yield ""
    yield "A label counts as present above 0.5: the figures of this network are of that rule."
    yield ""


def _data(manifest: Manifest, data: Data) -> Iterator[str]:
    yield "## Data"
    yield ""
    yield from _table(
        ("", "frames", "patients"),
        ("trained on", str(len(manifest.trained_on)), str(data.patients_trained)),
        ("never trained on", str(len(manifest.held_out)), str(data.patients_held_out)),
    )
    yield f"Together they come from {len(manifest.clips)} clips. A frame without a patient counts as one of its own."
    if data.gone:
        yield f"{data.gone} of the frames are no longer in the project, so their patients are not counted."
    if manifest.left_out:
        yield f"{len(manifest.left_out)} more could not be read."
    if manifest.accepted:
        taught = (
            "it learnt from them too" if manifest.settings.get("accepted") == "train" else "it did not learn from them"
        )
        yield f"{manifest.accepted} annotations were accepted without a look; {taught}."
    yield ""
    if manifest.positives:
        yield from _table(
            ("label", "frames that show it"), *((name, str(count)) for name, count in manifest.positives.items())
        )


def _figures(manifest: Manifest) -> Iterator[str]:
    judged = manifest.metrics
    yield "## Figures of this network"
    yield ""
    if not judged.get("frames"):
        yield "Not measured: there were no frames to judge it by. Measure it before you use it."
        yield ""
        return
    sample = judged.get("sample")
    yield (
        f"Measured once, after training, on {judged['frames']} frames that it was not trained on "
        f"({judged.get('judged_on', HELD_OUT)}"
        + (f"; {_SAMPLES[sample]} of the pool). " if sample in _SAMPLES else "). ")
        + "Intervals are 95%, by patient: with few patients they are wide, and that is the truth."
    )
    if judged.get("judged_on") == NEWEST_AUDIT:
        yield "Their patients may be among those that it was trained on: it may do worse on new patients."
    yield "The backend measured them; at the end of this card stands how far its probabilities lie from the file's."
    yield ""
    rows = [("every label right", _figure(judged.get("exact_match")))]
    if judged.get("exact_match_parent") is not None:
        rows.append(("the same of its parent", _figure(judged["exact_match_parent"])))
        if judged.get("patients_better") is not None:
            rows.append(
                ("patients", f"{judged['patients_better']} better than by its parent, {judged['patients_worse']} worse")
            )
    yield from _table(("", ""), *rows)
    measures = ("accuracy", "sensitivity", "specificity")
    symptoms = judged.get("symptoms", {})
    if symptoms:
        yield from _table(
            ("label", *measures),
            *((name, *(_figure(row.get(measure)) for measure in measures)) for name, row in symptoms.items()),
        )


def _ticks(manifest: Manifest, audited: AuditReport) -> Iterator[str]:
    yield "## Figures of the ticks that annotators saw: not of this file"
    yield ""
    yield "In Label Studio a memory of the confirmed frames ticks together with the network. It is not in this file, so"
    yield "these figures say how right the project's suggestions were, and nothing about the file alone."
    yield ""
    rows = [("ticks that stood, as of this version", _figure(manifest.ticks.get("stood")))]
    if audited.frames:
        rows.append(("right in every label, all audits by now", _share(audited.right)))
        rows += [(f"right in every label, by the {source}", _share(one)) for source, one in audited.sources.items()]
        rows += [(name, _share(one)) for name, one in audited.symptoms.items()]
    yield from _table(("audit frames", ""), *rows)
    if audited.frames:
        yield f"The audits: {_of(audited.frames, audited.patients)}. Their intervals are 95%, by frame."
        yield ""


def _check(kind: Format, check: Check, precision: str) -> Iterator[str]:
    yield "## Checked when it was written"
    yield ""
    by = "onnxruntime" if kind == "onnx" else "torch"
    yield (
        f"{by} {version(by)} ran the file on {check.frames} frames of the project, drawn at random"
        + (f" ({check.unreadable} more could not be read)." if check.unreadable else ".")
    )
    yield ""
    yield from _table(
        ("probabilities compared with", "largest difference", "mean"),
        ("this network in float32, without a cache", f"{check.largest:.2g}", ""),
        ("those that the backend serves", f"{check.served:.2g}", f"{check.served_mean:.2g}"),
    )
    half = " and computes in bfloat16" if precision == "bfloat16" else ""
    yield f"The backend keeps what the frozen layers give in 8 bits a value{half}, so what it serves differs more."
    yield f"{check.crossed} of the {check.labels} labels lie on the other side of 0.5 there."
    yield ""


def _limits(manifest: Manifest) -> Iterator[str]:
    yield "## What it is not for"
    yield ""
    yield "- Diagnosis, triage or any other decision about a patient. It is no medical device, and not tested as one."
    yield "- Other probes, scanners, settings, regions or patients than those of the data, until measured there."
    yield "- Clips: it sees one still frame, and not what moves."
    yield "- Frames that cannot be judged, or that show no lung. It never learnt them, and answers all the same."
    yield "- Reading a probability as a chance: whether nine of ten frames with 0.9 show the label was not measured."
    yield f"- Findings other than {', '.join(in_markdown(name) for name in manifest.label_names)}."


def _figure(content: object) -> str:
    found = Figure.read(content)
    if found is None:
        return "not measured"
    if not found.patients:
        return f"{found.value:.3f} (interval not known)"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f}; {_of(found.frames, found.patients)})"


def _of(frames: int, patients: int) -> str:
    return f"{frames} frame{'s' * (frames != 1)}, {patients} patient{'s' * (patients != 1)}"


def _share(share: Share) -> str:
    if share.value is None:
        return "not measured"
    low, high = share.interval
    return f"{share.value:.3f} ({low:.3f} to {high:.3f}; {share.frames} frame{'s' * (share.frames != 1)})"


def _table(*rows: Sequence[str]) -> Iterator[str]:
    head, *others = rows
    for row in (head, ["---"] * len(head), *others):
        yield f"| {' | '.join(map(in_markdown, row))} |"
    yield ""
