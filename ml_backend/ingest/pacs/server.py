"""A PACS that speaks DICOMweb: search it, and fetch instances one by one.

dicomweb-client searches. Its retrieval holds an instance in memory several times, decoded, so the bytes of an instance
are streamed over the same session instead.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from ml_backend.errors import FrameUnreadable, NotWritten, PacsRefused
from ml_backend.ingest.pacs.parts import BrokenOff, boundary_of, first_part
from ml_backend.ingest.pacs.query import Query, is_uid
from ml_backend.ingest.pacs.session import address_of, explain, may_pass, require_library, session_of, status_of
from ml_backend.settings import PREFIX, Settings

Answer = TypeVar("Answer")
Row = Mapping[str, Any]
_TIMEOUT = (10.0, 60.0)  # seconds: to connect, and without a byte
_PAGE = 1000  # rows asked for at once
_MOST = 100_000  # rows of one search: some servers answer each page with rows that are new
_BLOCK = 1 << 20  # bytes
_LONGEST = 1800.0  # seconds for one instance: the timeout begins anew with every byte
_FAULTS = 5  # instances in a row that the PACS fails to give, after which no more are asked for
_STUDY, _SERIES, _INSTANCE, _CLASS = "0020000D", "0020000E", "00080018", "00080016"
_DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'  # * : as it is stored
_OWN_FAULT = frozenset({400, 403, 404, 406, 409, 410, 415, 451, 500, 501})
"""Answers that may be about one instance only: it was deleted, may not be read, cannot be sent as it is stored."""


@dataclass(frozen=True)
class Instance:
    """Where an instance lies in the PACS, and the UID of its kind (SOP class; empty if the PACS does not say)."""

    study: str
    series: str
    uid: str
    kind: str


class Pacs:
    """One DICOMweb server.

    Its methods raise PacsUnavailable where it does not answer, and PacsRefused where it refuses or does not speak
    DICOMweb.
    """

    waits: Sequence[float] = (1.0, 4.0, 15.0)  # seconds before the second, third and fourth try

    def __init__(self, url: str, settings: Settings) -> None:
        require_library()
        from dicomweb_client.api import DICOMwebClient

        self._url = address_of(url)
        self._largest = settings.max_instance_bytes
        self._faults = 0
        self._session = session_of(settings)
        self._client = DICOMwebClient(self._url, self._session, timeout=_TIMEOUT, permissive_uid=True)
        self._client.set_http_retry_params(retry=False)  # it does not repeat what breaks off

    def studies(self, filters: Mapping[str, str]) -> list[str]:
        """Return the UIDs of the studies that match."""
        rows = self._all(_STUDY, lambda **page: self._client.search_for_studies(search_filters=dict(filters), **page))
        return [_value(row, _STUDY) for row in rows]

    def instances(self, study: str, query: Query) -> list[Instance]:
        """Return the instances of a study that match; none if the study is not there."""
        found: list[Instance] = []
        for row in self._all(
            _SERIES,
            lambda **page: self._client.search_for_series(study, search_filters=dict(query.series), **page),
            absent=study,
        ):
            series = _value(row, _SERIES)
            rows = self._all(
                _INSTANCE,
                lambda series=series, **page: self._client.search_for_instances(
                    study, series, search_filters=dict(query.instance), fields=["SOPClassUID"], **page
                ),
            )
            found += [Instance(study, series, _value(row, _INSTANCE), _kind(row)) for row in rows]
        return found

    @contextmanager
    def fetched(self, instance: Instance) -> Iterator[Path]:
        """Fetch an instance into a file without a name, of which nothing is left whatever happens to this process.

        Raises FrameUnreadable if only this instance cannot be had, and NotWritten if there is no room for it.
        """
        with _room():
            file = tempfile.TemporaryFile()  # noqa: SIM115
        with file:
            self._write(instance, file)
            yield Path(f"/proc/self/fd/{file.fileno()}")

    def _write(self, instance: Instance, file: BinaryIO) -> None:
        def attempt() -> None:
            with _room():
                file.seek(0)
                file.truncate()
            for block in self._blocks(instance):
                with _room():
                    file.write(block)
            with _room():
                file.flush()

        try:
            self._repeated(attempt)
        except BrokenOff:
            raise self._fault("the PACS breaks its transfer off each time") from None
        except TimeoutError:
            raise self._fault(f"the PACS takes longer than {_LONGEST:g} s to send it") from None
        except Exception as error:
            status = status_of(error)
            if status in _OWN_FAULT and status >= 500:
                raise self._fault(f"the PACS does not give it (status {status})") from None
            self._faults = 0
            if status in _OWN_FAULT:
                raise FrameUnreadable(f"the PACS does not give it (status {status})") from None
            explain(error, self._url, len(self.waits) + 1)
        self._faults = 0

    def _fault(self, reason: str) -> FrameUnreadable | PacsRefused:
        """Return what to raise for an instance that the PACS fails to give: PacsRefused after several in a row."""
        self._faults += 1
        if self._faults < _FAULTS:
            return FrameUnreadable(reason)
        return PacsRefused(
            f"the PACS at {self._url} fails to give {_FAULTS} instances in a row; of the last: {reason}. See its own "
            "log. What came before is imported; to import the rest first, choose other studies"
        )

    def _blocks(self, instance: Instance) -> Iterator[bytes]:
        address = f"{self._url}/studies/{instance.study}/series/{instance.series}/instances/{instance.uid}"
        with self._session.get(address, headers={"Accept": _DICOM}, stream=True, timeout=_TIMEOUT) as answer:
            answer.raise_for_status()
            content_type = answer.headers.get("Content-Type", "")
            blocks = self._limited(answer.raw)
            boundary = boundary_of(content_type)
            if boundary is not None:
                yield from first_part(blocks, boundary)
            elif content_type.partition(";")[0].strip().lower() == "application/dicom":
                yield from blocks  # against the standard, but some do
            else:
                raise ValueError("no DICOM")  # such as a page that asks to sign in

    def _limited(self, raw: Any) -> Iterator[bytes]:
        """Yield the body of an answer as it comes; raises TimeoutError, and FrameUnreadable if it is too large."""
        from urllib3.exceptions import HTTPError

        end, size = time.monotonic() + _LONGEST, 0
        read = getattr(raw, "read1", raw.read)  # urllib3 before 2.2 can only wait for whole blocks
        while True:
            try:
                block = read(_BLOCK, decode_content=True)
            except HTTPError as error:
                raise BrokenOff from error
            if not block:
                return
            if time.monotonic() > end:
                raise TimeoutError
            size += len(block)
            if size > self._largest:
                raise FrameUnreadable(
                    f"it has more than the {self._largest} bytes allowed; raise {PREFIX}MAX_INSTANCE_BYTES"
                )
            yield block

    def _all(self, key: str, search: Callable[..., Any], absent: str | None = None) -> list[Row]:
        """Return all pages of a search, each UID under ``key`` once; nothing if the study ``absent`` is not there."""
        found: dict[str, Row] = {}
        while True:
            try:
                rows = self._repeated(partial(_page, search, key, len(found)))
            except Exception as error:
                if absent is not None and status_of(error) == 404:
                    self.studies({"StudyInstanceUID": absent})  # fails if it is the address that is wrong
                    return []
                explain(error, self._url, len(self.waits) + 1)
            new = {_value(row, key): row for row in rows}
            if new.keys() <= found.keys():  # the end, or a server that pays no heed to pages
                return list(found.values())
            found |= new
            if len(found) > _MOST:
                raise PacsRefused(f"the search finds more than {_MOST} entries; ask for less: narrow --query")

    def _repeated(self, call: Callable[[], Answer]) -> Answer:
        for wait in self.waits:
            try:
                return call()
            except Exception as error:
                if not may_pass(error):
                    raise
                time.sleep(wait)
        return call()


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotWritten(
            f"the folder for temporary files cannot be written ({error.strerror or error}): make room, or name another "
            "one in TMPDIR"
        ) from None


def _page(search: Callable[..., Any], key: str, offset: int) -> Sequence[Row]:
    """Return rows that each have a UID under ``key``; an answer without is not DICOMweb's."""
    rows = search(limit=_PAGE, offset=offset)
    if not isinstance(rows, list) or not all(is_uid(_value(row, key)) for row in rows):
        raise ValueError("no DICOM JSON")
    return rows


def _value(row: Row, key: str) -> str:
    return str(row[key]["Value"][0])


def _kind(row: Row) -> str:
    try:
        return _value(row, _CLASS)
    except (KeyError, IndexError, TypeError):
        return ""
