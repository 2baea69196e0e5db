"""Imports into a bucket of a real server that speaks S3."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml_backend.errors import BucketUnusable, InvalidRequest
from ml_backend.ingest import importer as importing
from ml_backend.ingest.bucket import AT_ONCE, Bucket, BucketFolder
from ml_backend.studio.storages import BucketAccess
from tests.commands.test_import_frames import Place, command, exit_code, place, scene, write_gif, write_still
from tests.s3_server import KEY, REGION, SECRET, S3Server, s3_server
from tests.studio_server import free_port

__all__ = ["command", "place", "s3_server"]


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    s3_server.reset()
    return s3_server.make("team-frames")


@pytest.fixture(autouse=True)
def no_keys_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def storage(server: S3Server, place: str = "s3://team-frames/lung/frames", **access: str | None) -> Bucket:
    given = {"endpoint": server.endpoint, "region": REGION, "key": KEY, "secret": SECRET, **access}
    return Bucket(BucketFolder.parse(place), BucketAccess(**given))


def test_pictures_go_to_the_bucket_and_tasks_say_where(place: Place, s3_server: S3Server, bucket: str) -> None:
    write_gif(place.clips / "anna" / "sweep.gif", range(5))
    report = place.run(storage=storage(s3_server))
    assert report.imported == 3
    addresses = [row["image"] for row in place.studio.rows]
    assert [one.rpartition("/")[0] for one in addresses] == ["s3://team-frames/lung/frames"] * 3
    assert sorted(one.removeprefix("s3://team-frames/") for one in addresses) == s3_server.keys(bucket)
    for address, seed in zip(addresses, (0, 2, 4), strict=True):
        key = address.removeprefix("s3://team-frames/")
        with Image.open(io.BytesIO(s3_server.content(bucket, key))) as picture:
            assert picture.size == (80, 64)
            assert np.abs(np.asarray(picture).astype(int) - scene(seed)).max() <= 1
        assert s3_server.client().head_object(Bucket=bucket, Key=key)["ContentType"] == "image/png"
    assert place.studio.buckets == [(bucket, "lung/frames")]
    assert not place.frames.exists()
    assert "anna" not in "".join(s3_server.keys(bucket))


def test_importing_again_lists_once_and_sends_what_is_missing(place: Place, s3_server: S3Server, bucket: str) -> None:
    for number in range(4):
        write_still(place.clips / f"{number}.png", number)
    place.run(storage=storage(s3_server))
    lost = s3_server.keys(bucket)[0]
    s3_server.client().delete_object(Bucket=bucket, Key=lost)
    write_still(place.clips / "new.png", 9)
    s3_server.seen.clear()

    report = place.run(storage=storage(s3_server))
    assert (report.imported, report.already_there) == (1, 4)
    assert len(s3_server.seen) == 3
    assert s3_server.seen[0][0] == "GET"
    assert f"/{bucket}/{lost}" in s3_server.puts()
    assert len(place.studio.rows) == len(s3_server.keys(bucket)) == 5
    assert len(place.studio.buckets) == 1


def test_a_lost_picture_comes_back_without_a_new_task(place: Place, s3_server: S3Server, bucket: str) -> None:
    write_still(place.clips / "still.png", 1)
    place.run(storage=storage(s3_server))
    (lost,) = s3_server.keys(bucket)
    s3_server.client().delete_object(Bucket=bucket, Key=lost)
    assert place.run(storage=storage(s3_server)).already_there == 1
    assert s3_server.keys(bucket) == [lost]


def test_pictures_do_not_pile_up_until_tasks_are_sent(place: Place, s3_server: S3Server, bucket: str) -> None:
    kept = storage(s3_server)
    kept.open(place.studio, 7)  # type: ignore[arg-type]
    for number in range(2 * AT_ONCE + 1):
        kept.keep(f"{number}.png", Image.new("L", (8, 8), number))
    assert len(s3_server.puts()) == 2 * AT_ONCE


def test_pictures_that_could_not_be_sent_are_sent_before_any_task(
    place: Place, s3_server: S3Server, bucket: str
) -> None:
    """Files are read by several threads: the error in one of them must not let another one's task go out."""
    kept = storage(s3_server)
    kept.open(place.studio, 7)  # type: ignore[arg-type]
    s3_server.fails = lambda method, path: ("403 Forbidden", b"") if method == "PUT" else None
    for number in range(1, AT_ONCE):
        kept.keep(f"{number}.png", Image.new("L", (8, 8), number))
    with pytest.raises(BucketUnusable):
        kept.keep("0.png", Image.new("L", (8, 8)))
    with pytest.raises(BucketUnusable):
        kept.settle()
    s3_server.fails = lambda method, path: None
    kept.settle()
    assert len(s3_server.keys(bucket)) == AT_ONCE


