from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from ml_backend.errors import SettingsError, StudioUnavailable
from ml_backend.logs import REMINDER_SECONDS, changed, configure, event, stages

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


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock shows neither UTC nor whole hours beside it."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        yield
    time.tzset()


def written(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The lines since this was asked last, without their date."""
    return [line.partition(" ")[2] for line in capfd.readouterr().err.splitlines()]


def rq_tells(job: str, function: str, error: Exception) -> None:
    """What RQ logs of a job that failed."""
    trace = "".join(traceback.format_exception(error))
    form = "Worker %s: job %s: exception raised while executing (%s)\n%s"
    logging.getLogger("rq.worker").error(form, "w", job, function, trace, extra={"job_id": job})


def raised(error: Exception, while_handling: Exception | None = None) -> Exception:
    try:
        try:
            if while_handling:
                raise while_handling
        finally:
            raise error
    except Exception as caught:
        return caught


@pytest.mark.usefixtures("elsewhere")
def test_a_line_says_when_whatever_the_zone(capfd: pytest.CaptureFixture[str]) -> None:
    configure()
    event(logger, "version active", project=7)
    date = capfd.readouterr().err.split()[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+]00:00", date)
    assert abs(datetime.now(timezone.utc) - datetime.fromisoformat(date)) < timedelta(minutes=1)


def test_a_failure_that_the_job_logged_is_not_logged_again(capfd: pytest.CaptureFixture[str]) -> None:
    configure()
    jobs = logging.getLogger("ml_backend.loop.jobs")
    for _ in range(2):  # and so is that of its retry
        event(jobs, "fine-tune failed", level=logging.ERROR, project=7, job="one", reason="away")
        rq_tells("one", "ml_backend.loop.jobs.fine_tune", raised(StudioUnavailable("away")))
        assert written(capfd) == ["ERROR fine-tune failed project=7 job=one reason=away"]
    # Its next try fails before it can tell.
    rq_tells("one", "ml_backend.loop.jobs.fine_tune", raised(SettingsError("no token")))
    assert written(capfd) == [
        "ERROR job failed job=one function=ml_backend.loop.jobs.fine_tune "
        "reason='ml_backend.errors.SettingsError: no token'"
    ]


@pytest.mark.parametrize("told", [True, False])
def test_an_unexpected_error_is_logged_with_its_place(capfd: pytest.CaptureFixture[str], told: bool) -> None:
    configure()
    if told:
        event(logger, "fine-tune failed", level=logging.ERROR, job="one")
        written(capfd)
    error = raised(OSError("full"))
    assert error.__traceback__ is not None
    rq_tells("one", "ml_backend.loop.jobs.fine_tune", error)
    place = f"tests/test_logs.py:{error.__traceback__.tb_lineno}"
    begin = "ERROR job failed job=one function=ml_backend.loop.jobs.fine_tune reason='OSError: full'"
    assert written(capfd) == [f"{begin} at={place}"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (raised(StudioUnavailable("away")), "'ml_backend.errors.StudioUnavailable: away'"),
        (raised(OSError("full"), while_handling=KeyError("a")), "'OSError: full'"),
        (raised(OSError("first\nERROR second")), "'OSError: first'"),
        (raised(OSError("red\x1b[31m")), r"'OSError: red\x1b[31m'"),
        (raised(AssertionError()), "AssertionError"),
    ],
    ids=["ours", "while another", "two lines", "control characters", "no message"],
)
def test_an_unlogged_failure_becomes_one_line(capfd: pytest.CaptureFixture[str], error: Exception, reason: str) -> None:
    configure()
    event(logger, "scoring", job="part")  # no failure, so it tells none
    written(capfd)
    rq_tells("part", "ml_backend.loop.score.fill_cache", error)
    (line,) = written(capfd)
    assert line.partition(" at=")[0] == (
        f"ERROR job failed job=part function=ml_backend.loop.score.fill_cache reason={reason}"
    )


def test_other_lines_of_rq_stay(capfd: pytest.CaptureFixture[str]) -> None:
    configure()
    rq = logging.getLogger("rq.worker")
    rq.warning("Worker %s: job %s failed (%s)", "w", "one", "Work-horse terminated unexpectedly")
    rq.error("exception raised while executing something else")
    assert written(capfd) == [
        "WARNING Worker w: job one failed (Work-horse terminated unexpectedly)",
        "ERROR exception raised while executing something else",
    ]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("Invalid HTTP Header: 'X-TSAL-Secret\\x0e a-secret'", "Invalid HTTP Header: …"),
        ('Invalid HTTP request line: "GET /?it\'s=a-secret"', "Invalid HTTP request line: …"),
        ("No more data after: b'X-TSAL-Secret: a-secret'", "No more data after: …"),
        ("Request Line is too large (9000 > 4094)", "Request Line is too large (9000 > 4094)"),
    ],
)
def test_the_content_of_a_broken_request_is_not_logged(
    capfd: pytest.CaptureFixture[str], said: str, written: str
) -> None:
    configure()
    logging.getLogger("gunicorn.error").warning(f"Invalid request from ip=10.0.0.9: {said}")
    (line,) = capfd.readouterr().err.splitlines()
    assert line.endswith(f"WARNING Invalid request from ip=10.0.0.9: {written}")


def test_a_state_is_logged_when_it_changes_and_once_a_day(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("ml_backend.logs.time.monotonic", lambda: clock[0])
    logger = logging.getLogger("states")
    for count in (3, 3, 4, 4):
        changed(logger, "left out", project=7, level=logging.WARNING, count=count)
    for _ in range(2):
        changed(logger, "left out", project=8, level=logging.WARNING, count=4)
        changed(logger, "left out", project=8, level=logging.WARNING, kind="other", count=4)
    assert caplog.messages == [
        "left out project=7 count=3",
        "left out project=7 count=4",
        "left out project=8 count=4",
        "left out project=8 kind=other count=4",
    ]
    clock[0] += REMINDER_SECONDS + 1
    changed(logger, "left out", project=7, level=logging.WARNING, count=4)
    assert caplog.messages[4:] == ["left out project=7 count=4"]
