from __future__ import annotations

from pathlib import Path

import pytest

from ml_backend.errors import SettingsError
from ml_backend.settings import load


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("TSAL_"):
            monkeypatch.delenv(name)


def test_defaults_are_the_papers_but_for_what_measured_better() -> None:
    settings = load()
    assert (settings.backbone, settings.k_max, settings.learning_rate) == ("resnet50", 100, 2e-3)
    assert (settings.strategy, settings.validator) == ("cover", "memory")


def test_the_environment_is_read_and_overrides_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSAL_K_MAX", "20")
    monkeypatch.setenv("TSAL_ALLOWED_HOSTS", "images.example.com, cdn.example.com:8443 ,")
    monkeypatch.setenv("TSAL_DATA_DIR", "/somewhere")
    monkeypatch.setenv("TSAL_LABEL_STUDIO_URL", "https://ls.example.com/")
    settings = load(k_max=30)
    assert settings.k_max == 30
    assert settings.allowed_hosts == ("images.example.com", "cdn.example.com:8443")
    assert settings.data_dir == Path("/somewhere")
    assert settings.label_studio_url == "https://ls.example.com"


@pytest.mark.parametrize(
    ("name", "value"), [("TSAL_K_MAX", "many"), ("TSAL_STRATEGY", "best"), ("TSAL_LABEL_STUDIO_URL", "ls.example.com")]
)
def test_a_wrong_value_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load()


def test_a_missing_token_says_what_to_do_and_a_present_one_stays_hidden() -> None:
    with pytest.raises(SettingsError, match="TSAL_LABEL_STUDIO_TOKEN"):
        load().token()
    settings = load(label_studio_token="secret-token")
    assert settings.token() == "secret-token"
    assert "secret-token" not in repr(settings)


def test_other_machines_are_served_only_with_authentication() -> None:
    load().require_authentication()
    with pytest.raises(SettingsError, match="TSAL_WEBHOOK_SECRET, TSAL_BASIC_AUTH_USER, TSAL_BASIC_AUTH_PASSWORD"):
        load(host="0.0.0.0").require_authentication()
    with pytest.raises(SettingsError, match="is not a loopback address"):
        load(backend_url="https://backend.example.com").require_authentication()
    with pytest.raises(SettingsError, match="TSAL_BACKEND_URL"):
        load(backend_url="http://10.0.0.5:9090", webhook_secret="s").require_authentication()
    for here in ("http://localhost:9090", "http://127.0.0.1:9090", "http://[::1]:9090"):
        load(backend_url=here).require_authentication()
    load(host="0.0.0.0", webhook_secret="s", basic_auth_user="u", basic_auth_password="p").require_authentication()


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WEBHOOK_SECRET", "BASIC_AUTH_USER", "BASIC_AUTH_PASSWORD", "REDIS_URL", "K_MAX"):
        monkeypatch.setenv(f"TSAL_{name}", "")
    settings = load(host="0.0.0.0")
    assert (settings.webhook_secret, settings.redis_url, settings.k_max) == (None, None, 100)
    with pytest.raises(SettingsError, match="TSAL_WEBHOOK_SECRET"):
        settings.require_authentication()


@pytest.mark.parametrize("half", [{"basic_auth_user": "u"}, {"basic_auth_password": "p"}])
def test_half_of_basic_authentication_is_refused(half: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="go together"):
        load(**half).require_authentication()


def test_secrets_are_read_from_files_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tsal_webhook_secret").write_text("from a file\n")
    (tmp_path / "tsal_basic_auth_user").write_text("from a file")
    (tmp_path / "other_service_secret").write_text("not ours")
    monkeypatch.setenv("TSAL_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("TSAL_BASIC_AUTH_USER", "from the environment")
    settings = load()
    assert settings.webhook_secret is not None
    assert settings.webhook_secret.get_secret_value() == "from a file"
    assert settings.basic_auth_user == "from the environment"
    assert "from a file" not in repr(settings)


def test_a_folder_of_secrets_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TSAL_SECRETS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match=r"TSAL_SECRETS_DIR=.*nowhere is not a folder"):
        load()
