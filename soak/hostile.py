"""Hostile requests, as anybody who reaches a backend might send them: each must be refused or ignored, none do damage.

Valid requests are damaged at random, and written to a socket as bytes because no HTTP library would send most of them.
The same seed makes the same requests, so that one can be found again by its number.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from ml_backend.loop.confirm import ACTIONS, TRAIN
from ml_backend.settings import load
from ml_backend.studio.configuration import Configuration
from ml_backend.web.access import SECRET_HEADER
from ml_backend.web.app import MAX_BODY_BYTES, create_app

LABEL_STUDIO = ("/predict", "/setup", "/webhook")
FRAME = "/data/local-files/?d=1.png"
ANSWER_SECONDS = 60.0
QUERY = ("by", "group", "name", "next", "page", "what")  # of the lead's page
KEPT = 20  # offences that are kept
EXCERPT = 400
# Nobody's project: work that is enqueued for it fails in the worker and costs no real project anything.
STRANGER = 999_999_999_999_999_999
LATE = 599  # not a status of HTTP: nothing came in time
NOT_IMPLEMENTED = 501  # HTTP's answer to an unknown transfer coding
STATUS = re.compile(rb"^HTTP/1\.[01] ([2-9]\d\d)", re.MULTILINE)
BORN = re.compile(rb"^tsal_predictions_created .*", re.MULTILINE)

# fmt: off
# Texts in the place of a JSON value; the last ones are not JSON.
ODD_VALUES = (
    "null", "true", "false", "0", "-1", "1.5", "-0.0", "1e400", "NaN", "Infinity", "-Infinity",
    *(str(number) for number in (2**31, 2**63 - 1, 2**63, -(2**63) - 1, 2**200)), "9" * 4300, "9" * 4301,
    "1." + "9" * 10_000, '""', '"7"', '"\\u0000"', '"\\ud800"', '"\\udfff\\ud800"', '"\\u202e\\ufeff"',
    '"7\\r\\nX: y"', '"../../etc"', '"%s%n{0}$image"', '"' + "a" * 1_000_000 + '"', '"' + "é" * 70_000 + '"', "[]",
    "{}", "[[]]", "[null]", "[" + "1," * 5000 + "1]", "[" + "{}," * 5000 + "{}]", '{"id": 7, "id": "7"}',
    '{"__class__": {}}', '{"": {"": ""}}', '{"id": 1e0, "task": true}', "undefined", "'7'", "7,", "", "0x7", "+7",
    "07", '"\x01"', '"\udcff"',
)
ODD_PROJECTS = (
    "", "0", "-7", "7.", "7.5.", "7e1", "07", "+7", "true", "null", "nan", "٧", "７", "%00", "7%00", "7%0a", "%ff", "%",
    "%zz", "%u0037", "../7", "..%2f..%2f7", "7/../8", "7;8", "7&project=8", "7#8", "[7]", "9" * 18, "9" * 19,
    "9" * 4000, "\udcff", "%ed%a0%80", "*", "%F0%9F%AB%81",
)
ODD_ADDRESSES = (
    "file:///etc/passwd", "/etc/passwd", "gopher://127.0.0.1:6379/_FLUSHALL", "ftp://localhost/x", "javascript:1",
    "http://127.0.0.1/", "http://127.0.0.1:22/x", "http://localhost:6379/", "http://[::1]/", "http://0/",
    "http://0x7f.1", "http://2130706433/", "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/x.png",
    "https://192.168.0.1/", "http://example.com/redirect?to=http://127.0.0.1/", "https://example.com:8443/a.png",
    "//example.com/a.png", "http://user:password@example.com/a.png", "http://127.0.0.1@example.com/",
    "http://example.com\\@127.0.0.1/", "http://example.com:0/", "http://example.com:99999/",
    "http://example.com:port/", "http://[::1", "http://[v1.x]/", "http://", "http:///x", "http:x",
    "HTTP://EXAMPLE.COM./", "http://" + "a" * 300 + "/", "http://é.example/\x00", "http://example.com/a\r\nHost: b",
    "http://xn--a/", "http://a..b/", "http://%31%32%37.0.0.1/", "http://①②⑦.0.0.1/",
    "data:image/png;base64,iVBORw0KGgo=", "data:text/html,<script>", "data:" + "A" * 100_000, "blob:x", "x", "", " ",
    "/data/local-files/?d=../../etc/passwd", "/data/local-files/?d=/etc/passwd", "/data/local-files/?d=..%2f..%2fetc",
    "/data/local-files/?d=%00", "/data/local-files/?d=x%00.png", "/data/local-files/?d=" + "a/" * 3000,
    "/data/local-files/", "/data/local-files/?d=a&d=b", "/data/local-files/?d=.", "/data/local-files/?d=%ff%fe",
    "/data/local-files/../api", "/data/upload/../../api/users/", "/data/upload/%2e%2e/%2e%2e/api/",
    "/data/upload/7/x.png", "/data/upload/[", "/api/", "/storage-data/uploaded/?filepath=../../x",
    "/tasks/1/resolve/?fileuri=x", "s3://bucket/../x", "gs://", "azure-blob://é", "s3://" + "b" * 5000,
)
ODD_PATHS = (
    "/", "//", "/nowhere", "/train", "/predict/", "//predict", "/Predict", "/predict%00", "/predict;x", "/./predict",
    "/../predict", "/%2e%2e/setup", "/setup%2f", "/static/x", "/static/../../etc/passwd", "/static/%2e%2e/%2e%2e/x",
    "/%00", "/%ff", "/%", "/%zz", "/\udcff", "/é", "/" + "a" * 4000, "/" + "a/" * 2000, "/health?x=" + "y" * 3000,
    "/.env", "/.git/config", "/metrics/..", "/predict#x", "http://example.com/predict", "/{{7*7}}", "/<script>",
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "X" * 20)
CONTENT_TYPES = (
    "text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=x",
    "application/json; charset=utf-16", "application/json; charset=nonsense", "application/vnd.api+json", "json",
    "application/json; charset*=x''%ff", "text/html", "application/octet-stream", "\udcff", "a/b/c", "*/*", ";;;",
)
ODD_HEADERS = (
    *(("Content-Type", value) for value in CONTENT_TYPES),
    *(("Content-Length", value) for value in ("-1", "x", "", "+5", "0x10", "1_0", "5, 5", "5\r\nContent-Length: 6")),
    *(("Content-Length", value) for value in ("0", "1", str(MAX_BODY_BYTES + 1), "9" * 30, "9" * 5000, "５")),
    *(("Transfer-Encoding", value) for value in ("chunked", "gzip", "chunked, chunked", "identity", "xchunked", "x")),
    *(("Content-Encoding", value) for value in ("gzip", "br", "nonsense", "gzip, gzip", "\udcff")),
    *(("Expect", value) for value in ("100-continue", "nonsense", "")),
    *(("Host", value) for value in ("", "a b", "x" * 300, "[::1", "a..b", "\udcff", "a:x", "a\r\nHost: b", "@", "/")),
    ("X-Forwarded-Proto", "https\r\nX-Forwarded-Ssl: off"), ("X-Forwarded-For", "\udcff"), ("Forwarded", "for=;;"),
    ("SCRIPT_NAME", "/nowhere"), ("Script-Name", "/nowhere"), ("PATH_INFO", "/nowhere"), ("X_Y", "z"),
    ("Connection", "upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"), ("Upgrade", "websocket"),
    ("Range", "bytes=9-1"), ("Cookie", "=;=;\udcff=" + "x" * 4000), ("If-None-Match", '"'), ("Accept", "\udcff"),
    ("Accept-Encoding", "gzip;q=x"), ("X-Injected", "a\r\nb"), ("X-Injected", "a\r\n folded"),
    ("X-Injected", "a\nX: b"), ("X-Injected", "a\x00b"), ("X-Long", "x" * 9000),
    ("X-Many", "\r\n".join(["x", *("Y: z" for _ in range(200))])), ("é", "x"), ("", "x"), ("a b", "x"),
)
BROKEN_CHUNKS = (
    b"", b"0", b"0\r\n", b"x\r\n\r\n", b"-1\r\nx\r\n0\r\n\r\n", b"0x1\r\nx\r\n0\r\n\r\n", b" 1\r\nx\r\n0\r\n\r\n",
    b"1\r\nxy\r\n0\r\n\r\n", b"5\r\nx\r\n0\r\n\r\n", b"f" * 40 + b"\r\nx\r\n0\r\n\r\n", b"f" * 10_000, b"1\nx\n0\n\n",
    b"1;=\r\nx\r\n0\r\n\r\n", b'1;a="\r\nx\r\n0\r\n\r\n', b"1;a\rb\r\nx\r\n0\r\n\r\n", b"\r\n", b"1_0\r\n" + b"x" * 16,
    b"0\r\nbad header\r\n\r\n", b"0\r\nX: y\nZ: a\r\n\r\n", b"0\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
    b"0\r\n: \r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n", b"\xff\r\n\r\n", b"ffffffffffffffff\r\nx",
)
NONSENSE = (
    b"", b"\r\n\r\n", b"\x00", b"GET", b"GET /", b"GET /health\r\n\r\n", b"GET  /health  HTTP/1.1\r\n\r\n",
    b"/ GET\r\n\r\n", b"GET /health HTTP/9.9\r\n\r\n", b"GET /health HTTP/1.1.1\r\n\r\n",
    b"GET /health http/1.1\r\n\r\n", b"GET /health HTTP/2.0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 9, b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.0\r\n\r\n", b"*1\r\n$8\r\nFLUSHALL\r\n", b"SSH-2.0-OpenSSH\r\n",
    b"GET http://[ HTTP/1.1\r\n\r\n", b"GET //[ HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost\r\n\r\n", b"GET / HTTP/1.1\r\n: a\r\n\r\n", b"GET / HTTP/1.1\r\n a: b\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
    b"A" * 100_000, b"GET / HTTP/1.1\r\nA: " + b"b" * 500_000 + b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 50,
    b"\xff" * 1000, b"G\xc3\x89T / HTTP/1.1\r\n\r\n", b"GET /\x00 HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET / HTTP/1.0\r\nHost: \r\n\r\n",
    b"GET /?\xff=\xfe HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n",
)
_BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
ODD_CONFIGURATIONS = (
    f'<!DOCTYPE View [<!ENTITY e0 "boom">{_BOMB}]><View>&e11;</View>',
    f'<!DOCTYPE View [<!ENTITY e "{"a" * 100_000}">]><View>{"&e;" * 10_000}</View>',
    '<!DOCTYPE View [<!ENTITY e SYSTEM "file:///etc/passwd">]><View>&e;</View>',
    '<!DOCTYPE View [<!ENTITY % e SYSTEM "http://127.0.0.1:1/x.dtd">%e;]><View/>',
    '<!DOCTYPE View SYSTEM "http://127.0.0.1:1/x.dtd"><View/>', "<View", "", " ", "View", "<View/>", "</View>",
    "<View></Vie>", "<View/><View/>", "\ufeff<View/>", "<View>&amp</View>",
    "<?xml version='1.0' encoding='utf-16'?><View/>", "<?xml version='1.0' encoding='x'?><View/>", "<?xml?><View/>",
    "<View a='1' a='2'/>", "<a:View/>", "<View xmlns='http://example.com'/>", "<!-- <View/> -->",
    "<![CDATA[<View/>]]>", "<View>\x00</View>", "<View>\ud800</View>", "<View>&#xD800;</View>", "<View>&#0;</View>",
    "<View>&unknown;</View>", *("<View>" * depth + "</View>" * depth for depth in (300, 1000, 50_000)),
    '<View><Text name="t" value="$t"/><Choices name="c" toName="t" choice="multiple"><Choice value="a"/></Choices>'
    "</View>",
    '<View><xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd" parse="text"/></View>',
    f"<View>{'<Choice/>' * 20_000}</View>", "<View " + " ".join(f'a{n}=""' for n in range(5000)) + "/>",
)
# Texts in the place of an attribute, the beginning of a tag or the end of one.
ODD_XML = (
    '""', '"$"', '"$image"', '"${x}"', '"true"', '"multiple"', '"image,image"', '"]]>"', '"&#x10FFFF;"', '"\ud800"',
    "''", "<View", "<Image", "<Choices", "<Choice", "<Label", "<Repeater", "<TextArea", "<Style", "<x:y", "<!--", "<",
    "</View>", "", "&", ">", '"' + "a" * 100_000 + '"', '"\\"', '"{{x}}"', '"image" perRegion="true"',
    '"image" value="$other"',
)
ODD_AUTHORIZATIONS = (
    None, "", "Basic", "Basic ", "Basic =", "Basic !!!!", "Basic 77+9", "Basic é", "Basic \udcff", "Basic x, Basic y",
    "Basic " + "A" * 7000, "basic " + "=" * 9, "Basic //46/f4=", "Bearer x", "Negotiate é", "\udcff",
    'Digest username="x"',
    "Digest username*=utf-16''%ff", "Digest username*=utf-8''%ed%a0%80", "Digest =", "Digest \x01", ", ,",
)
# fmt: on


@dataclass(frozen=True)
class Credentials:
    """What opens a backend: basic authentication, and the secret of webhooks."""

    user: str
    password: str
    secret: str


@dataclass(frozen=True)
class Hostile:
    """The bytes of one request; ``whole`` where they are valid HTTP, so that there must be an answer."""

    route: str
    content: bytes
    whole: bool = True


@dataclass(frozen=True)
class Offence:
    """A request that did damage (its number, from 0): the beginnings and ends of what was sent and answered."""

    number: int
    sent: str
    answer: str


@dataclass
class Tally:
    """The result of an attack; ``answered`` counts by status, 0 where the connection was closed without an answer."""

    tried: int = 0
    server_errors: int = 0
    answered: Counter[int] = field(default_factory=Counter)
    offences: list[Offence] = field(default_factory=list)

    def note(self, request: Hostile, answer: bytes, *, harm: bool) -> None:
        """Count one request and what was answered."""
        if harm:
            self.server_errors += 1
            if len(self.offences) < KEPT:
                sent, said = _excerpt(request.content), _excerpt(answer)
                self.offences.append(Offence(self.tried, sent, said))
        self.tried += 1
        self.answered[_status(answer)] += 1


def assault(
    base_url: str,
    credentials: Credentials,
    project: int,
    label_config: str,
    *,
    count: int,
    seed: int = 0,
) -> Tally:
    """Send ``count`` hostile requests to a running backend, then valid ones; what did damage is in the tally.

    Damage is a status of 500 or more, no answer to a whole request, a valid request that is refused at the end, or a
    process of the backend that was replaced by another. The project hears of annotations that nobody made, which
    the next poll corrects; training is only requested for a project that does not exist, where its job fails.
    """
    parts = urlsplit(base_url)
    address = parts.hostname or "", parts.port or 80
    maker = Maker(parts.netloc, credentials, project, label_config, seed)
    metrics = Hostile("/metrics", maker.request("GET", "/metrics"))
    born = BORN.findall(_ask(address, metrics))
    tally = Tally()
    for request in islice(maker.hostile(), count):
        answer = _ask(address, request)
        status = _status(answer)
        failed = status >= 500 and (request.whole or status != NOT_IMPLEMENTED)
        tally.note(request, answer, harm=failed or (request.whole and not status))
    for request in maker.valid():
        answer = _ask(address, request)
        tally.note(request, answer, harm=_status(answer) != 200)
    answer = _ask(address, metrics)
    tally.note(metrics, answer, harm=_status(answer) != 200 or not born or BORN.findall(answer) != born)
    return tally


def routes() -> dict[str, set[str]]:
    """Every route of the app with its methods."""
    found: dict[str, set[str]] = {}
    for rule in create_app(load(host="127.0.0.1")).url_map.iter_rules():
        found.setdefault(rule.rule, set()).update(rule.methods or ())
    return found


class Maker:
    """Makes the requests to the backend at ``host``, one after the other from one source of chance."""

    def __init__(self, host: str, credentials: Credentials, project: int, label_config: str, seed: int) -> None:
        self._chance = random.Random(seed)
        self._host = host
        self._credentials = credentials
        self._project = project
        self._label_config = label_config
        self._image_key = Configuration.parse(label_config).image_key
        known = routes()
        self._routes = sorted(known)
        self._takers = LABEL_STUDIO
        posted = {route for route, methods in known.items() if "POST" in methods}
        self._forms = sorted(posted - set(LABEL_STUDIO))

    def hostile(self) -> Iterator[Hostile]:
        """Hostile requests without end, most of them with the right password so that they get to the parsers."""
        kinds: dict[Callable[[], Hostile], int] = {
            self._body: 12,
            self._frames: 4,
            self._configuration: 4,
            self._query: 2,
            self._other_route: 5,
            self._form: 3,
            self._evidence: 2,
            self._stranger: 1,
            self._header: 4,
            self._chunks: 2,
            self._nonsense: 2,
        }
        while True:
            yield self._chance.choices(list(kinds), list(kinds.values()))[0]()

    def valid(self) -> Iterator[Hostile]:
        """A valid request to each route that Label Studio uses."""
        yield Hostile("/health", self.request("GET", "/health"))
        for route in LABEL_STUDIO:
            content = self._content(route) | ({"action": "PROJECT_UPDATED"} if route == "/webhook" else {})
            yield Hostile(route, self.request("POST", route, json.dumps(content).encode()))

    def request(
        self, method: str, target: str, body: bytes = b"", changes: Mapping[str, str | None] | None = None
    ) -> bytes:
        """A request as bytes; ``changes`` are headers in the place of the right ones, None for those left out."""
        headers: dict[str, str | None] = {
            "Host": self._host,
            "Authorization": _basic(self._credentials.user, self._credentials.password),
            SECRET_HEADER: self._credentials.secret,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        lines = [f"{name}: {value}" for name, value in (headers | dict(changes or {})).items() if value is not None]
        head = "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""])
        return _encode(head) + body

    # What is valid, until it is damaged

    def _content(self, route: str) -> dict[str, Any]:
        """A valid body; a route that is not known here gets all that the others take."""
        chance, named = self._chance, f"{self._project}.1795374234"
        annotations = [
            {
                "id": chance.randint(1, 99),
                "task": chance.randint(1, 99),
                "was_cancelled": chance.random() < 0.2,
                "result": [{"from_name": "symptoms", "type": "choices", "value": {"choices": ["Healthy"]}}],
            }
            for _ in range(chance.randint(1, 3))
        ]
        action = chance.choice(ACTIONS)
        project = STRANGER if action == TRAIN else self._project
        bodies: dict[str, dict[str, Any]] = {
            "/setup": {"project": named, "schema": self._label_config, "hostname": "http://localhost"},
            "/predict": {
                "tasks": [self._task(number, FRAME) for number in range(1, chance.randint(2, 4))],
                "project": named,
                "label_config": self._label_config,
                "params": {"login": None, "context": None},
            },
            "/webhook": {
                "action": action,
                "project": {"id": project, "title": "Lungs"},
                **chance.choice(({"annotation": annotations[0]}, {"annotations": annotations})),
            },
        }
        return bodies.get(route) or {name: value for body in bodies.values() for name, value in body.items()}

    def _task(self, number: int, address: str) -> dict[str, Any]:
        predictions = [{"id": 1, "result": [{"value": {"choices": ["Healthy"]}}], "score": 0.5}]
        data = {self._image_key: address, "clip": "clip", "patient": "patient"}
        return {"id": number, "project": self._project, "data": data, "predictions": predictions}

    # Kinds of damage

    def _body(self) -> Hostile:
        """A body in which something is missing, of another type, huge, deep, or no JSON."""
        route = self._chance.choice(self._takers)
        return self._post(route, self._harmed(self._content(route)))

    def _frames(self) -> Hostile:
        """Tasks whose frames are where nobody should look."""
        addresses = self._chance.choices(ODD_ADDRESSES, k=self._chance.randint(1, 8))
        content = self._content("/predict")
        content["tasks"] += [self._task(number, address) for number, address in enumerate(addresses, start=50)]
        return self._post("/predict", json.dumps(content))

    def _configuration(self) -> Hostile:
        """A labelling configuration that is not XML, is a bomb, or differs from the project's."""
        route, name = self._chance.choice((("/setup", "schema"), ("/predict", "label_config")))
        whole = self._chance.random() < 0.4
        configuration = self._chance.choice(ODD_CONFIGURATIONS) if whole else self._harmed_configuration()
        return self._post(route, json.dumps(self._content(route) | {name: configuration}))

    def _query(self) -> Hostile:
        """An invalid project, in the address or in the body."""
        route, odd = self._chance.choice(self._takers), self._chance.choice(ODD_PROJECTS)
        content = self._content(route)
        content["project"] = self._chance.choice((content["project"], odd, None))
        queries = (f"project={odd}", f"project={odd}&project={self._project}", odd, f"&&=={odd}")
        return self._post(route, json.dumps(content), f"?{self._chance.choice(queries)}")

    def _form(self) -> Hostile:
        """A harmed body for a form of the lead's page, without the token of a session."""
        route = self._chance.choice(self._forms)
        return self._post(self._filled(route), self._harmed(self._content(route)))

    def _filled(self, route: str) -> str:
        """A route with odd values in the place of its parameters."""
        return re.sub("<[^>]*>", lambda _: self._chance.choice(ODD_PATHS)[1:], route)

    def _other_route(self) -> Hostile:
        """A route with another method, or none."""
        known = self._filled(self._chance.choice(self._routes))
        if self._chance.random() < 0.5:
            known += f"?{self._chance.choice(QUERY)}={self._chance.choice((*ODD_PROJECTS, *ODD_PATHS))}"
        route = self._chance.choice((known, known, self._chance.choice(ODD_PATHS)))
        method = self._chance.choice(METHODS)
        return Hostile(route, self.request(method, route, self._chance.choice((b"", b"{}", b"x" * 100))))

    def _evidence(self) -> Hostile:
        """The unsigned address of a picture, asked for without a password, from any page."""
        chance = self._chance
        digits = ["".join(chance.choices("0123456789abcdef", k=length)) for length in (32, 40)]
        parts = [str(self._project), *digits]
        if chance.random() < 0.5:
            parts[chance.randrange(3)] = chance.choice((*ODD_PROJECTS, *(path[1:] for path in ODD_PATHS)))
        route = f"/evidence/{'/'.join(parts)}.svg"
        origin = chance.choice((*ODD_ADDRESSES, *ODD_PATHS)).replace("\r", "").replace("\n", "")[:4000]
        return Hostile(
            route, self.request("GET", route, changes={"Authorization": None, "Origin": origin}), whole=False
        )

    def _stranger(self) -> Hostile:
        """Somebody without password and secret, or with odd ones."""
        user, password = self._credentials.user, self._credentials.password
        near = (_basic(user, "guess"), _basic("guess", password), _basic(user, ""), _basic(user, password + "\0"))
        changes = {
            "Authorization": self._chance.choice((*near, *ODD_AUTHORIZATIONS)),
            SECRET_HEADER: self._chance.choice((None, "", "guess", "é", "\udcff", "x" * 7000)),
        }
        route = self._chance.choice(self._routes)
        method, content = "POST" if route in self._takers else "GET", json.dumps(self._content(route)).encode()
        return Hostile(route, self.request(method, route, content, changes))

    def _header(self) -> Hostile:
        """A header that is wrong, doubled, long, or means something to a server."""
        route = self._chance.choice(self._takers)
        changes = dict(self._chance.choices(ODD_HEADERS, k=self._chance.choice((1, 1, 2))))
        content = self.request("POST", route, json.dumps(self._content(route)).encode(), changes)
        return Hostile(route, content, whole=False)

    def _chunks(self) -> Hostile:
        """A body in chunks that do not fit."""
        route = self._chance.choice(self._takers)
        body = json.dumps(self._content(route)).encode()
        middle = self._chance.randrange(1, len(body))
        pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:middle], body[middle:])]
        broken = b"".join([*pieces[: self._chance.randint(0, 2)], self._chance.choice(BROKEN_CHUNKS)])
        length = self._chance.choice((None, None, str(len(broken))))
        content = self.request("POST", route, broken, {"Transfer-Encoding": "chunked", "Content-Length": length})
        return Hostile(route, content, whole=False)

    def _nonsense(self) -> Hostile:
        """Bytes that are not HTTP, or no longer are."""
        route = self._chance.choice(self._takers)
        content = bytearray(self.request("POST", route, json.dumps(self._content(route)).encode()))
        kind = self._chance.choice(("none", "truncated", "changed"))
        if kind == "none":
            content[:] = self._chance.choice(NONSENSE)
        elif kind == "truncated":
            del content[self._chance.randrange(len(content)) :]
        else:
            for _ in range(self._chance.randint(1, 10)):
                content[self._chance.randrange(300)] = self._chance.randrange(256)
        return Hostile(route, bytes(content), whole=False)

    # How it is done

    def _post(self, route: str, text: str, query: str = "") -> Hostile:
        """Build a request with this body, whose encoding is sometimes not the one that it declares."""
        content, changes = _encode(text), {}
        place = self._chance.randint(0, len(content))
        kind = self._chance.choice(("plain",) * 20 + ("charset", "packed", "truncated", "bytes", "type"))
        if kind == "charset":
            charset = self._chance.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7"))
            content = content.decode(errors="replace").encode(charset)
        elif kind == "packed":
            content = gzip.compress(content, mtime=0)
            changes = {"Content-Encoding": self._chance.choice(("gzip", "deflate", "br"))}
        elif kind == "truncated":
            content = content[:place]
        elif kind == "bytes":
            content = content[:place] + self._chance.randbytes(3) + content[place:]
        elif kind == "type":
            changes = {"Content-Type": self._chance.choice(CONTENT_TYPES)}
        return Hostile(route, self.request("POST", route + query, content, changes))

    def _harmed(self, content: dict[str, Any]) -> str:
        """The JSON of a body, or nearly JSON, damaged in some places."""
        chance = self._chance
        values: list[str] = []
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            within, name = chance.choice(list(_places(content)))
            harm = chance.choice(("value",) * 6 + ("drop", "drop", "rename", "flood"))
            if harm == "value":
                # Texts that json.dumps would not write replace a mark later.
                within[name] = f"@{len(values)}@"
                values.append(self._value())
            elif harm == "drop":
                del within[name]
            elif harm == "rename" and isinstance(within, dict):
                within[chance.choice(("", "\ud800", "__class__", f"{name} ", name.upper()))] = within.pop(name)
            elif harm == "flood":
                within[name] = [within[name]] * chance.choice((2, 100, 2000))
                break  # a flood within a flood would be too much for ourselves
        text = json.dumps(content)
        for number, value in enumerate(values):
            text = text.replace(f'"@{number}@"', value)
        if chance.random() < 0.1:
            doubled = (
                f'"{chance.choice(("project", "action", "tasks", "label_config", "annotation"))}": {self._value()}'
            )
            text = chance.choice((f"{{{doubled}, {text[1:]}", f"{text[:-1]}, {doubled}}}"))
        return text

    def _value(self) -> str:
        """A text in the place of a JSON value."""
        if self._chance.random() < 0.85:
            return self._chance.choice(ODD_VALUES)
        # Python's limit on recursion lies near 1000; how soon it is reached depends on the parser.
        depth = self._chance.choice((100, 500, self._chance.randint(850, 1010), 100_000))
        return self._chance.choice(("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, "[" * depth))

    def _harmed_configuration(self) -> str:
        """The project's own labelling configuration with other attributes or tags."""
        text = self._label_config
        for _ in range(self._chance.choice((1, 1, 2, 3))):
            places = list(re.finditer(r'"[^"]*"|</?\w+', text))
            if places:
                place = self._chance.choice(places)
                text = text[: place.start()] + self._chance.choice(ODD_XML) + text[place.end() :]
        return text


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every place within JSON: what it is in, and its name or number there."""
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, part in parts:
        yield content, name
        yield from _places(part)


def _ask(address: tuple[str, int], request: Hostile) -> bytes:
    """Send a request, and read what comes until the server closes; nothing where there is none."""
    answer = bytearray()
    try:
        with socket.create_connection(address, ANSWER_SECONDS) as line:
            # A server may refuse before it has read everything; its answer is there all the same.
            with suppress(OSError):
                line.sendall(request.content)
                line.shutdown(socket.SHUT_WR)
            while block := line.recv(65_536):
                answer += block
    except TimeoutError:
        answer += b"\nHTTP/1.1 %d nothing came in time" % LATE
    except OSError:
        pass
    return bytes(answer)


def _status(answer: bytes) -> int:
    """The worst status of an answer, which may be several; 0 where there is none."""
    return max((int(status) for status in STATUS.findall(answer)), default=0)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _encode(text: str) -> bytes:
    """UTF-8, except that lone surrogates in the tables stand for bytes that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def _excerpt(content: bytes) -> str:
    text = content.decode(errors="backslashreplace")
    return text if len(text) <= 2 * EXCERPT else f"{text[:EXCERPT]} … {text[-EXCERPT:]}"
