"""Which files the rows of a table of patients mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ml_backend.errors import InvalidRequest
from ml_backend.ingest.paths import ClipFile


def listed_patients(files: Sequence[ClipFile], table: Mapping[str, str]) -> dict[ClipFile, str]:
    """Return the table's patient of each file that it lists, by the path below the imported folder or by the name."""
    listed = {file: table[file.name] for file in files if file.name in table}
    by_name = [file for file in files if file not in listed and file.path.name in table]
    for name, count in Counter(file.path.name for file in by_name).items():
        if count > 1:
            places = [file.name for file in by_name if file.path.name == name]
            raise InvalidRequest(
                f"the table lists {name}, and {count} files have that name, such as {places[0]} and {places[1]}: "
                "write the path below the imported folder in the column file"
            )
    listed |= {file: table[file.path.name] for file in by_name}
    unused = {row.casefold(): row for row in rows_without_file(files, table)}
    for file in files:
        row = unused.get(file.name.casefold(), unused.get(file.path.name.casefold()))
        if file not in listed and row is not None:
            raise InvalidRequest(f"the table lists {row}, and the file is {file.name}: write it as the file is called")
    return listed


def rows_without_file(files: Sequence[ClipFile], table: Mapping[str, str]) -> list[str]:
    """Return the names in the table that are no file's."""
    names = {name for file in files for name in (file.name, file.path.name)}
    return [row for row in table if row not in names]
