from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from ml_backend.errors import InvalidRequest, RedisUnavailable
from ml_backend.launch import processes, serve
from ml_backend.launch.processes import ENDINGS, SUPERVISOR_SECONDS, Processes, embedded_redis, free_port, require_free
from ml_backend.store.pending import connect

# Starts another process in a group of its own, as RQ and gunicorn do, and says both numbers.
ROOT = Path(__file__).resolve().parents[2]
FAMILY = """
import os, subprocess, sys, time
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], preexec_fn=os.setpgrp)
print(os.getpid(), other.pid, flush=True)
time.sleep(600)
"""
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(600)
"""
# Says that it was asked to end, and takes its time.
SLOW = """
import os, signal, sys, time
def end(*_):
    print("ending", flush=True)
    time.sleep(1)
    sys.exit()
signal.signal(signal.SIGTERM, end)
print(os.getpid(), flush=True)
time.sleep(600)
"""
COMMAND = """
import sys, time
from ml_backend.commands.command import run
from ml_backend.launch.processes import Processes
def main():
    with Processes(lambda name, line: print(name, line, flush=True)) as processes:
        processes.start("first", [sys.executable, "-c", {first!r}], {{}})
        processes.start("second", [sys.executable, "-c", {second!r}], {{}})
        time.sleep(600)
run(main)
"""
KEEPING = """
import sys
from ml_backend.launch import serve
from ml_backend.launch.processes import Processes
serve.RESTART_SECONDS = 0
with Processes(lambda name, line: print(name, line, flush=True)) as processes:
    processes.start("child", [sys.executable, "-c", {child!r}], {{}})
    serve.keep_running(processes)
"""


class Lines:
    """What children wrote."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    def __call__(self, name: str, line: str) -> None:
        self.all.append((name, line))

    def numbers(self, lines: int = 1) -> list[int]:
        """The process ids of so many first lines, as soon as they are there."""
        wait_for(lambda: len(self.all) >= lines)
        return [int(word) for _, line in self.all[:lines] for word in line.split()]


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Commands that a test starts; they and what they started are ended with the test, whatever comes of it."""
    commands: list[subprocess.Popen[str]] = []
    yield commands
    for command in commands:
        family = psutil.Process(command.pid).children(recursive=True) if command.poll() is None else []
        for process in family:
            process.kill()
        command.kill()
        command.communicate()


def wait_for(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def redis_answers(url: str) -> bool:
    try:
        connect(url).close()
    except RedisUnavailable:
        return False
    return True


def command(code: str, started: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    process = subprocess.Popen(python(code), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    started.append(process)
    return process


def numbers(process: subprocess.Popen[str]) -> list[int]:
    """Process ids in the next line that a command's child wrote."""
    assert process.stdout is not None
    return [int(word) for word in process.stdout.readline().split()[1:]]


def test_every_line_is_delivered_with_the_name_of_its_process() -> None:
    lines = Lines()
    with Processes(lines) as running:
        child = running.start("one", python("for n in range(2000): print(n)\nprint('last', end='')"), {})
        child.process.wait()
    assert lines.all == [("one", str(n)) for n in range(2000)] + [("one", "last")]


def test_lines_that_are_handled_slowly_are_all_delivered_before_stop_returns() -> None:
    lines: list[str] = []

    def slowly(name: str, line: str) -> None:
        time.sleep(0.05)
        lines.append(line)

    with Processes(slowly) as running:
        running.start("one", python("for n in range(20): print(n)"), {}).process.wait()
    assert lines == [str(n) for n in range(20)]


def test_errors_and_bytes_that_are_no_text_are_delivered_too() -> None:
    lines = Lines()
    with Processes(lines) as running:
        code = "import os, sys; print('wrong', file=sys.stderr, flush=True); os.write(1, b'\\xff\\n')"
        running.start("one", python(code), {}).process.wait()
    assert lines.all == [("one", "wrong"), ("one", "\ufffd")]


def test_a_process_gets_the_environment_on_top_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_OURS", "a")
    monkeypatch.setenv("OF_BOTH", "b")
    lines = Lines()
    with Processes(lines) as running:
        code = "import os; print(os.environ['OF_OURS'], os.environ['OF_BOTH'])"
        running.start("one", python(code), {"OF_BOTH": "c"}).process.wait()
    assert lines.all == [("one", "a c")]


def test_stop_ends_children_and_what_they_started() -> None:
    lines = Lines()
    with Processes(lines) as running:
        running.start("one", python(FAMILY), {})
        running.start("two", python(FAMILY), {})
        family = lines.numbers(lines=2)
        assert len(family) == 4
        assert all(map(alive, family))
        running.stop()
        assert not any(map(alive, family))
        assert running.ended() == []


def test_stop_kills_a_process_that_ignores_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.3)
    lines = Lines()
    with Processes(lines) as running:
        running.start("one", python(STUBBORN), {})
        family = lines.numbers()
    assert not any(map(alive, family))


@pytest.mark.parametrize(("patience", "code"), [(None, -signal.SIGKILL), (SUPERVISOR_SECONDS, 0)])
def test_a_supervisor_has_more_time_to_end(patience: float | None, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.3)
    lines = Lines()
    with Processes(lines) as running:
        child = running.start("one", python(SLOW), {}, patience)
        lines.numbers()
    assert child.process.returncode == code


def test_stop_waits_for_a_clean_exit_and_the_last_lines() -> None:
    lines = Lines()
    with Processes(lines) as running:
        running.start("one", python(SLOW), {})
        lines.numbers()
    assert lines.all[1:] == [("one", "ending")]


