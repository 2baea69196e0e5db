from __future__ import annotations

from pathlib import Path

import pytest

from scripts.release import NotReleasable, checked

CLOSED = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-12-01\n\n- One thing.\n\n## [0.1.0] - 2026-11-01\n"
BUILT = ["dist/lung_ultrasound_annotator-0.2.0-py3-none-any.whl", "dist/lung_ultrasound_annotator-0.2.0.tar.gz"]


def repository(folder: Path, changelog: str = CLOSED, built: list[str] = BUILT) -> Path:
    (folder / "CHANGELOG.md").write_text(changelog)
    (folder / "dist").mkdir()
    for name in built:
        (folder / name).touch()
    return folder


def test_consistent_files_are_listed_for_upload(tmp_path: Path) -> None:
    assert checked(repository(tmp_path), "0.2.0") == BUILT


@pytest.mark.parametrize(
    ("changelog", "version"),
    [
        (CLOSED, "0.3.0"),
        (CLOSED, "0.2.0.dev0"),
        (CLOSED.replace(" - 2026-12-01", " - 0.2.0"), "0.2.0"),
        (CLOSED.replace("## [Unreleased]\n", "## [Unreleased]\n\n- Another thing.\n"), "0.2.0"),
        ("# Changelog\n", "0.2.0"),
    ],
    ids=["another version", "no release", "no date", "unreleased changes", "empty"],
)
def test_a_changelog_that_does_not_fit_is_refused(tmp_path: Path, changelog: str, version: str) -> None:
    with pytest.raises(NotReleasable):
        checked(repository(tmp_path, changelog, [name.replace("0.2.0", version) for name in BUILT]), version)


@pytest.mark.parametrize(
    "built", [[], BUILT[:1], [*BUILT, "dist/old-0.1.0.tar.gz"], ["dist/a-0.1.0-py3-none-any.whl", BUILT[1]]]
)
def test_other_files_than_the_release_are_refused(tmp_path: Path, built: list[str]) -> None:
    with pytest.raises(NotReleasable):
        checked(repository(tmp_path, built=built), "0.2.0")
