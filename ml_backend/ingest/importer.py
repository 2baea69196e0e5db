"""Import frames into a Label Studio project.

Every file is sampled by time, near-duplicates within it are dropped, what is left is kept as PNG where Label Studio can
show it, and becomes a task. An import can run again, after new files arrived or after it was interrupted:
Label Studio's own list of tasks says what is there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePath

from PIL import Image
from tqdm import tqdm

from ml_backend.errors import InvalidRequest, NotWritten, printable
from ml_backend.ingest.apart import Limits, start_early
from ml_backend.ingest.cut import Cut, cut_in_use, keep_cut
from ml_backend.ingest.duplicates import DISTANCE
from ml_backend.ingest.imported import Holder, Imported
from ml_backend.ingest.listed import rows_without_file
from ml_backend.ingest.origins import Origin, Rule, origins_of
from ml_backend.ingest.paths import ClipFile, find_files
from ml_backend.ingest.places import place_of
from ml_backend.ingest.plan import Plan, reconciled
from ml_backend.ingest.reading import Kept, Read, read_all
from ml_backend.ingest.report import Report
from ml_backend.ingest.salt import salt
from ml_backend.ingest.storage import Storage, picture_name
from ml_backend.progress import Progress
from ml_backend.settings import PREFIX
from ml_backend.store.evidence_addresses import EvidenceAddresses
from ml_backend.store.format import IMPORTS
from ml_backend.store.locks import alone
from ml_backend.studio.client import Studio
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.keys import CAPTION, DataKeys

EVERY = Fraction(1, 2)
PIECE = 500  # tasks that are sent to Label Studio at once


@dataclass
class Importer:
    """Imports files into one project."""

    studio: Studio
    project: int
    storage: Storage  # keeps the pictures
    data_dir: Path  # where this installation keeps the salt for DICOM patients, and the project's cut
    every: Fraction = EVERY  # seconds between frames, 0 for all
    distance: int = DISTANCE  # see `distinct`
    rule: Rule = field(default_factory=Rule)
    keep_patients: bool = False  # see `reconciled`
    cut: Cut | None = None  # None: what the project has
    change_cut: bool = False  # see `cut_in_use`
    keys: DataKeys = field(default_factory=DataKeys)
    evidence: EvidenceAddresses | None = None  # None: tasks get no evidence address
    limits: Limits = field(default_factory=Limits)
    dry_run: bool = False  # read and count, but write nothing and send no task

    def __post_init__(self) -> None:
        if self.rule.level is not None and self.rule.level < 0:
            raise InvalidRequest(f"--patient-level {self.rule.level}: choose 0 (the imported folder), 1 or more")

    def plan(self, paths: Sequence[Path]) -> Plan:
        """Find the files and their patients, and which of them the project has already; write nothing.

        Raises InvalidRequest if there is nothing to import, or the patients are ambiguous or not those of the project.
        """
        files, unread = find_files(paths, leave_out=self.storage.folder)
        found = self.before()
        origins, failed = origins_of(files, self.rule, lambda: self.secret(found.there))
        return replace(
            found,
            clips=reconciled(origins, found.there, self.keep_patients, found.cut, self.limits),
            failed=(*unread, *failed),
            unmatched=tuple(rows_without_file(files, self.rule.table)),
        )

    def before(self) -> Plan:
        """Return a plan without clips yet: what the project has, and which crop and masks hold."""
        start_early()
        image_key = Configuration.parse(self.studio.project(self.project).label_config).image_key
        there = Imported((task.data for task in self.studio.tasks(self.project)), image_key, self.keys)
        has_frames = any(there.names.values())
        cut = cut_in_use(self.data_dir, self.project, self.cut, has_frames, self.change_cut)
        return Plan({}, (), there, image_key, cut=cut)

    def secret(self, there: Imported) -> bytes:
        """Return the key of the pseudonyms; SettingsError where the project has some made with another one."""
        return salt(self.data_dir, there.everybody(), self.dry_run)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the project against other imports of this installation: two at a time would make every task twice.

        Raises InvalidRequest where one is running.
        """
        if self.dry_run:
            yield
            return
        with ExitStack() as held:
            try:
                held.enter_context(alone(self.data_dir / IMPORTS / f".{self.project}.lock", wait=False))
            except BlockingIOError:
                raise InvalidRequest(
                    f"another import into project {self.project} is running with this data folder: wait for its end"
                ) from None
            except OSError as error:
                raise NotWritten(
                    f"{self.data_dir} cannot be written ({error.strerror or error}): mend it, or set {PREFIX}DATA_DIR"
                ) from None
            yield

    def run(self, paths: Sequence[Path]) -> Report:
        """Import files and folders; see `plan` for the errors, and `carry_out`."""
        with self.alone():
            return self.carry_out(self.plan(paths))

    def carry_out(self, plan: Plan) -> Report:
        """Import what was planned. An unreadable file is reported on standard error and costs only itself.

        Where Label Studio fails, running again continues.
        """
        report = self.begin(plan)
        for path, reason in plan.failed:
            fail(report, path, reason)
        waiting: list[dict[str, object]] = []
        with Progress("import", "file", len(plan.clips)) as progress:
            for read in self.read(plan.clips, plan):
                for task in self.tasks(read.file.path, plan.clips[read.file], read, plan, report):
                    waiting.append(task)
                    if len(waiting) == PIECE:
                        self.send(waiting, report)
                progress.advance()
        self.send(waiting, report)
        return report

    def begin(self, plan: Plan) -> Report:
        """Prepare what an import writes to, and return its empty report."""
        if not self.dry_run:
            keep_cut(self.data_dir, self.project, plan.cut)
            self.storage.open(self.studio, self.project)
        return Report(dry_run=self.dry_run, unmatched=plan.unmatched, joined=plan.joined(), cut=plan.cut)

    def read(self, files: Iterable[ClipFile], plan: Plan) -> Iterator[Read]:
        """Read files as this import does, and give their pictures to the storage."""
        return read_all(files, self.every, self.distance, partial(self._keep, plan.there), plan.cut, self.limits)

    def _keep(self, there: Imported, picture: Image.Image) -> str:
        """Give a picture to the storage, unless the project has it elsewhere, and return its name."""
        name = picture_name(picture)
        held = there.holders.get(name)
        if not self.dry_run and (held is None or held.place == place_of(self.storage.address(name))):
            self.storage.keep(name, picture)
        return name

    def tasks(
        self, name: PurePath, origin: Origin, read: Read, plan: Plan, report: Report
    ) -> Iterator[dict[str, object]]:
        """Yield the data of a file's new tasks; messages call the file ``name``."""
        there = plan.there.holders
        if origin.burnt_in is not None:
            report.burnt_in[origin.burnt_in] += 1
        report.frames += read.sampled
        if read.kept:
            report.patients.setdefault(origin.known_by, set()).add(origin.patient)
        if read.fault is None:
            report.files += 1
        else:
            fail(report, name, str(read.fault))
        for frame in read.kept:
            held = there.get(frame.name)
            if held is not None:
                report.already_there += 1
                report.other_patient += held.patient not in ("", origin.patient)
                continue
            address = self.storage.address(frame.name)
            there[frame.name] = Holder(origin.clip, origin.patient, place_of(address))
            data = {**_data(self.keys, origin, frame), **self._addresses(plan.image_key, address)}
            yield {**data, CAPTION: self._caption(data, frame.number, read.sampled)}

    def _caption(self, data: Mapping[str, object], number: int, of: int) -> str:
        """Return the caption on the labelling page for frame ``number`` of the ``of`` frames examined in its file."""
        words = [f"Patient {data[self.keys.patient]}", f"clip {data[self.keys.clip]}"]
        if of > 1:
            words += [f"frame {number} of {of}", f"{data[self.keys.time]:.1f} s"]
        return " · ".join(words)

    def _addresses(self, image_key: str, url: str) -> dict[str, object]:
        """Return the data entries for a frame's address and, if wanted, the address of its evidence picture."""
        if self.evidence is None or self.dry_run:
            return {image_key: url}
        return {image_key: url, self.evidence.key: self.evidence.of(self.project, url)}

    def send(self, waiting: list[dict[str, object]], report: Report) -> None:
        """Send tasks to Label Studio, and forget them."""
        if not self.dry_run:
            self.storage.settle()
            if waiting:
                self.studio.import_tasks(self.project, waiting)
        report.imported += len(waiting)
        waiting.clear()


def fail(report: Report, name: PurePath, reason: str) -> None:
    """Report a file that could not be imported, or not to its end."""
    report.failed.append((name, reason))
    tqdm.write(printable(f"{name}: {reason}"), file=sys.stderr)  # keeps a bar whole


def _data(keys: DataKeys, origin: Origin, frame: Kept) -> dict[str, object]:
    data: dict[str, object] = {
        keys.patient: origin.patient,
        keys.clip: origin.clip,
        "frame": frame.frame,
        keys.time: round(frame.time, 6),
    }
    if origin.source is not None:
        data["source"] = origin.source
    return data
