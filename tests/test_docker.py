"""What can be checked of the container files without an engine: that they fit each other, the Makefile and the code."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
import rq
import yaml
from packaging.specifiers import SpecifierSet
from redis import Redis

from ml_backend.launch import serve
from ml_backend.launch.processes import Processes, embedded_redis, free_port
from ml_backend.services import Services
from ml_backend.settings import Settings, load
from ml_backend.store.heartbeat import SIDECAR, beat
from ml_backend.store.pending import connect

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = ROOT / "Dockerfile"
OURS = ("backend", "worker", "sidecar", "tools")
LONG_RUNNING = ("backend", "worker", "sidecar", "redis", "label-studio", "postgres")
SECRETS = {
    "TSAL_LABEL_STUDIO_TOKEN",
    "TSAL_WEBHOOK_SECRET",
    "TSAL_BASIC_AUTH_PASSWORD",
    "LABEL_STUDIO_PASSWORD",
    "POSTGRES_PASSWORD",
}
# A team may do without readers of the lead's page, without a PACS, and without buckets.
OPTIONAL = {"TSAL_LEAD_READER_PASSWORD", "TSAL_DICOMWEB_PASSWORD", "TSAL_DICOMWEB_TOKEN", "TSAL_S3_SECRET"}
SECRET_SETTINGS = {
    f"TSAL_{name.upper()}" for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)
} - OPTIONAL
FILES = ("docker-compose.yml", "docker-compose.secrets.yml")
VARIABLE = re.compile(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}")


# Dockerfile


def _instructions() -> list[tuple[str, str]]:
    """Pairs of instruction and argument, continued lines joined, comments dropped."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def _all(name: str) -> list[str]:
    return [argument for instruction, argument in _instructions() if instruction == name]


def _environment_of_image() -> dict[str, str]:
    return dict(pair.split("=", 1) for argument in _all("ENV") for pair in shlex.split(argument))


def _copied() -> list[str]:
    return [source for argument in _all("COPY") for source in argument.split()[:-1]]


def _ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out of the build: the last pattern that covers it or a parent decides."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = re.escape(line.removeprefix("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{pattern}(/.*)?", path):
            ignored = not line.startswith("!")
    return ignored


def _pip_installs(text: str) -> list[tuple[bool, set[str]]]:
    """What each ``pip install`` takes, in order: whether with --no-deps, and files and folders."""
    text = re.sub(r"\\\n\s*", "", text).replace("$(PIP)", "-m pip install")
    found = []
    for line in re.findall(r"-m pip install ([^\n&]*)", text):
        words = [word for word in shlex.split(line) if word not in ("--no-cache-dir", "--quiet")]
        pairs = {f"{option} {value}" for option, value in pairwise(words) if value[0] != "-"}
        found.append(("--no-deps" in words, {pair for pair in pairs if re.match("--(?!no-deps)", pair)}))
    return found


