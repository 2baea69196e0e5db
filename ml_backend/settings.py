"""The one settings object: environment variables with the prefix ``TSAL_``, read once, typed, failing loudly."""

from __future__ import annotations

import os
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ml_backend import plugins
from ml_backend.errors import SettingsError
from ml_backend.plugins import Registry

PREFIX = "TSAL_"
TEST_PREFIX = "TSAL_TEST_"
DEMO_LABEL_STUDIO = "TSAL_DEMO_LABEL_STUDIO"
"""Names the demo's Label Studio; it is read by the demo alone, so it is no setting of the product."""
SECRETS = "TSAL_SECRETS_DIR"
# Names only: the strategies themselves are on a floor above, and so are the backbones.
STRATEGIES = ("mlm", "lc", "mle", "binmin", "random")
BACKBONES = ("resnet50", "resnet34", "resnet101", "vgg16", "efficientnet_lite0")
Disagreement = Literal["latest", "majority", "leave out"]
Accepted = Literal["keep apart", "train"]
SECTIONS = {
    "Label Studio": "label_studio_url",
    "The backend": "backend_url",
    "The evidence beside the frame": "evidence",
    "Where things are kept": "data_dir",
    "The network": "backbone",
    "The loop": "k_max",
    "Frames": "max_frame_bytes",
    "A PACS": "dicomweb_user",
}
"""Sections of the documentation, each with the first setting that belongs to it."""


