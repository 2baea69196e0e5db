from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import httpx
import pytest

from ml_backend.launch import serve
from ml_backend.launch.label_studio import answers, wait_until
from ml_backend.launch.processes import Processes, free_port, tsal
from ml_backend.loop.confirm import ACTIONS
from ml_backend.services import Services
from soak import hostile
from soak.hostile import KEPT, LATE, Credentials, Hostile, Maker, Tally, assault, routes
from tests.installation import PROJECT, XML, make_version, settings_in, task_with_frame

CREDENTIALS = Credentials("label-studio", "a-password", "a-secret")
RIGHT = b"Authorization: Basic bGFiZWwtc3R1ZGlvOmEtcGFzc3dvcmQ=\r\n"
LAST = 5  # a valid request to /health, /setup, /predict, /webhook, and /metrics
Answer = Callable[[bytes], bytes]


def made(number: int, seed: int = 0) -> list[Hostile]:
    """The first requests that a seed makes."""
    return list(islice(Maker("127.0.0.1:9090", CREDENTIALS, PROJECT, XML, seed=seed).hostile(), number))


@contextmanager
def server(answer: Answer, limit: int = -1) -> Iterator[str]:
    """A server that reads all that is sent, or so many bytes of it, and answers by a function; gives its address."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(answer(self.rfile.read(limit)))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_address[1]}"
        finally:
            listening.shutdown()
            thread.join()


def fine(_: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d Whatever\r\n\r\ntsal_predictions_created 1.0\n" % status


def attack(answer: Answer, requests: int, seed: int = 0) -> Tally:
    with server(answer) as url:
        return assault(url, CREDENTIALS, PROJECT, XML, count=requests, seed=seed)


class TestRequests:
    def test_a_seed_makes_the_same_requests_and_another_one_others(self) -> None:
        assert made(500) == made(500)
        assert made(500)[:20] != made(500, seed=1)[:20]

    def test_every_route_and_every_action_is_tried_and_most_requests_get_in(self) -> None:
        requests = made(3000)
        tried = {request.route for request in requests}
        for route in routes():
            pattern = re.compile(re.sub("<[^>]*>", ".+", route))
            assert any(pattern.fullmatch(one) for one in tried), route
        assert "/nowhere" in tried
        assert len(tried & set(hostile.ODD_PATHS)) > 20
        sent = b"".join(request.content for request in requests)
        for action in ACTIONS:
            assert f'"{action}"'.encode() in sent, action
        assert sum(RIGHT in request.content for request in requests) > 0.85 * len(requests)
        assert 0.6 < sum(request.whole for request in requests) / len(requests) < 0.9

    def test_every_sort_of_harm_comes_up(self) -> None:
        # fmt: off
        sorts = {
            b"NaN", b'"\\ud800"', b'"\\u0000"', b"9" * 4301, b"[" * 100_000, b"a" * 1_000_000, b"1,1,1,", b"\xff\xfe",
            b"<!ENTITY", b"file:///etc/passwd", b"169.254.169.254", b"../", b"data:image", b"s3://", b"\x1f\x8b",
            b"?project=%ff", b"Transfer-Encoding: gzip", b"Content-Length: -1", b"X-Injected", b"Expect:", b"\x16\x03",
            b"Content-Encoding: br", b"charset=nonsense", b"PRI * HTTP/2.0", b"PROPFIND ", "Basic é".encode(),
        }
        # fmt: on
        for request in made(5000):
            sorts -= {sort for sort in sorts if sort in request.content}
        assert not sorts

    def test_nobody_asks_for_training_of_the_project(self) -> None:
        trained = [request.content for request in made(3000) if b'{"action": "START_TRAINING"' in request.content]
        assert len(trained) > 50
        assert not any(b'"project": {"id": %d,' % PROJECT in content for content in trained)


class TestTally:
    def test_a_server_that_answers_everything_does_no_harm(self) -> None:
        tally = attack(fine, 40)
        assert (tally.tried, tally.server_errors, tally.offences) == (40 + LAST, 0, [])
        assert tally.answered == {200: 40 + LAST}

    def test_refusals_are_counted_by_status_but_not_of_valid_requests(self) -> None:
        sent = iter(count())
        # The first request asks what /metrics says before.
        tally = attack(lambda content: fine(content, 400 if next(sent) in range(1, 41) else 200), 40)
        assert (tally.answered, tally.server_errors) == ({400: 40, 200: LAST}, 0)
        tally = attack(lambda content: fine(content, 401), 40)
        assert (tally.answered, tally.server_errors) == ({401: 40 + LAST}, LAST)

    def test_a_status_of_500_is_an_offence_that_can_be_made_again(self) -> None:
        tally = attack(lambda content: fine(content, 500 if b"POST /setup" in content else 200), 400)
        guilty = [number for number, request in enumerate(made(400)) if b"POST /setup" in request.content]
        assert len(guilty) > KEPT
        assert tally.server_errors == len(guilty) + 1
        assert tally.answered[500] == len(guilty) + 1
        assert [offence.number for offence in tally.offences] == guilty[:KEPT]
        first = tally.offences[0]
        assert first.answer.split()[1] == "500"
        assert "POST /setup" in first.sent

    def test_only_what_is_no_http_may_be_left_without_an_answer(self) -> None:
        requests = made(100)
        expected = sum(request.whole for request in requests)
        assert 0 < expected < 100
        tally = attack(lambda content: fine(content) if b"GET /metrics" in content else b"", 100)
        counted = sum(request.whole and b"GET /metrics" not in request.content for request in requests)
        assert tally.server_errors == counted + LAST - 1

    def test_an_answer_counts_that_comes_before_everything_was_sent(self) -> None:
        flood = Hostile("/setup", b"POST /setup HTTP/1.1\r\n\r\n" + bytes(1_000_000))
        with server(fine, limit=10) as url:
            port = int(url.rpartition(":")[2])
            assert {hostile._ask(("127.0.0.1", port), flood) for _ in range(50)} == {fine(b"")}

    def test_an_unknown_transfer_coding_may_be_not_implemented_and_nothing_else(self) -> None:
        expected = sum(request.whole for request in made(100))
        assert attack(lambda content: fine(content, 501), 100).server_errors == expected + LAST

    def test_the_worst_of_several_answers_counts(self) -> None:
        tally = attack(lambda content: fine(content) + fine(content, 502) + fine(content), 3)
        assert tally.answered[502] == tally.server_errors == 3 + LAST

    def test_an_answer_that_does_not_come_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hostile, "ANSWER_SECONDS", 3.0)
        nonsense = next(number for number, request in enumerate(made(100)) if not request.whole)
        sent, over = iter(count()), threading.Event()

        def answer(content: bytes) -> bytes:
            if next(sent) == nonsense + 1:
                over.wait(60)
            return fine(content)

        with server(answer) as url:
            tally = assault(url, CREDENTIALS, PROJECT, XML, count=nonsense + 1)
            over.set()
        assert (tally.answered[LATE], tally.server_errors) == (1, 1)

    @pytest.mark.parametrize("said", [b"tsal_predictions_created %d.0\n", b"nothing of the kind %d"])
    def test_a_process_that_is_another_one_afterwards_counts(self, said: bytes) -> None:
        born = iter(count())
        tally = attack(lambda content: b"HTTP/1.1 200 OK\r\n\r\n" + said % next(born), 3)
        assert [offence.sent.split()[:2] for offence in tally.offences] == [["GET", "/metrics"]]


def test_the_backend_refuses_or_ignores_all_of_it(tmp_path: Path, redis_url: str) -> None:
    settings = settings_in(
        tmp_path,
        redis_url,
        port=free_port(),
        webhook_secret=CREDENTIALS.secret,
        basic_auth_user=CREDENTIALS.user,
        basic_auth_password=CREDENTIALS.password,
    )
    services = Services(settings)
    task = task_with_frame(tmp_path, 1)
    version = make_version(services, [task, task_with_frame(tmp_path, 2), task_with_frame(tmp_path, 3)], seed=1)
    services.versions(PROJECT).activate(version.version, by="a test")
    url = f"http://127.0.0.1:{settings.port}"
    log: list[str] = []
    with Processes(lambda name, line: log.append(line)) as processes:
        processes.start("backend", tsal("backend"), serve.environment(settings))
        wait_until(lambda: answers(f"{url}/health"), 120, "the backend does not answer", processes)
        tally = assault(url, CREDENTIALS, PROJECT, XML, count=400)
        body = {"tasks": [task], "project": str(PROJECT), "label_config": XML}
        answer = httpx.post(f"{url}/predict", json=body, auth=(CREDENTIALS.user, CREDENTIALS.password), timeout=60)
    assert tally.server_errors == 0, (tally.offences, log[-50:])
    assert tally.tried == 400 + LAST
    assert tally.answered[200] > 80
    assert {400, 401, 404, 405} <= tally.answered.keys()
    assert answer.json()["results"][0]["result"]
    assert not any("Traceback" in line for line in log)