def _project(key: str) -> Any:
    """A value of pyproject.toml; by hand, because Python 3.10 has no reader of TOML."""
    (value,) = re.findall(rf"^{key} = (.*)$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    return json.loads(value)


def _taken(installs: list[tuple[bool, set[str]]]) -> set[tuple[bool, str]]:
    return {(alone, one) for alone, ones in installs for one in ones}


def test_the_base_image_is_pinned_and_its_python_is_one_that_we_support() -> None:
    (base,) = _all("FROM")
    match = re.fullmatch(r"python:(\d+\.\d+\.\d+)-slim-\w+", base)
    assert match, f"{base} is not an exact release of the slim Python image"
    assert match.group(1) in SpecifierSet(_project("requires-python"))


def test_the_build_copies_existing_files_and_all_that_the_image_needs() -> None:
    packages = {package.rstrip("*") for package in _project("include")}
    needed = {"pyproject.toml", _project("readme"), "requirements", "label_config", *packages}
    assert set(_copied()) == needed
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for source in _copied():
        assert (ROOT / source).exists()
        inside = [path for path in tracked if path == source or path.startswith(f"{source}/")]
        assert not [path for path in [source, *inside] if _ignored(path)]


@pytest.mark.parametrize(
    "path",
    [
        *(".env", ".env.example", "scripts/.env", ".git/config", ".venv/bin/python", ".venv-label-studio/bin/python"),
        *("data/projects/1/active", "runs/demo-report.json", "tests/test_docker.py", "docker-compose.yml"),
        *("ml_backend/__pycache__/a.pyc", "ml_backend/tsal/__pycache__/a.pyc"),
    ],
)
def test_secrets_data_and_history_stay_out_of_the_build(path: str) -> None:
    assert _ignored(path)


def test_the_same_files_are_installed_as_by_make_install() -> None:
    recipe = re.search(r"^\$\(VENV\)/\.installed:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    made = _pip_installs(recipe.group(1))
    assert len(made) == 2, "the recipe has changed: look at the Dockerfile too"
    in_image = _pip_installs("\n".join(_all("RUN")))
    for_development = {(False, "--requirement requirements/development.txt"), (True, "--editable .")}
    extras = {(False, "--requirement requirements/image.in")}
    assert _taken(in_image) == _taken(made) - for_development | extras
    assert next(ones for alone, ones in in_image if not alone) == {"--requirement requirements/lock.txt"}
    for _, ones in in_image:
        for one in ones:
            assert (ROOT / one.split()[1]).exists()


def test_the_image_has_every_extra_but_what_is_under_the_gpl() -> None:
    text = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]\n")[1].split("\n\n")[0]
    extras = dict(re.findall(r"^(\w+) = \[(.*?)\]", text, re.MULTILINE | re.DOTALL))
    del extras["dicom"]
    wanted = set(re.findall(r'"([\w-]+)[^"]*"', " ".join(extras.values())))
    lines = (ROOT / "requirements" / "image.in").read_text().splitlines()
    constraint, *names = (line for line in lines if not line.startswith("#"))
    assert constraint == "--constraint development.txt"
    assert set(names) == wanted
    pinned = (ROOT / "requirements" / "development.txt").read_text()
    assert wanted <= {line.partition("==")[0] for line in pinned.splitlines()}


def test_files_are_copied_before_they_are_installed() -> None:
    present: set[str] = set()
    for name, argument in _instructions():
        if name == "COPY":
            present.update(argument.split()[:-1])
        for _, ones in _pip_installs(argument) if name == "RUN" else []:
            assert {one.split()[1].split("/")[0] for one in ones} <= present
    assert shlex.split(_all("RUN")[1])[-1] == "."
    before = [argument for name, argument in _instructions() if name in ("COPY", "RUN")][:-1]
    installed = next(place for place, argument in enumerate(before) if argument.endswith(" ."))
    assert {argument.split()[0] for argument in before[:installed]} >= {"pyproject.toml", "ml_backend", "label_config"}


def test_the_image_does_not_run_as_root_and_its_volumes_belong_to_the_user() -> None:
    names = [name for name, _ in _instructions()]
    user, group = _all("USER")[-1].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert "RUN" not in names[names.index("USER") :]
    prepared = next(argument for argument in _all("RUN") if "useradd" in argument)
    assert f"useradd --uid {user} --gid {group} " in prepared
    folders = prepared.split("install --directory --owner=annotator --group=annotator ")[1].split()
    targets = {volume.split(":")[1] for name in OURS for volume in _service(name)["volumes"]}
    assert targets <= set(folders)


def test_data_is_written_to_the_volume_and_to_tmp_only() -> None:
    environment = _environment_of_image()
    assert {environment["TSAL_DATA_DIR"], environment["TSAL_CACHE_DIR"]} == set(json.loads(_all("VOLUME")[-1]))
    assert Path(environment["TORCH_HOME"]).is_relative_to(environment["TSAL_DATA_DIR"])
    assert environment["HOME"] == environment["TMPDIR"] == "/tmp"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"


def test_the_image_knows_no_secret_no_unknown_setting_and_no_registry() -> None:
    names = {name for name in _environment_of_image() if name.startswith("TSAL_")}
    assert names <= {f"TSAL_{field.upper()}" for field in Settings.model_fields}
    assert not names & SECRETS
    addresses = re.findall(r"\w+://[\w.]+", "\n".join(argument for _, argument in _instructions()))
    assert addresses == ["http://127.0.0.1"]
    assert "ADD" not in {name for name, _ in _instructions()}


def test_the_image_runs_the_backend_that_listens_where_the_image_says() -> None:
    assert json.loads(_all("CMD")[-1]) == ["tsal", "backend"]
    assert [_environment_of_image()["TSAL_PORT"]] == _all("EXPOSE")


# Compose


def _compose(name: str = FILES[0]) -> dict[str, Any]:
    content = yaml.safe_load((ROOT / name).read_text())
    assert isinstance(content, dict)
    return content


def _service(name: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    service = _filled(_compose()["services"][name], environment or dict.fromkeys(SECRETS, "secret"))
    assert isinstance(service, dict)
    return service


def _filled(value: Any, environment: dict[str, str]) -> Any:
    """Compose's interpolation: ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}``."""
    if isinstance(value, dict):
        return {name: _filled(one, environment) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, environment) for one in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        name, operator, word = match.groups()
        given = environment.get(name, "")
        if not given and operator == ":?":
            raise LookupError(f"{name}: {word}")
        return given or (word if operator == ":-" else "")

    return VARIABLE.sub(fill, value)


def _uses() -> list[tuple[str, str | None]]:
    """Every variable of the compose files with its operator; those handed on as they are have none."""
    text = "".join((ROOT / name).read_text() for name in FILES)
    used = [(name, operator or None) for name, operator, _ in VARIABLE.findall(text)]
    for name in OURS:
        used += [(variable, None) for variable, value in _service(name)["environment"].items() if value is None]
    return used


def _example() -> dict[str, str]:
    """The lines NAME=value of .env.example, those behind a # too."""
    return dict(re.findall(r"^(?:# )?([A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))


def _example_in_force() -> dict[str, str]:
    return dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))


def _filled_in() -> dict[str, str]:
    """The example as somebody who filled in the secrets has it."""
    return {**_example_in_force(), **{name: f"{name} of the team" for name in SECRETS}}


def _environment(name: str, given: dict[str, str]) -> dict[str, str]:
    """What a container of the service has in its environment."""
    environment = _service(name, given)["environment"]
    handed_on = {variable: given[variable] for variable in environment if variable in given}
    return {**{k: v for k, v in environment.items() if v is not None}, **handed_on}


def _networks(name: str) -> dict[str, list[str]]:
    """A service's networks, each with the names that it is known by there."""
    networks = _service(name)["networks"]
    if isinstance(networks, list):
        networks = dict.fromkeys(networks)
    return {network: [name, *((about or {}).get("aliases", []))] for network, about in networks.items()}


def _reaches(name: str, url: str) -> str:
    """The service that an address leads to from another one."""
    host = urlsplit(url).hostname
    reached: list[str] = [
        other
        for other in _compose()["services"]
        for network, known in _networks(other).items()
        if host in known and network in _networks(name)
    ]
    assert len(reached) == 1, f"{name} finds {host} {len(reached)} times"
    return reached[0]


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without settings."""
    for name in [name for name in os.environ if name.startswith("TSAL_")]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    command, url = embedded_redis(tmp_path)
    with Processes(lambda name, line: None) as processes:
        processes.start("redis", command, {})
        serve.wait_for_redis(url)
        yield url


class _Recorder(Processes):
    """Notes what would be started."""

    def __init__(self) -> None:
        super().__init__(lambda name, line: None)
        self.commands: dict[str, list[str]] = {}

    def start(self, name: str, command: Any, environment: Any, patience: Any = None) -> Any:
        self.commands[name] = list(command)


def test_every_service_is_defined() -> None:
    assert set(_compose()["services"]) == {*OURS, *LONG_RUNNING}


def test_the_commands_are_those_that_serve_starts(clean: pytest.MonkeyPatch, redis_url: str) -> None:
    recorder = _Recorder()
    serve.start(recorder, load(host="0.0.0.0", port=free_port(), redis_url=redis_url))
    assert set(recorder.commands) == {"backend", "worker", "sidecar"}
    for name, command in recorder.commands.items():
        assert command == [sys.executable, "-m", "ml_backend", name]
        assert _service(name)["command"] == ["tsal", name]
        assert "entrypoint" not in _service(name)
    assert _service("tools")["entrypoint"] == ["tsal"]


@pytest.mark.parametrize("name", OURS)
def test_every_setting_can_be_set_and_no_other_is_named(name: str) -> None:
    wanted = {f"TSAL_{field.upper()}" for field in Settings.model_fields}
    assert set(_service(name)["environment"]) == wanted, "settings and docker-compose.yml differ"


def test_every_variable_is_in_the_example_and_no_other() -> None:
    assert {name for name, _ in _uses()} | {"COMPOSE_PROFILES", "COMPOSE_FILE"} == set(_example())


def test_no_secret_has_a_default_and_each_must_be_set() -> None:
    for name in SECRETS:
        assert {operator for used, operator in _uses() if used == name} == {":?"}
        assert _example_in_force()[name] == ""
        with pytest.raises(LookupError, match=f"{name}: .*env"):
            _filled(_compose(), {**_filled_in(), name: ""})
    assert SECRET_SETTINGS <= SECRETS


def test_an_optional_secret_has_no_default_either() -> None:
    given = [service.get("environment", {}) for service in _compose()["services"].values()]
    for name in OPTIONAL:
        assert _example()[name] == ""
        values = [environment[name] for environment in given if name in environment]
        assert values
        assert set(values) == {None}


def test_the_filled_in_example_makes_settings_that_work(clean: pytest.MonkeyPatch) -> None:
    for name in ("backend", "worker", "sidecar", "tools"):
        with clean.context() as patch:
            for variable, value in _environment(name, _filled_in()).items():
                patch.setenv(variable, value)
            settings = load()
        settings.require_authentication()
        assert settings.token() == "TSAL_LABEL_STUDIO_TOKEN of the team"
        assert _reaches(name, settings.label_studio_url) == "label-studio"
        assert _reaches(name, settings.redis_url or "") == "redis"
        assert _reaches("label-studio", settings.backend_url) == "backend"
        assert "." in (urlsplit(settings.backend_url).hostname or ""), "Label Studio takes no webhook for such a host"
        assert urlsplit(settings.backend_url).port == settings.port


def test_secrets_come_from_files_where_the_second_file_is_named(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert _example()["COMPOSE_FILE"].split(":") == list(FILES)
    assert "COMPOSE_FILE" not in _example_in_force()
    added = _filled(_compose(FILES[1]), {"SECRETS": "/srv/annotator-secrets"})
    assert set(added["services"]) == set(OURS)
    names = {name.lower() for name in SECRET_SETTINGS}
    assert added["secrets"] == {name: {"file": f"/srv/annotator-secrets/{name}"} for name in names}
    for name in names:
        (tmp_path / name).write_text(f"{name} in a file\n")
    for name, about in added["services"].items():
        assert set(about["secrets"]) == names
        # Compose puts the variables of the second file over those of the first.
        environment = _environment(name, _filled_in()) | about["environment"]
        assert not [value for value in environment.values() if "of the team" in value]
        assert environment["TSAL_SECRETS_DIR"] == "/run/secrets"  # where Compose mounts each under its name
        with clean.context() as patch:
            for variable, value in (environment | {"TSAL_SECRETS_DIR": str(tmp_path)}).items():
                patch.setenv(variable, value)
            settings = load()
        settings.require_authentication()
        found = {one: getattr(settings, one.removeprefix("tsal_")).get_secret_value() for one in names}
        assert found == {one: f"{one} in a file" for one in names}
    with pytest.raises(LookupError, match=r"SECRETS: .*env"):
        _filled(_compose(FILES[1]), _filled_in())


def test_without_a_folder_of_frames_label_studio_is_asked(clean: pytest.MonkeyPatch) -> None:
    given = {name: value for name, value in _filled_in().items() if name != "TSAL_DOCUMENT_ROOT"}
    for variable, value in _environment("backend", given).items():
        clean.setenv(variable, value)
    assert load().document_root is None


def test_label_studio_and_our_processes_see_the_same_frames_and_only_tools_may_write() -> None:
    root = _environment("label-studio", _filled_in())["LOCAL_FILES_DOCUMENT_ROOT"]
    assert _example_in_force()["TSAL_DOCUMENT_ROOT"] == root
    for given in ({}, {"FRAMES": "/srv/frames"}):
        environment = {**_filled_in(), **given}
        source = environment.get("FRAMES", "frames")
        for name in ("backend", "worker", "sidecar", "label-studio"):
            assert f"{source}:{root}:ro" in _service(name, environment)["volumes"]
        assert f"{source}:{root}" in _service("tools", environment)["volumes"]


def test_versions_and_the_cache_are_shared(clean: pytest.MonkeyPatch) -> None:
    caches = set()
    for name in ("backend", "worker", "sidecar"):
        given = _environment(name, _filled_in())
        settings = load(data_dir=given["TSAL_DATA_DIR"], cache_dir=given["TSAL_CACHE_DIR"])
        mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in _service(name)["volumes"]}
        assert mounted[str(settings.data_dir)] == "data"
        caches.add(mounted[str(Services(settings).predictor._features.folder)])
    assert caches == {"cache"}
    assert {"data:/data", "cache:/cache"} <= set(_service("tools")["volumes"])


def test_named_volumes_and_networks_are_declared_and_used() -> None:
    services = _compose()["services"]
    sources = {volume.split(":")[0] for name in services for volume in _service(name).get("volumes", [])}
    assert sources == set(_compose()["volumes"])
    assert {network for name in services for network in _networks(name)} == set(_compose()["networks"])


def test_images_are_pinned_and_label_studio_is_the_one_that_is_tested() -> None:
    for name in _compose()["services"]:
        image = _service(name)["image"]
        if name in OURS:
            assert (image, _service(name)["build"]["context"]) == ("lung-ultrasound-annotator:local", ".")
            assert set(_service(name)["build"]["args"]) == {arg.split("=")[0] for arg in _all("ARG")}
        else:
            assert re.search(r":\d+\.\d+(\.\d+)?(-\w+)?$", image), f"{image} is not pinned"
    (tested,) = re.findall(r"^label-studio==(\S+)$", (ROOT / "requirements/label-studio.txt").read_text(), re.MULTILINE)
    assert _service("label-studio")["image"].endswith(f":{tested}")


@pytest.mark.parametrize("name", [*LONG_RUNNING, "tools"])
def test_containers_have_no_rights_that_they_do_not_need(name: str) -> None:
    service = _service(name)
    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "ipc", "network_mode", "devices"} & set(service)
    if name in OURS:
        assert "user" not in service, "the image's own user"
    else:
        assert service["user"].split(":")[0] not in ("", "0", "root")


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_services_have_health_checks_that_others_wait_for(name: str) -> None:
    service = _service(name)
    if name != "backend":  # the image's own
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert set(service["healthcheck"]) >= {"interval", "timeout", "start_period"}
    assert service["restart"] == "unless-stopped"
    profiles = set(service.get("profiles", []))
    for other, about in service.get("depends_on", {}).items():
        assert about["condition"] == "service_healthy"
        asleep = not set(_service(other).get("profiles", [])) <= profiles
        assert about.get("required", True) is not asleep, f"{other} may be missing where {name} runs"


def test_ports_are_published_on_this_machine_only() -> None:
    for name in _compose()["services"]:
        published = _service(name).get("ports", [])
        assert bool(published) == (name in ("backend", "label-studio"))
        assert all(ipaddress.ip_address(port.split(":")[0]).is_loopback for port in published)
    example = {**_filled_in(), "LABEL_STUDIO_PUBLISH": "0.0.0.0:80", "BACKEND_PUBLISH": "10.0.0.5:9090"}
    assert _service("label-studio", example)["ports"] == ["0.0.0.0:80:8080"]
    assert _service("backend", example)["ports"] == ["10.0.0.5:9090:9090"]


def test_redis_and_the_database_are_reached_by_those_who_need_them_only() -> None:
    networks = _compose()["networks"]
    for name, users in {"redis": set(OURS), "postgres": {"label-studio"}}.items():
        (network,) = _networks(name)
        assert networks[network]["internal"] is True
        assert {other for other in _compose()["services"] if network in _networks(other)} == users | {name}


def test_label_studio_may_call_the_backend_and_no_other_reserved_address() -> None:
    environment = _environment("label-studio", _filled_in())
    assert environment["USE_DEFAULT_BANNED_SUBNETS"] == "false"
    # Label Studio splits at commas and strips nothing.
    banned = [ipaddress.ip_network(entry) for entry in environment["USER_ADDITIONAL_BANNED_SUBNETS"].split(",")]

    def refused(address: Any) -> bool:
        return any(address in network for network in banned)

    (config,) = _compose()["networks"]["studio"]["ipam"]["config"]
    subnet, gateway = ipaddress.ip_network(config["subnet"]), ipaddress.ip_address(config["gateway"])
    assert [address for address in subnet.hosts() if refused(address)] == [gateway]
    for address in (
        *("0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.254"),
        *("192.168.1.1", "224.0.0.1", "255.255.255.255", "::", "::1", "fd00::1", "fe80::1", "::ffff:127.0.0.1"),
    ):
        assert refused(ipaddress.ip_address(address)), address
    assert not refused(ipaddress.ip_address("8.8.8.8"))


def test_label_studio_and_its_database_agree() -> None:
    studio, database = _environment("label-studio", _filled_in()), _environment("postgres", _filled_in())
    assert studio["DJANGO_DB"] == "default"
    for ours, theirs in (("NAME", "DB"), ("USER", "USER"), ("PASSWORD", "PASSWORD")):
        assert studio[f"POSTGRE_{ours}"] == database[f"POSTGRES_{theirs}"]
    assert _reaches("label-studio", f"//{studio['POSTGRE_HOST']}") == "postgres"
    assert database["POSTGRES_USER"] in _service("postgres")["healthcheck"]["test"]
    assert database["POSTGRES_DB"] in _service("postgres")["healthcheck"]["test"]
    assert studio["LABEL_STUDIO_USER_TOKEN"] == _environment("backend", _filled_in())["TSAL_LABEL_STUDIO_TOKEN"]


# Health checks, run


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/health" else 404)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def health() -> Iterator[HTTPServer]:
    """A server whose /health answers with its ``status``."""
    with HTTPServer(("127.0.0.1", 0), _Health) as server:
        server.status = 200  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def _healthy(command: list[str], **environment: str) -> bool:
    assert command[0].startswith("python")
    result = subprocess.run([sys.executable, *command[1:]], env={**os.environ, **environment}, capture_output=True)
    assert b"SyntaxError" not in result.stderr
    return result.returncode == 0


def test_the_image_is_healthy_while_the_backend_says_so(health: HTTPServer) -> None:
    options, _, command = _all("HEALTHCHECK")[-1].partition(" CMD ")
    assert "--interval" in options
    port = str(health.server_port)
    assert _healthy(json.loads(command), TSAL_PORT=port)
    health.status = 500  # type: ignore[attr-defined]
    assert not _healthy(json.loads(command), TSAL_PORT=port)
    assert not _healthy(json.loads(command), TSAL_PORT=str(free_port()))


def test_the_worker_is_healthy_while_redis_knows_one_of_this_host(redis_url: str) -> None:
    command = _service("worker")["healthcheck"]["test"][1:]
    assert not _healthy(command, TSAL_REDIS_URL=redis_url)
    with Redis.from_url(redis_url) as redis:
        elsewhere = rq.Worker(["any"], connection=redis)
        elsewhere.hostname = f"not-{socket.gethostname()}"
        elsewhere.register_birth()
        assert not _healthy(command, TSAL_REDIS_URL=redis_url)
        here = rq.Worker(["any"], connection=redis)
        here.register_birth()
        assert _healthy(command, TSAL_REDIS_URL=redis_url)
        redis.delete(here.key)  # as its time to live does
        assert not _healthy(command, TSAL_REDIS_URL=redis_url)


def test_the_sidecar_is_healthy_while_it_leaves_signs_of_life(redis_url: str) -> None:
    command = _service("sidecar")["healthcheck"]["test"][1:]
    assert not _healthy(command, TSAL_REDIS_URL=redis_url)
    with connect(redis_url) as redis:
        beat(lambda: redis, SIDECAR)
        assert _healthy(command, TSAL_REDIS_URL=redis_url)
        redis.flushdb()
        assert not _healthy(command, TSAL_REDIS_URL=redis_url)
    assert not _healthy(command, TSAL_REDIS_URL="unix:///nowhere")


def test_label_studio_is_healthy_while_it_answers(health: HTTPServer) -> None:
    *command, code = _service("label-studio")["healthcheck"]["test"][1:]
    port = _service("label-studio")["command"][-1]
    assert f":{port}/" in code
    assert _healthy([*command, code.replace(f":{port}/", f":{health.server_port}/")])
    health.status = 500  # type: ignore[attr-defined]
    assert not _healthy([*command, code.replace(f":{port}/", f":{health.server_port}/")])
