"""The table as Parquet, and the folder of pictures that Hugging Face `datasets` loads, whose metadata are Parquet too.

pyarrow is imported late: it comes with the extra `export`, and only these two formats need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ml_backend.errors import ExtraMissing
from ml_backend.export.dataset import Dataset
from ml_backend.export.pictures import FOLDER
from ml_backend.export.rows import Row
from ml_backend.export.table import Column, columns
from ml_backend.tsal.split import PARTS

FILE = "labels.parquet"
METADATA = "metadata.parquet"


def require_pyarrow() -> None:
    """Raise ExtraMissing where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ExtraMissing("Parquet needs pyarrow: run `pip install pyarrow`, or choose --format csv,coco") from error


def write_parquet(folder: Path, dataset: Dataset) -> None:
    """Write the table as one Parquet file."""
    _write(folder / FILE, dataset.rows.rows, columns(dataset.symptoms))


def write_imagefolder(folder: Path, dataset: Dataset) -> None:
    """Write, beside the copied pictures of each part, the table of this part.

    The metadata are Parquet and not CSV or JSON lines: `datasets` guesses the types of those by their values, and
    refuses parts whose guesses differ, as where one part has no certified frame.
    """
    wanted = [_file_name(one) if one.name == "image" else one for one in columns(dataset.symptoms)]
    for part in PARTS:
        rows = dataset.rows.of_part(part)
        if rows:
            _write(folder / FOLDER / part / METADATA, rows, wanted)


def _file_name(image: Column) -> Column:
    return replace(image, name="file_name", of=lambda row: row.image.rpartition("/")[2])


def _write(path: Path, rows: Sequence[Row], wanted: Sequence[Column]) -> None:
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([(one.name, pyarrow.type_for_alias(one.type)) for one in wanted])
    table = pyarrow.Table.from_pydict({one.name: [one.of(row) for row in rows] for one in wanted}, schema)
    with path.open("wb") as file:
        parquet.write_table(table, file)
