"""Log lines: one event a line, with the things it is about as ``name=value``."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable

# A line break in a value would make a second line of it, and text from outside could feign an event.
PLAIN = re.compile(r"[!#-&(-~]+")


def configure(level: int = logging.INFO) -> None:
    """Send log lines to standard error; libraries that log each request are kept to warnings."""
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S%z",
        force=True,
    )
    for name in ("httpx", "httpcore", "urllib3", "rq.worker", "rq.scheduler", "label_studio_sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("rq.worker").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether RQ tells something new: a job that fails has said so in a line, and RQ keeps the whole story with it."""
    return "exception raised while executing" not in str(record.msg)


def event(logger: logging.Logger, what: str, *, level: int = logging.INFO, **about: object) -> None:
    """Log one event; a value that is not one plain word is quoted, None is left out."""
    told = {name: str(value) for name, value in about.items() if value is not None}
    pairs = (f"{name}={text if PLAIN.fullmatch(text) else repr(text)}" for name, text in told.items())
    logger.log(level, "%s", " ".join([what, *pairs]))


def stages(logger: logging.Logger, project: int, job: str | None = None) -> Callable[[str, int, int], None]:
    """A report of how far long work is, ``(stage, done, total)``, that logs each stage as it begins."""
    last = ""

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        if stage != last:
            event(logger, stage, project=project, total=total, job=job)
            last = stage

    return report
