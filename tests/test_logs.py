from __future__ import annotations

import logging
from datetime import datetime

import pytest

from ml_backend.logs import configure, event, stages

logger = logging.getLogger("tests.logs")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("msml-0001-0a1b2c3d.1", "msml-0001-0a1b2c3d.1"),
        (0.25, "0.25"),
        ("two words", "'two words'"),
        ("first\nsecond", r"'first\nsecond'"),
        ("red\x1b[31m", r"'red\x1b[31m'"),
        ("line\u2028break", r"'line\u2028break'"),
        ("it's", '"it\'s"'),
        ("", "''"),
        (ValueError("no file"), "'no file'"),
    ],
)
def test_an_event_is_one_line_whatever_it_is_about(
    caplog: pytest.LogCaptureFixture, value: object, written: str
) -> None:
    with caplog.at_level(logging.INFO):
        event(logger, "version active", project=7, reason=value)
    assert caplog.messages == [f"version active project=7 reason={written}"]


def test_what_is_unknown_is_left_out_and_the_level_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        event(logger, "frame unreadable", level=logging.WARNING, job=None, task=3)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "frame unreadable task=3")
    ]


def test_a_stage_is_logged_when_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    report = stages(logger, project=7, job="one")
    with caplog.at_level(logging.INFO):
        for stage, done in (("scoring", 0), ("scoring", 64), ("pushing", 0)):
            report(stage, done, 128)
    assert caplog.messages == ["scoring project=7 total=128 job=one", "pushing project=7 total=128 job=one"]


def test_a_line_has_date_and_zone_and_a_failed_job_has_one(
    capfd: pytest.CaptureFixture[str], log_handlers: None
) -> None:
    configure()
    rq = logging.getLogger("rq.worker")
    rq.error("Worker %s: job %s: exception raised while executing (%s)\n%s", "w", "j", "f", "Traceback\n  line")
    rq.error("Worker %s: found an unhandled exception", "w")
    event(logging.getLogger("ml_backend.jobs"), "fine-tune failed", level=logging.ERROR, project=7)
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition(" ")[2] for line in lines] == [
        "ERROR Worker w: found an unhandled exception",
        "ERROR fine-tune failed project=7",
    ]
    for line in lines:
        assert datetime.fromisoformat(line.split()[0]).tzinfo is not None
