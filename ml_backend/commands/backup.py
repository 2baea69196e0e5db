"""`tsal backup` and `tsal restore`: the data folder as one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ml_backend.progress import Progress

if TYPE_CHECKING:
    from ml_backend.store.backup import Contents

MEGABYTE = 1_000_000


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write. An earlier backup in it is replaced.")],
) -> None:
    """Back up the data folder (TSAL_DATA_DIR) into one file, even while `tsal serve` runs.

    The file has versions, certificates, audits and secrets: keep it as safe as the folder. It leaves out what can be
    made again: the cache, embeddings, and what Redis holds. Back up Label Studio by its own means, after this.
    """
    from ml_backend.settings import load
    from ml_backend.store.backup import back_up

    folder = load().data_dir
    with Progress("backup", "file") as progress:
        contents = back_up(folder, file, progress.at)
    print(f"{folder} is backed up in {file}: {_told(contents)}")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File that `tsal backup` wrote.")],
) -> None:
    """Restore a data folder (TSAL_DATA_DIR) from a backup. The folder must be new or empty.

    Nothing is written if the file is damaged or not a backup (ends with 1), the folder is not empty (2), or a newer
    release made the backup (7).
    """
    from ml_backend.settings import load
    from ml_backend.store.backup import restore as restored

    folder = load().data_dir
    with Progress("restore", "file") as progress:
        contents = restored(file, folder, progress.at)
    print(f"{folder} is as it was on {contents.made_at}: {_told(contents)}")


def _told(contents: Contents) -> str:
    size = sum(one.size for one in contents.files.values())
    return f"{len(contents.files)} files, {size / MEGABYTE:.1f} MB"
