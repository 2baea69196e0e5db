"""Pictures in the folder that Label Studio serves as local files."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ml_backend.errors import BackendError, InvalidRequest
from ml_backend.ingest.places import served_address
from ml_backend.ingest.storage import save_png
from ml_backend.store.files import remove_leftovers, written_aside
from ml_backend.studio.client import Studio


class Folder:
    """Keeps pictures in a folder below ``document_root``.

    That is the folder that Label Studio serves (its LOCAL_FILES_DOCUMENT_ROOT), under the same path there. Raises
    InvalidRequest for a folder elsewhere.
    """

    def __init__(self, folder: Path, document_root: Path) -> None:
        self.folder, self._root = folder.resolve(), document_root.resolve()
        if self._root not in self.folder.parents:
            raise InvalidRequest(
                f"{folder} is not a folder below {self._root}, the folder that Label Studio serves: "
                "choose another --frames or --document-root"
            )

    def address(self, name: str) -> str:
        """Return the address under which Label Studio serves a picture."""
        return served_address((self.folder / name).relative_to(self._root).as_posix())

    def open(self, studio: Studio, project: int) -> None:
        """Make the folder, and let the project serve it. Raises InvalidRequest if it cannot be made.

        What imports that were killed left half written in it is removed.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidRequest(f"{self.folder}: {error.strerror}; choose another --frames") from error
        remove_leftovers(self.folder, deep=False)
        if not any(map(self.folder.is_relative_to, studio.local_storages(project))):
            studio.create_local_storage(project, str(self.folder), "Frames")

    def keep(self, name: str, picture: Image.Image) -> None:
        """Write a picture unless it is there, or raise BackendError."""
        path = self.folder / name
        if not path.exists():
            write_picture(picture, path)

    def settle(self) -> None:
        """Do nothing: pictures are written at once."""


def write_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG, or raise BackendError."""
    try:
        with written_aside(path, durable=False) as file:
            save_png(picture, file)
    except OSError as error:
        raise BackendError(f"{path}: {error.strerror or error}; make room, or choose another --frames") from error
