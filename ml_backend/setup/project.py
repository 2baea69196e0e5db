"""Check a project's symptoms, frames, data keys and answers, and let it learn from those that are there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice

from ml_backend.errors import FrameUnreadable, StudioRefused
from ml_backend.loop import confirm
from ml_backend.loop.collect import Collected, sort_out
from ml_backend.services import Services
from ml_backend.setup import address
from ml_backend.setup.findings import Finding
from ml_backend.studio.client import Studio
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.keys import CAPTION

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
            f"the frame of task {task.id} cannot be read: {error}. Frames in Label Studio's local files and in buckets "
            "need a storage in the project (Settings, Cloud Storage); frames on other hosts need TSAL_ALLOWED_HOSTS",
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


def answers(services: Services, project: int, configuration: Configuration) -> Iterator[Finding]:
    """Say how many frames are annotated, how many of them are learnt from, and why the others are not."""
    collected, tasks = _collected(services, project, configuration)
    newest, learnt = services.versions(project).newest(), len(collected.labelled)
    count = f"{tasks} frames are annotated, {learnt} of them are learnt from"
    left = max(0, services.settings.k_max - learnt)
    if newest is not None:
        text = f"{count}; the newest version is {newest.version}"
    elif confirm.is_enough(collected.labelled, services.settings):
        text = f"{count}; that is enough for the first version"
    elif left:
        text = f"{count}; {left} more until the first version (TSAL_K_MAX)"
    else:
        text = f"{count}, all with the same labels; the first version needs two different combinations of labels"
    yield Finding("answers", "ok", text)
    for why, numbers in collected.left_out.items():
        yield Finding("left out", "note", f"not learnt from: {len(numbers)} {why}")


def first_fine_tune(services: Services, project: int, configuration: Configuration) -> Iterator[Finding]:
    """Let the first fine-tune start now if there are enough annotations for it, and nothing speaks against it."""
    if services.versions(project).names() or confirm.parked_now(services, project):
        return
    if services.finishes(project).open() is not None:
        return
    collected, _ = _collected(services, project, configuration)
    if confirm.is_enough(collected.labelled, services.settings):
        yield Finding(
            "first fine-tune",
            "change",
            f"start the first fine-tune, on the {len(collected.labelled)} frames that are annotated; the next comes "
            f"after {services.settings.k_max} more (TSAL_K_MAX)",
            partial(address.start_training, services.settings, project),
        )


def _collected(services: Services, project: int, configuration: Configuration) -> tuple[Collected, int]:
    """The annotations, told apart, and the number of annotated frames. Unlike `collect`, notes and logs nothing."""
    annotations = services.studio.confirmed_annotations(project)
    newest = services.versions(project).newest()
    known = newest.label_names if newest else configuration.label_names
    periods = services.symptoms(project).read() or {name: [(None, None)] for name in known}
    collected = sort_out(annotations, configuration, periods, services.settings)
    return collected, len({one.task for one in annotations})
