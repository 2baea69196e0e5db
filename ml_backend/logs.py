"""Log lines: one event a line, with the things it is about as ``name=value``."""

from __future__ import annotations

import logging
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from ml_backend.errors import BackendError

# A line break in a value would make a second line of it, and text from outside could feign an event.
PLAIN = re.compile(r"[!#-&(-~]+")


_REPEATED = re.compile(r"(Invalid request from ip=[^'\"]*?)\s*(?:\bb)?['\"].*", re.DOTALL)
_RQ_FAILURE = "exception raised while executing"
_RAISED = "Traceback (most recent call last):\n"
_PLACE = re.compile(r'^  File "(.+)", line (\d+)', re.MULTILINE)
REMINDER_SECONDS = 86_400.0
_states: dict[tuple[str, int, object], tuple[str, float]] = {}
"""The last line about each state of each project, and when it was logged."""
_told: set[str] = set()
"""Jobs whose failure was logged as an event, so that RQ's own report of it is dropped."""
_TALKATIVE = ("httpx", "httpcore", "urllib3", "rq.worker", "rq.scheduler", "label_studio_sdk", "onnxscript", "onnx_ir")


def configure(level: int = logging.INFO) -> None:
    """Send log lines to standard error; libraries that log each request, or each step, are kept to warnings."""
    # Machines may differ in their zone. The offset with its colon is what Python 3.10 reads as well.
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S+00:00")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("rq.worker").addFilter(_in_one_line)
    logging.getLogger("gunicorn.error").addFilter(_without_request)


def _without_request(record: logging.LogRecord) -> bool:
    """Remove a malformed request's content from gunicorn's line: it may be a header with a secret."""
    record.msg = _REPEATED.sub(r"\1 …", str(record.msg))
    return True


def _in_one_line(record: logging.LogRecord) -> bool:
    """Turn RQ's traceback of a failed job into an event, or drop it if the job has logged its failure already.

    RQ keeps no traceback of a try that others follow, so this is the only report of an unexpected error's place.
    """
    if _RQ_FAILURE not in str(record.msg) or not isinstance(record.args, tuple) or len(record.args) != 4:
        return True
    _, job, function, traceback = map(str, record.args)
    raised = traceback.rpartition(_RAISED)[2]  # what it was raised in the handling of comes before
    error = next((line for line in raised.splitlines() if line and not line.startswith(" ")), "unknown")
    expected = error.startswith(BackendError.__module__)
    told = job in _told
    _told.discard(job)
    places = (f"{'/'.join(Path(file).parts[-2:])}:{line}" for file, line in _PLACE.findall(raised))
    at = None if expected else ",".join(places)
    record.msg, record.args = "%s", (_line("job failed", job=job, function=function, reason=error, at=at),)
    return not (told and expected)


def event(logger: logging.Logger, what: str, *, level: int = logging.INFO, **about: object) -> None:
    """Log one event; a value that is not a single plain word is quoted, None is left out.

    The log record has the attributes ``event``, the event's name, and ``about``, its values.
    """
    if level >= logging.ERROR and about.get("job") is not None:
        _told.add(str(about["job"]))
    logger.log(level, "%s", _line(what, **about), extra={"event": what, "about": about})


def changed(logger: logging.Logger, what: str, *, project: int, level: int = logging.INFO, **about: object) -> None:
    """Log a project's state if it differs from the last one of this name and kind, else once a day.

    ``kind`` among ``about`` tells states of the same name apart.
    """
    about = {"project": project, **about}
    line, now = _line(what, **about), time.monotonic()
    key = (what, project, about.get("kind"))
    last, told = _states.get(key, ("", now))
    if line != last or now - told > REMINDER_SECONDS:
        _states[key] = line, now
        logger.log(level, "%s", line, extra={"event": what, "about": about})


def _line(what: str, /, **about: object) -> str:
    told = {name: str(value) for name, value in about.items() if value is not None}
    return " ".join([what, *(f"{name}={text if PLAIN.fullmatch(text) else repr(text)}" for name, text in told.items())])


def place(error: BaseException) -> str:
    """Where an error was raised, outermost call first, as the last parts of ``path:line``."""
    frames = traceback.extract_tb(error.__traceback__)
    return ",".join(f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno}" for frame in frames)


def stages(logger: logging.Logger, project: int, job: str | None = None) -> Callable[[str, int, int], None]:
    """A report of how far long work is, ``(stage, done, total)``, that logs each stage as it begins."""
    last = ""

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        if stage != last:
            event(logger, stage, project=project, total=total, job=job)
            last = stage

    return report
