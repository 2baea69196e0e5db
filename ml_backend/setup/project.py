"""Check a project's symptoms, frames, data keys and answers. Nothing here changes the project."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from ml_backend.errors import FrameUnreadable, StudioRefused
from ml_backend.services import Services
from ml_backend.setup.findings import Finding
from ml_backend.studio.client import Studio
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.keys import CAPTION
from ml_backend.studio.payloads import is_not_assessable

LOOKED_AT = 1000
"""Tasks whose data is searched for keys: one page."""
WITHOUT = {
    "patient": "no patient can be held out as a whole, so versions are not judged on patients they have never seen",
    "clip": "frames of one clip cannot be told apart from others, so a batch may ask for near-duplicates",
    "time": "frames of one clip have no order in time",
}


def symptoms(configuration: Configuration) -> Iterator[Finding]:
    """Say which choices are symptoms and which one means healthy; doubt it where another one looks more like it."""
    healthy, *others = configuration.label_names
    yield Finding("symptoms", "ok", f"symptoms: {', '.join(others)}; healthy: {healthy}")
    doubt = configuration.healthy_doubt
    if doubt is not None:
        yield Finding(
            "healthy label",
            "change",
            f"the first choice, {healthy}, is taken for the healthy one, but {doubt} looks like it: set "
            f"TSAL_HEALTHY_LABEL='{doubt}' for backend, worker and sidecar, or TSAL_HEALTHY_LABEL='{healthy}' if it is "
            "meant",
        )


def rights(studio: Studio, project: int) -> Iterator[Finding]:
    """Say whether the token's user may create predictions."""
    try:
        studio.try_predictions(project)
        yield Finding("right to predict", "ok", "the token's user may create predictions")
    except StudioRefused as error:
        yield Finding(
            "right to predict",
            "change",
            f"the token's user may not create predictions, so no tick can be shown: {error}",
        )


def frames(services: Services, project: int, configuration: Configuration) -> Iterator[Finding]:
    """Say whether the first frame can be read."""
    task = next(iter(services.studio.tasks(project)), None)
    if task is None:
        yield Finding("frames", "change", "the project has no frames: import some with `tsal import`")
        return
    url = str(task.data.get(configuration.image_key, ""))
    try:
        services.fetcher.fetch(url, task.id)
        yield Finding("frames", "ok", f"frames can be read ({url})")
    except FrameUnreadable as error:
        yield Finding(
            "frames",
            "change",
            f"the frame of task {task.id} cannot be read: {error}. Frames in Label Studio's local files need a file "
            "storage in the project (Settings, Cloud Storage, Local files); frames on other hosts need "
            "TSAL_ALLOWED_HOSTS",
        )


def data_keys(services: Services, project: int, configuration: Configuration) -> Iterator[Finding]:
    """Say which of the keys of patient, clip and time the tasks have, and what is missing without one."""
    data = [task.data for task in islice(services.studio.tasks(project), LOOKED_AT)]
    if not data:
        return
    keys = services.data_keys
    named = {"patient": keys.patient, "clip": keys.clip, "time": keys.time}
    # 0 is a value, since a clip begins at time 0.
    found = {what: sum(one.get(key) not in (None, "") for one in data) for what, key in named.items()}
    there = [f"{what} ({key})" for what, key in named.items() if found[what] == len(data)]
    if there:
        yield Finding("data keys", "ok", f"task data names {', '.join(there)}")
    others = ", ".join(sorted({name for one in data[:20] for name in one} - set(named.values()))) or "none"
    for what, key in named.items():
        if found[what] < len(data):
            yield Finding(
                "data keys",
                "change" if what == "patient" else "note",
                f"{found[what]} of {len(data)} tasks name a {what} (key {key}): {WITHOUT[what]}. Set "
                f"TSAL_{what.upper()}_KEY if your tasks call it otherwise; their other keys: {others}",
            )
    captions = sum(bool(one.get(CAPTION)) for one in data)
    if f"${CAPTION}" in configuration.xml and captions < len(data):
        yield Finding(
            CAPTION,
            "note",
            f"{captions} of {len(data)} tasks have the key {CAPTION}, which the labelling page shows above the frame; "
            "`tsal import` writes it, and above other frames the line is empty",
        )


def answers(services: Services, project: int) -> Iterator[Finding]:
    """Say how many frames are answered and how many are missing until the first version."""
    annotations = services.studio.confirmed_annotations(project)
    unseen = {one.task for one in annotations if one.accepted_unseen}
    no_answer = {one.task for one in annotations if is_not_assessable(one.result)}
    answered = {one.task for one in annotations if not one.accepted_unseen and not is_not_assessable(one.result)}
    newest = services.versions(project).newest()
    if newest is None:
        left = max(0, services.settings.k_max - len(answered))
        text = f"{len(answered)} frames are answered; {left} more until the first version (TSAL_K_MAX)"
    else:
        text = f"{len(answered)} frames are answered; the newest version is {newest.version}"
    yield Finding("answers", "ok", text)
    if no_answer:
        text = f"{len(no_answer)} frames are not assessable, people say; they do not count as answers"
        yield Finding("not assessable", "note", text)
    if unseen:
        yield Finding(
            "accepted unseen",
            "note",
            f"{len(unseen)} frames have annotations that were made from predictions without anybody looking (Create "
            "Annotations From Predictions); they do not count as answers",
        )