def test_an_exception_ends_the_children_and_propagates() -> None:
    lines = Lines()

    def fail() -> None:
        with Processes(lines) as running:
            running.start("one", python(FAMILY), {})
            assert all(map(alive, lines.numbers()))
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert not any(map(alive, lines.numbers()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_command_ends_the_children(
    number: signal.Signals, started: list[subprocess.Popen[str]]
) -> None:
    # As from a terminal, even where these tests run under nohup, whose children ignore SIGHUP.
    heard = f"import signal; signal.signal({number.value}, signal.SIG_DFL)"
    process = command(heard + COMMAND.format(first=FAMILY, second=FAMILY), started)
    family = numbers(process) + numbers(process)
    assert all(map(alive, family))
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in output
    assert not any(map(alive, family))


def test_a_second_signal_does_not_leave_anything_behind(started: list[subprocess.Popen[str]]) -> None:
    process = command(COMMAND.format(first=FAMILY, second=SLOW), started)
    family = numbers(process) + numbers(process)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "second ending\n"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not any(map(alive, family))


def test_signals_are_as_before_after_the_block() -> None:
    before = [signal.getsignal(number) for number in ENDINGS]
    with Processes(Lines()):
        assert [signal.getsignal(number) for number in ENDINGS] != before
    assert [signal.getsignal(number) for number in ENDINGS] == before


def test_a_background_job_of_a_shell_can_be_interrupted(started: list[subprocess.Popen[str]]) -> None:
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)" + COMMAND.format(
        first=FAMILY, second=FAMILY
    )
    process = command(ignoring, started)
    family = numbers(process) + numbers(process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert not any(map(alive, family))


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Processes(Lines()):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_child_that_ended_is_reported_and_can_be_restarted() -> None:
    lines = Lines()
    with Processes(lines) as running:
        stays = running.start("stays", python("import time; time.sleep(600)"), {})
        goes = running.start("goes", python("import os; print(os.environ['PLACE'])"), {"PLACE": "here"})
        goes.process.wait()
        assert running.ended() == [goes]
        again = running.restart(goes)
        assert again.process.pid != goes.process.pid
        assert again.process.wait() == 0
        assert running.ended() == [again]
        assert alive(stays.process.pid)
    assert lines.all == [("goes", "here")] * 2


def test_restart_ends_the_rest_of_a_process() -> None:
    lines = Lines()
    with Processes(lines) as running:
        child = running.start("one", python(FAMILY), {})
        first, left = lines.numbers()
        os.kill(first, signal.SIGKILL)
        child.process.wait()
        assert alive(left)
        running.restart(child)
        assert not alive(left)


def test_keep_running_restarts_children_until_it_is_stopped(started: list[subprocess.Popen[str]]) -> None:
    process = command(KEEPING.format(child=FAMILY), started)
    first = numbers(process)
    os.kill(first[0], signal.SIGKILL)
    assert process.stdout is not None
    assert process.stdout.readline() == "child    ended with -9: starting it again in 0 s\n"
    second = numbers(process)
    assert second[0] != first[0]
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert output == "stopping\n"
    assert process.returncode == 0
    assert not any(map(alive, first + second))


FAILING = "import sys; print('no weights'); sys.exit(3)"


def test_a_child_that_cannot_start_is_retried_after_a_growing_wait(
    started: list[subprocess.Popen[str]],
) -> None:
    code = KEEPING.format(child=FAILING).replace("RESTART_SECONDS = 0", "RESTART_SECONDS = 0.2")
    process = command(code.replace("serve.RESTART", "serve.LONGEST_WAIT_SECONDS = 0.8; serve.RESTART", 1), started)
    assert process.stdout is not None
    lines: list[str] = []
    while sum("ended with 3" in line for line in lines) < 4:
        lines.append(process.stdout.readline())
    assert sum("no weights" in line for line in lines) == 4
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


def test_waits_double_up_to_a_limit_and_reset_after_a_good_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "LONGEST_WAIT_SECONDS", 15.0)
    with Processes(Lines()) as running:
        child = running.start("one", python("import sys; sys.exit(3)"), {})
        child.process.wait()
        wait = serve.Wait()
        seconds = []
        for _ in range(4):
            wait.begin(child)
            seconds.append(wait.seconds)
        assert seconds == [5.0, 10.0, 15.0, 15.0]
        child.started -= serve.STABLE_SECONDS
        wait.begin(child)
        assert wait.seconds == 5.0


def test_a_free_port_can_be_listened_on() -> None:
    port = free_port()
    require_free("127.0.0.1", port, "PORT")
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_port_in_use_is_refused_with_the_setting_to_change() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(InvalidRequest, match=rf"port {taken.getsockname()[1]} is in use.*another TSAL_PORT"),
    ):
        require_free("127.0.0.1", taken.getsockname()[1], "TSAL_PORT")


def test_a_port_of_ipv6_in_use_is_refused_and_a_free_one_is_not() -> None:
    port = free_port()
    require_free("::1", port, "TSAL_PORT")
    with (
        socket.create_server(("::1", port), family=socket.AF_INET6),
        pytest.raises(InvalidRequest, match=rf"port {port} is in use"),
    ):
        require_free("::1", port, "TSAL_PORT")


def test_embedded_redis_keeps_its_data_and_listens_on_its_socket_only(tmp_path: Path) -> None:
    folder = tmp_path / ("a long name " * 12)
    start, url = embedded_redis(folder)
    assert embedded_redis(folder) == (start, url)
    assert embedded_redis(tmp_path / "another")[1] != url
    for value in (None, b"kept"):
        with Processes(Lines()) as running:
            server = psutil.Process(running.start("redis", start, {}).process.pid)
            wait_for(lambda: redis_answers(url))
            with connect(url) as redis:
                assert redis.get("name") == value
                redis.set("name", "kept")
            assert server.net_connections("inet") == []
            server.kill()
    assert not alive(server.pid)