def test_a_bucket_is_listed_to_its_last_page(
    place: Place, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        write_still(place.clips / f"{number}.png", number)
    place.run(storage=storage(s3_server))
    place.studio.rows.clear()
    s3_server.seen.clear()
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    assert place.run(storage=storage(s3_server)).imported == 5
    assert [method for method, _ in s3_server.seen] == ["GET"] * 3


def test_a_picture_elsewhere_in_the_bucket_is_not_taken_for_it(place: Place, s3_server: S3Server, bucket: str) -> None:
    write_still(place.clips / "still.png", 1)
    place.run(storage=storage(s3_server, "s3://team-frames/lung/frames/older"))
    place.studio.rows.clear()
    assert place.run(storage=storage(s3_server)).imported == 1
    assert len(s3_server.keys(bucket)) == 2


def test_a_clip_of_the_folder_is_not_doubled_in_the_bucket(place: Place, s3_server: S3Server, bucket: str) -> None:
    write_gif(place.clips / "anna" / "sweep.gif", [1, 2, 3])
    place.run()
    report = place.run(storage=storage(s3_server))
    assert (report.imported, report.already_there) == (0, 2)
    assert s3_server.keys(bucket) == []
    assert place.studio.buckets == []
    write_gif(place.clips / "berta" / "sweep.gif", [7, 8, 9])
    assert place.run(storage=storage(s3_server)).imported == 2
    assert place.run().already_there == 4
    assert len(list(place.frames.iterdir())) == 2


def test_patients_are_recognised_by_pictures_in_the_bucket(place: Place, s3_server: S3Server, bucket: str) -> None:
    write_still(place.clips / "P07" / "visit1" / "a.png", 1)
    place.importer(storage=storage(s3_server)).run([place.clips / "P07"])
    with pytest.raises(InvalidRequest, match="visit1 there, P07 now"):
        place.run(storage=storage(s3_server))


def test_an_interrupted_import_goes_on(
    place: Place, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server fails after some pictures: no task was sent whose picture is not there."""
    monkeypatch.setattr(importing, "PIECE", 2)
    for number in range(7):
        write_still(place.clips / f"{number}.png", number)

    def fails(method: str, path: str) -> tuple[str, bytes] | None:
        gone = method == "PUT" and len(s3_server.puts()) > 3
        return ("403 Forbidden", b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>") if gone else None

    s3_server.fails = fails
    with pytest.raises(BucketUnusable, match="may not write to"):
        place.run(storage=storage(s3_server))
    before, kept = len(place.studio.rows), s3_server.keys(bucket)
    assert {row["image"].removeprefix(f"s3://{bucket}/") for row in place.studio.rows} <= set(kept)
    s3_server.fails = lambda method, path: None
    s3_server.seen.clear()

    report = place.run(storage=storage(s3_server))
    assert (report.imported, report.already_there) == (7 - before, before)
    assert len(s3_server.puts()) == 7 - len(kept)
    assert len({row["image"] for row in place.studio.rows}) == len(place.studio.rows) == 7


def test_a_server_that_is_busy_for_a_moment_is_asked_again(place: Place, s3_server: S3Server, bucket: str) -> None:
    write_still(place.clips / "still.png", 1)
    answers = iter([("503 Slow Down", b"<Error><Code>SlowDown</Code><Message>slow</Message></Error>")])
    s3_server.fails = lambda method, path: next(answers, None) if method == "PUT" else None
    assert place.run(storage=storage(s3_server)).imported == 1
    assert len(s3_server.keys(bucket)) == 1


# The command


@pytest.fixture
def s3_settings(command: Place, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name, value in {"ENDPOINT": s3_server.endpoint, "REGION": REGION, "KEY": KEY, "SECRET": SECRET}.items():
        monkeypatch.setenv(f"TSAL_S3_{name}", value)
    write_still(command.clips / "still.png", 1)
    return command


def call(place: Place, *options: str, to: str = "s3://team-frames/lung") -> int:
    return exit_code(str(place.clips), "--project", "7", "--storage", to, *options)


def test_the_command_imports_into_a_bucket(s3_settings: Place, s3_server: S3Server) -> None:
    assert call(s3_settings, "--dry-run") == 0
    assert (s3_settings.studio.rows, s3_server.keys("team-frames")) == ([], [])
    assert call(s3_settings) == 0
    assert [f"s3://team-frames/{key}" for key in s3_server.keys("team-frames")] == [
        row["image"] for row in s3_settings.studio.rows
    ]


def test_label_studio_is_given_the_settings(s3_settings: Place, s3_server: S3Server) -> None:
    call(s3_settings)
    access = s3_settings.studio.access
    assert access is not None
    assert (access.endpoint, access.region, access.key, access.secret) == (s3_server.endpoint, REGION, KEY, SECRET)
    assert SECRET not in repr(access)


def test_without_settings_the_keys_come_from_botos_environment(
    s3_settings: Place, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ENDPOINT", "REGION", "KEY", "SECRET"):
        monkeypatch.delenv(f"TSAL_S3_{name}")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert call(s3_settings) == 0
    assert s3_settings.studio.access == BucketAccess()
    assert len(s3_server.keys("team-frames")) == 1


@pytest.mark.parametrize(
    "address",
    [
        "team-frames/lung",
        "gs://team-frames/lung",
        "",
        "s3://team-frames",
        "s3://team-frames/",
        "s3:///lung",
        "s3://Team_frames/lung",
        "s3://team-frames/lung//frames",
        "s3://team-frames/../lung",
        "s3://team-frames/lung?versionId=1",
        "s3://key:secret@team-frames/lung",
    ],
)
def test_a_malformed_address_ends_with_2(s3_settings: Place, capsys: pytest.CaptureFixture[str], address: str) -> None:
    assert call(s3_settings, to=address) == 2
    assert "s3://BUCKET/PREFIX" in error_of(s3_settings, capsys)


def error_of(place: Place, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that the command printed; it must have sent nothing to Label Studio and shown no secret."""
    output = capsys.readouterr()
    lines = [line for line in output.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in output.err
    assert SECRET not in output.err + output.out
    assert place.studio.rows == []
    return lines[0]


def test_what_goes_wrong_with_a_bucket_is_told(
    s3_settings: Place, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(to: str = "s3://team-frames/lung") -> str:
        assert call(s3_settings, to=to) == BucketUnusable.exit_code
        return error_of(s3_settings, capsys)

    assert "no such bucket" in told("s3://other-frames/lung")
    for rights, cannot in ((["s3:PutObject"], "list"), (["s3:ListBucket"], "write to")):
        with s3_server.with_rights(*rights) as (key, secret):
            monkeypatch.setenv("TSAL_S3_KEY", key)
            monkeypatch.setenv("TSAL_S3_SECRET", secret)
            assert f"may not {cannot} the bucket (AccessDenied)" in told()
            monkeypatch.setenv("TSAL_S3_SECRET", SECRET)
            assert "SignatureDoesNotMatch" in told()
            monkeypatch.setenv("TSAL_S3_KEY", KEY)
            assert "InvalidAccessKeyId" in told()
    for name in ("KEY", "SECRET"):
        monkeypatch.delenv(f"TSAL_S3_{name}")
    assert "no access key" in told()
    monkeypatch.setenv("TSAL_S3_KEY", KEY)
    monkeypatch.setenv("TSAL_S3_SECRET", SECRET)
    monkeypatch.setenv("TSAL_S3_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert "does not answer" in told()
    monkeypatch.setenv("TSAL_S3_ENDPOINT", s3_server.endpoint)
    s3_server.fails = lambda method, path: ("404 Not Found", b"<html>a web page</html>")
    assert "TSAL_S3_ENDPOINT" in told()
    s3_server.fails = lambda method, path: ("200 OK", b"a web page")
    assert "TSAL_S3_ENDPOINT" in told()
    s3_server.fails = lambda method, path: ("500 Internal Server Error", b"")
    assert "does not let us list the bucket (500)" in told()
    s3_server.fails = lambda method, path: None

    assert s3_server.keys("team-frames") == []
    assert call(s3_settings) == 0
    assert len(s3_settings.studio.rows) == len(s3_server.keys("team-frames")) == 1


def test_a_bucket_that_goes_away_in_the_middle_costs_the_rest(
    s3_settings: Place, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importing, "PIECE", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})  # so that few files are read ahead
    for number in range(2, 13):
        write_still(s3_settings.clips / f"{number}.png", number)
    s3_settings.studio.on_import = lambda: s3_server.remove("team-frames")
    assert call(s3_settings) == BucketUnusable.exit_code
    assert "no such bucket" in capsys.readouterr().err
    assert 2 <= len(s3_settings.studio.rows) < 12

    s3_settings.studio.on_import = lambda: None
    s3_server.make("team-frames")
    assert call(s3_settings) == 0
    assert len(s3_settings.studio.rows) == 12
    assert len(s3_server.keys("team-frames")) == 12


@pytest.mark.parametrize(
    ("settings", "options", "named"),
    [
        ({"TSAL_S3_SECRET": ""}, [], "go together"),
        ({"TSAL_S3_ENDPOINT": "127.0.0.1:9000"}, [], "TSAL_S3_ENDPOINT"),
        ({"TSAL_S3_ENDPOINT": f"http://{KEY}:{SECRET}@127.0.0.1:9000"}, [], "TSAL_S3_ENDPOINT"),
        ({"TSAL_S3_ENDPOINT": f"http://{KEY}:secret@127.0.0.1:9000"}, [], "TSAL_S3_ENDPOINT"),
        ({"TSAL_EVIDENCE_FILES": "20"}, [], "TSAL_DOCUMENT_ROOT"),
        ({}, ["--frames", "frames"], "leave out --frames"),
        ({}, ["--document-root", "."], "leave out --frames"),
    ],
)
def test_wrong_settings_end_with_2(
    s3_settings: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, str],
    options: list[str],
    named: str,
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert call(s3_settings, *options) == 2
    assert named in error_of(s3_settings, capsys)


def test_without_the_extra_the_command_says_what_to_install(
    s3_settings: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    assert call(s3_settings) == 3
    assert "pip install s3fs" in error_of(s3_settings, capsys)
