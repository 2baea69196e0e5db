from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ml_backend.errors import SettingsError
from ml_backend.settings import load
from ml_backend.store.evidence_addresses import FILE, EvidenceAddresses
from ml_backend.store.secret import kept_secret

URL = "/data/local-files/?d=a%20b.png"


def made(folder: Path, **changes: object) -> EvidenceAddresses:
    return EvidenceAddresses(load(data_dir=folder, backend_url="http://10.0.0.7:9090/", **changes))


def parts(address: str) -> tuple[str, str, str]:
    *_, project, name, signature = address.removesuffix(".svg").split("/")
    return project, name, signature


def test_an_address_is_always_the_same_and_another_for_every_project_and_frame(tmp_path: Path) -> None:
    address = made(tmp_path).of(7, URL)
    assert address.startswith("http://10.0.0.7:9090/evidence/7/")
    assert address == made(tmp_path).of(7, URL)
    others = [made(tmp_path).of(8, URL), made(tmp_path).of(7, URL + "x"), made(tmp_path / "another").of(7, URL)]
    assert len({parts(one)[2] for one in (address, *others)}) == 4
    assert "a%20b" not in address


def test_only_our_own_signature_counts(tmp_path: Path) -> None:
    addresses = made(tmp_path)
    project, name, signature = parts(addresses.of(7, URL))
    assert addresses.is_signed(project, name, signature)
    for other in ("8", "07", "7 ", "٧", "", "7" * 5000):
        assert not addresses.is_signed(other, name, signature)
    assert not addresses.is_signed("8", name, signature)
    assert not addresses.is_signed("7", "0" * 32, signature)
    assert not addresses.is_signed("7", name, signature[:-1] + ("0" if signature[-1] != "0" else "1"))
    assert not addresses.is_signed("7", name, "")
    assert not addresses.is_signed("7", name, "é" * 40)
    assert not made(tmp_path / "another").is_signed("7", name, signature)


def test_the_public_address_is_the_one_that_browsers_see(tmp_path: Path) -> None:
    assert (
        made(tmp_path, public_url="https://lungs.example.org/")
        .of(7, URL)
        .startswith("https://lungs.example.org/evidence/7/")
    )
    written = made(tmp_path, evidence_files=5)
    assert written.of(7, URL) == f"/data/local-files/?d={written.file(7, URL)}"
    assert written.file(7, URL).startswith("tsal-evidence/7/")


def test_a_secret_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(kept_secret(path, ""))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert set(found) == {path.read_bytes()}
    assert len(found[0]) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert {one.name for one in path.parent.iterdir()} == {"secret", "format.json"}


def test_a_damaged_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"short")
    with pytest.raises(SettingsError, match="damaged"):
        made(tmp_path).of(7, URL)
