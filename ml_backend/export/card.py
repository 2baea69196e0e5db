"""The data card of an export: what is in it, how it was made, and what it is not good for. Markdown without a date."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ml_backend.export.coco import TO_FILL_IN
from ml_backend.export.dataset import Dataset
from ml_backend.export.pictures import FOLDER
from ml_backend.export.rows import SOURCES, Row, count
from ml_backend.export.table import columns
from ml_backend.loop.certificate_page import summary_of
from ml_backend.loop.markdown import in_markdown
from ml_backend.tsal.reliability import Share
from ml_backend.tsal.split import PARTS, VALIDATION

FILE = "README.md"
_ONLY = {
    "people": "labels that a person confirmed",
    "certified": "labels that a valid certificate covers",
    "all": "all labels: of people, imported, accepted unseen, and of the machine",
}
Cell = str | int


def card(dataset: Dataset) -> str:
    """Write the card."""
    sections = {
        "Licence": [dataset.licence or f"_{TO_FILL_IN}_"],
        "What is in it": list(_contents(dataset)),
        "Counts": list(_counts(dataset)),
        "The split": list(_split(dataset)),
        "Agreement of annotators": list(_agreement(dataset)),
        "Certificate": list(_certificate(dataset)),
        "How right the machine is": list(_audit(dataset)),
        "Columns": _table(["column", "meaning"], [(one.name, one.meaning) for one in columns(dataset.symptoms)]),
        "Known limits": [f"- {one}" for one in _limits(dataset)],
    }
    text = "".join(f"\n## {title}\n\n" + "\n".join(lines) + "\n" for title, lines in sections.items())
    return f"{_front_matter(dataset)}# Lung ultrasound frames of project {dataset.project}\n{text}"


def _front_matter(dataset: Dataset) -> str:
    """What Hugging Face `datasets` reads, so that it loads the pictures when it is given the whole folder."""
    parts = [part for part in PARTS if dataset.rows.of_part(part)]
    if "imagefolder" not in dataset.formats or not parts:
        return ""
    files = "".join(f"  - split: {part}\n    path: {FOLDER}/{part}/*\n" for part in parts)
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n"


def _contents(dataset: Dataset) -> Iterator[str]:
    rows = dataset.rows.rows
    yield f"{_ONLY[dataset.only].capitalize()}."
    yield f"Formats: {', '.join(dataset.formats)}. Pictures: {'copied' if dataset.copied else 'referred to'}."
    yield f"Symptoms, the one that means a healthy lung first: {', '.join(map(in_markdown, dataset.symptoms))}."
    yield f"Model version that served: {dataset.about.version or 'none'}."
    newest = max((one.label.at for one in rows), default="")
    if newest:
        yield f"Newest label: {newest}."


def _counts(dataset: Dataset) -> Iterator[str]:
    groups: dict[str, Sequence[Row]] = {part: dataset.rows.of_part(part) for part in PARTS}
    groups["all"] = dataset.rows.rows
    body: list[Sequence[Cell]] = []
    for name, rows in groups.items():
        sources = Counter(one.label.source for one in rows)
        patients, clips = ({getattr(one, what) for one in rows} for what in ("patient", "clip"))
        certified = sum(one.label.certificate is not None for one in rows)
        audited = sum(one.audited for one in rows)
        body.append(
            (name, len(rows), len(patients), len(clips), *(sources[one] for one in SOURCES), certified, audited)
        )
    yield from _table(["part", "frames", "patients", "clips", *SOURCES, "certified", "audited"], body)
    yield ""
    yield "Frames in which each symptom is present / absent / not known:"
    yield ""
    yield from _table(
        ["symptom", *groups],
        [
            (name, *(" / ".join(map(str, count(rows, place))) for rows in groups.values()))
            for place, name in enumerate(dataset.symptoms)
        ],
    )
    if dataset.rows.left_out:
        yield ""
        yield "Left out of the project's frames:"
        yield ""
        yield from (f"- {number} that {why}" for why, number in sorted(dataset.rows.left_out.items()))


def _split(dataset: Dataset) -> Iterator[str]:
    yield (
        "By patient: all frames of a patient are in one part. The part follows from the patient, TSAL_HOLD_OUT "
        f"({dataset.hold_out:g}) and TSAL_SEED ({dataset.seed}) alone, so it stays the same in later exports, whatever "
        "is added. The test part is the patients that the project holds out; its network is not trained on them. Of "
        f"the others, about {100 * VALIDATION:g}% are for validation. A frame without a patient counts as a patient."
    )


def _agreement(dataset: Dataset) -> Iterator[str]:
    found = dataset.about.agreement
    if not found:
        yield "Not known: no frame was answered by two people."
        return
    yield f"Krippendorff's alpha over the {found[0].frames} frames that two or more people answered, before one answer"
    yield "was chosen for each (`-`: not defined, as all answers are the same):"
    yield ""
    yield from _table(
        ["symptom", "people", "alpha"],
        [(one.symptom, one.people, "-" if one.alpha is None else f"{one.alpha:.3f}") for one in found],
    )


def _certificate(dataset: Dataset) -> Iterator[str]:
    finish = dataset.about.certificate
    if finish is None:
        yield "None is valid."
        return
    yield f"Certificate {finish.number}, of {finish.counted_at}. {summary_of(finish)}"
    yield ""
    yield "It speaks of the whole pool of the project, and not of a part of this split alone. It takes people's labels"
    yield "for right. It became void in the project if frames were added or answers that it rests on changed since."


def _audit(dataset: Dataset) -> Iterator[str]:
    report = dataset.about.audit
    if not report.frames:
        yield "Not known: no frame of an audit is answered."
        return
    yield (
        f"Measured on {report.frames} answered audit frames of {report.patients} patients, which were drawn at random: "
        f"the machine's label was right in every symptom on {_share(report.right)}."
    )
    yield ""
    yield from _table(["symptom", "right"], [(name, _share(one)) for name, one in report.symptoms.items()])


def _share(share: Share) -> str:
    if share.value is None:
        return "-"
    low, high = (f"{100 * end:.1f}" for end in (share.interval.low, share.interval.high))
    return f"{100 * share.value:.1f}% (95% interval {low} to {high}, {share.count} of {share.frames})"


def _limits(dataset: Dataset) -> Iterator[str]:
    rows = dataset.rows.rows
    yield "For research, not for diagnosis."
    yield "Frames of one clip are alike: compare and count by patient."
    yield "Frames were chosen by the machine for what they teach; only audited ones are a uniform sample of the pool."
    yield "What is burnt into the pixels is still there: look at the frames before you pass them on."
    yield "Answers that another program wrote into Label Studio count as those of the person it used."
    if any(one.label.source == "machine" for one in rows):
        yield "The machine's labels rest on people's labels of other frames, also of the same patient: test on none."
    if any(one.label.source == "accepted unseen" for one in rows):
        yield "Labels that were accepted unseen are the machine's: nobody looked at them."
    if any(one.label.source == "imported" for one in rows):
        yield "Imported labels come from the team's tables; their origin is in the columns method and annotator."
    if any(None in one.label.symptoms for one in rows):
        yield "A symptom that was added later is not known where the answer is older: it is not absent."
    trained = sum(one.split == "test" and one.task in dataset.about.trained_on for one in rows)
    if trained:
        yield f"The network of {dataset.about.version} was trained on {trained} frames of the test part."
    missing = [part for part in PARTS if not dataset.rows.of_part(part)]
    if missing:
        why = "With few patients that happens" if dataset.hold_out else "TSAL_HOLD_OUT=0 holds nobody out for a test"
        yield f"No patient fell into: {', '.join(missing)}. {why}."


def _table(head: Sequence[str], body: Sequence[Sequence[Cell]]) -> list[str]:
    rows: list[Sequence[Cell]] = [head, ["---"] * len(head), *body]
    return ["| " + " | ".join(in_markdown(str(cell)) for cell in row) + " |" for row in rows]
