"""Log lines: one event a line, with the things it is about as ``name=value``."""

from __future__ import annotations

import logging
import sys


def configure(level: int = logging.INFO) -> None:
    """Send log lines to standard error; libraries that log each request are kept to warnings."""
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S", force=True
    )
    for name in ("httpx", "httpcore", "urllib3", "rq.worker", "rq.scheduler", "label_studio_sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)


def event(logger: logging.Logger, what: str, *, level: int = logging.INFO, **about: object) -> None:
    """Log one event; a value with a space in it is quoted, None is left out."""
    told = {name: str(value) for name, value in about.items() if value is not None}
    pairs = (f"{name}={text!r}" if " " in text else f"{name}={text}" for name, text in told.items())
    logger.log(level, "%s", " ".join([what, *pairs]))