class Settings(BaseSettings):
    """Everything a team can set; the description of each field is its documentation."""

    # An empty variable, as compose files make them, is not a value: above all it is no secret.
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    # Label Studio
    label_studio_url: str = Field("http://localhost:8080", description="address of your Label Studio")
    label_studio_token: SecretStr | None = Field(
        None, description="access token of a Label Studio user: a personal access token or a legacy token"
    )
    document_root: Path | None = Field(
        None,
        description="folder that Label Studio serves as local files, if seen from here too: frames are read there",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="hosts besides Label Studio that frames may come from: `name` or `name:port`, comma between",
    )
    s3_endpoint: str | None = Field(
        None,
        description="address of the S3 server with the frames; unset: Amazon's, or what boto's own settings say",
    )
    s3_region: str | None = Field(None, description="its region; unset: boto's own settings")
    s3_key: str | None = Field(
        None,
        description="access key for it, which is given to Label Studio too; unset: what boto's own settings give here, "
        "and Label Studio's own environment there",
    )
    s3_secret: SecretStr | None = Field(None, description="the key's secret; required where the key is set")

    healthy_label: str | None = Field(
        None, description="the choice that means a healthy lung, by its value or alias; unset: the first choice"
    )
    patient_key: str = Field("patient", min_length=1, description="key of a task's data that names the patient")
    clip_key: str = Field("clip", min_length=1, description="key of a task's data that names the clip")
    time_key: str = Field(
        "time", min_length=1, description="key of a task's data with the frame's time in its clip, in seconds"
    )

    # Our own server
    backend_url: str = Field("http://localhost:9090", description="where Label Studio reaches the backend")
    host: str = Field("127.0.0.1", description="address that the backend listens on")
    port: int = Field(9090, ge=0, le=65535, description="port that the backend listens on")
    threads: int = Field(8, ge=1, description="requests the backend answers at the same time")
    webhook_secret: SecretStr | None = Field(
        None,
        description="secret that Label Studio sends with its webhooks; required unless HOST and BACKEND_URL are "
        "loopback addresses",
    )
    basic_auth_user: str | None = Field(None, description="user name that Label Studio sends to the backend")
    basic_auth_password: SecretStr | None = Field(
        None, description="password for it; both required where the webhook secret is"
    )
    lead_reader_user: str | None = Field(
        None,
        description="user name that may read the lead's page but change nothing; unset: nobody has this role",
    )
    lead_reader_password: SecretStr | None = Field(None, description="password for it; required where the name is set")
    hide_names: bool = Field(
        False,
        description="hide annotators' names: the lead's page shows Person 1, Person 2, …, and the evidence beside a "
        "frame names nobody",
    )

    # The evidence beside the frame
    evidence: bool = Field(
        True, description="draw pictures that show why a frame is ticked as it is: see docs/label-studio.md"
    )
    evidence_key: str = Field(
        "evidence", min_length=1, description="key of a task's data that holds the address of its evidence picture"
    )
    evidence_files: int = Field(
        0,
        ge=0,
        description="number of frames at the head of the queue whose pictures are written, after each refresh, into "
        "the folder that Label Studio serves: for annotators whose browsers cannot reach the backend; 0: the backend "
        "serves the pictures",
    )
    public_url: str | None = Field(
        None, description="address of the backend as annotators' browsers see it; unset: TSAL_BACKEND_URL"
    )
    label_studio_public_url: str | None = Field(
        None, description="address of Label Studio as annotators' browsers see it; unset: TSAL_LABEL_STUDIO_URL"
    )

    # Where things are kept
    data_dir: Path = Field(Path("data"), description="folder for model versions, cached activations and embedded Redis")
    cache_dir: Path | None = Field(
        None,
        description="cache folder, best shared by all processes and machines; unset: `features` in the data folder",
    )
    redis_url: str | None = Field(
        None, description="your Redis (`redis://` or `unix://`); unset: `tsal serve` starts an embedded one"
    )
    cache_gigabytes: float = Field(20.0, gt=0, description="disk budget of the cache of trunk activations, in GB")

    # The network
    backbone: str = Field(
        "resnet50",
        description="`resnet50`, `resnet34`, `resnet101`, `vgg16`, `efficientnet_lite0`, or one that a package adds",
    )
    weights: str | None = Field(
        None, description="file with ImageNet weights, or `random`; unset: the library's own, downloaded on first use"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="`float32`, `bfloat16`; `auto`: bfloat16 where the processor has it and results stay the same",
    )
    epochs: int = Field(1, ge=1, description="passes over the confirmed frames that a fine-tune takes at least")
    minimum_steps: int = Field(100, ge=0, description="gradient steps that a fine-tune takes at least")
    views: int = Field(4, ge=1, description="augmented views that are kept of each confirmed frame")
    learning_rate: float = Field(2e-3, gt=0, description="learning rate of the fine-tune (SGD, momentum 0.9, batch 32)")
    compute_threads: int = Field(0, ge=0, description="processor cores a process may compute on; 0: all")
    warm: bool = Field(
        False,
        description="keep torch in workers and a network in the sidecar while they wait: work begins some seconds "
        "sooner, and each takes half a gigabyte more",
    )
    scoring_workers: int = Field(
        1,
        ge=1,
        description="RQ workers that `tsal serve` starts; with 2 or more, workers help the sidecar to score a pool",
    )
    seed: int = Field(0, ge=0, description="seed of everything random; written into every version")

    # The loop
    k_max: int = Field(100, ge=1, description="newly confirmed annotations that start a fine-tune")
    strategy: str = Field(
        "cover",
        description="what the queue is ordered by: `cover` (what is like nothing confirmed), `adaptive`, or "
        "`mlm`, `lc`, `mle`, `binmin`, `random` or one that a package adds, each of these also with `-diverse`",
    )
    validator: Literal["memory", "adaptive", "table", "plain", "strengths"] = Field(
        "memory",
        description="where ticked defaults come from: `memory` (the confirmed frame most like it, or network or table "
        "where they are surer), `table` (the paper's), `plain` (probability above 0.5), `strengths` (table with "
        "strengths kept), `adaptive` (whichever of these three has left least to correct)",
    )
    refresh: int = Field(
        25, ge=1, description="newly confirmed frames after which the memory gives new ticks and a new order"
    )
    audit: float = Field(
        0.15,
        ge=0,
        le=1,
        description="share of every batch drawn at random from the whole pool, so that figures are fair; 0: none",
    )
    blind: float = Field(
        1 / 3,
        ge=0,
        le=1,
        description="share of the audit asked without ticks, to see how far ticks sway people",
    )
    hold_out: float = Field(0.2, ge=0, lt=1, description="share of patients kept for validation, never trained on")
    largest_fall: float = Field(
        0.05,
        ge=0,
        le=1,
        description="how far exact match may fall before a new version is kept but not used; a fall that chance would "
        "give over patients does not count",
    )
    disagreement: Disagreement = Field(
        "latest",
        description="what counts where annotations of one frame disagree: `latest`, `majority`, or `leave out` the "
        "frame",
    )
    accepted: Accepted = Field(
        "keep apart",
        description="annotations made of predictions that nobody looked at: `keep apart` counts them and never learns "
        "from them or judges by them; `train` takes them like all others",
    )
    imported: Accepted = Field(
        "keep apart",
        description="labels that `tsal import-labels` brought: `keep apart` shows and exports them and never learns "
        "from them; `train` learns from them and remembers them, but no certificate covers them",
    )
    annotation_budget: int | None = Field(None, ge=1, description="confirmed annotations after which the loop ends")
    target_exact_match: float | None = Field(
        None, gt=0, le=1, description="exact match at which the loop ends; the lower end of its interval counts"
    )
    poll_seconds: float = Field(30.0, gt=0, description="how often the sidecar looks for what webhooks missed")
    keep_pushed: int = Field(2, ge=1, description="pushed orders whose predictions stay in Label Studio")
    rest_seconds: float = Field(
        180.0,
        ge=0,
        description="seconds without a new answer before old orders are removed; during a removal nobody can submit in "
        "that project",
    )
    job_timeout: int = Field(3600, ge=60, description="seconds after which a fine-tune is given up")

    # Frames
    max_frame_bytes: int = Field(50_000_000, ge=1, description="largest file that is fetched as a frame, in bytes")
    fetch_seconds: float = Field(20.0, gt=0, description="time that fetching one frame may take, in seconds")
    fetch_workers: int = Field(8, ge=1, description="frames fetched at the same time")

    decode_seconds: float = Field(
        600.0, gt=0, description="time that reading one file of an import may take, in seconds"
    )
    decode_bytes: int = Field(
        2_000_000_000, ge=300_000_000, description="memory that reading one file of an import may take, in bytes"
    )

    # A PACS
    dicomweb_user: str | None = Field(None, description="user name for `tsal import --dicomweb`")
    dicomweb_password: SecretStr | None = Field(None, description="password for it")
    dicomweb_token: SecretStr | None = Field(
        None, description="bearer token for `tsal import --dicomweb`, instead of user name and password"
    )
    max_instance_bytes: int = Field(
        2_000_000_000, ge=1, description="largest instance that is fetched from a PACS, in bytes"
    )

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        return tuple(host.strip() for host in value.split(",") if host.strip()) if isinstance(value, str) else value

    @field_validator("label_studio_url", "backend_url", "public_url", "label_studio_public_url", "s3_endpoint")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @field_validator("strategy")
    @classmethod
    def _is_a_strategy(cls, value: str) -> str:
        known = Registry(plugins.STRATEGIES, dict.fromkeys(STRATEGIES))
        if value not in ("cover", "adaptive") and value.removesuffix("-diverse") not in known:
            others = ", ".join(known)
            raise ValueError(f"{value!r} is none of cover, adaptive, {others}; all but the first two with -diverse too")
        return value

    @field_validator("backbone")
    @classmethod
    def _is_a_backbone(cls, value: str) -> str:
        known = Registry(plugins.BACKBONES, dict.fromkeys(BACKBONES))
        if value not in known:
            raise ValueError(f"{value!r} is none of {', '.join(known)}")
        return value

    def token(self) -> str:
        """Return Label Studio's token.

        Raises:
            SettingsError: where none is set.
        """
        if self.label_studio_token is None:
            raise SettingsError(
                f"{PREFIX}LABEL_STUDIO_TOKEN is not set: in Label Studio open Account & Settings, make an access token "
                "and set it"
            )
        return self.label_studio_token.get_secret_value()

    def require_authentication(self) -> None:
        """Refuse to serve other machines without a webhook secret and basic authentication, or with half of the latter.

        An address in BACKEND_URL that is not loopback means other machines too: a proxy on this one may lead there.

        Raises:
            SettingsError: naming what is missing.
        """
        missing = [
            f"{PREFIX}{name.upper()}"
            for name in ("webhook_secret", "basic_auth_user", "basic_auth_password")
            if getattr(self, name) is None
        ]
        if (self.basic_auth_user is None) != (self.basic_auth_password is None):
            raise SettingsError(
                f"{PREFIX}BASIC_AUTH_USER and {PREFIX}BASIC_AUTH_PASSWORD go together: set both or none"
            )
        self._require_reader()
        named = {"HOST": (self.host, self.host), "BACKEND_URL": (self.backend_url, host_of(self.backend_url))}
        for name, (value, host) in named.items():
            if missing and not is_loopback(host):
                raise SettingsError(
                    f"set {', '.join(missing)}: required because {PREFIX}{name}={value} is not a loopback address"
                )

    def _require_reader(self) -> None:
        """Refuse a reader without a password, or without a separate user name for those who may make changes."""
        if (self.lead_reader_user is None) != (self.lead_reader_password is None):
            raise SettingsError(
                f"{PREFIX}LEAD_READER_USER and {PREFIX}LEAD_READER_PASSWORD go together: set both or none"
            )
        if self.lead_reader_user is not None and self.basic_auth_user in (None, self.lead_reader_user):
            raise SettingsError(
                f"{PREFIX}LEAD_READER_USER needs {PREFIX}BASIC_AUTH_USER and {PREFIX}BASIC_AUTH_PASSWORD too, under "
                "another name, for those who may make changes"
            )


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means the machine itself."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None  # ::ffff:127.0.0.1 of a dual-stack socket
    return (inner or address).is_loopback


def host_of(url: str) -> str:
    """The host that an address names; empty where it names none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def load(**overrides: object) -> Settings:
    """Read the settings from the environment, then from files; ``overrides`` (by field name) win.

    Each file of the folder that TSAL_SECRETS_DIR names holds the value of the setting it is called by, as in
    ``/run/secrets/tsal_webhook_secret``.

    Raises:
        SettingsError: naming each variable that cannot be used and why.
    """
    known = {SECRETS, DEMO_LABEL_STUDIO, *(f"{PREFIX}{name.upper()}" for name in Settings.model_fields)}
    folder = os.environ.get(SECRETS) or None
    if folder is not None and not Path(folder).is_dir():
        raise SettingsError(f"{SECRETS}={folder} is not a folder")
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith(PREFIX) and not name.startswith(TEST_PREFIX) and name not in known
    )
    if unknown:
        raise SettingsError(f"{', '.join(unknown)}: no such setting; docs/settings.md lists them all")
    try:
        return Settings(_secrets_dir=folder, **overrides)  # type: ignore[arg-type, call-arg]
    except ValidationError as error:
        problems = "; ".join(
            f"{PREFIX}{'.'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
            for problem in error.errors(include_input=False)
        )
        raise SettingsError(problems) from None
