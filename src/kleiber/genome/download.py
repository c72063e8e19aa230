"""Verified downloads: mirrors in turn, checksums from the source's own list, a final name only for what was checked.

A file comes as ``NAME.part``, is compared with its checksum on the disk, and then gets its name by one rename;
``downloads.json`` in the same folder remembers what was checked, so that a second call costs nothing. Bytes are read
again for their checksum rather than hashed on their way, because what counts is what the disk holds.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any, TypeVar

from kleiber.errors import ConfigError, DataError, DownloadError, KleiberError, NoNetwork, Stopped
from kleiber.genome.fetch import PATIENCE, AddressError, Limits, Transfer, discard, held, size_at
from kleiber.genome.sources import DATA_VARIABLE, Source, SourceFile, address_of, find_file, parse_checksums
from kleiber.genome.wanted import Outcome, Wanted, examine, is_folder, read_records, with_sum
from kleiber.storage import is_unchanged, land, locked, write_atomic

__all__ = ["MOST_JOBS", "RECORDS", "Outcome", "download"]

RECORDS = "downloads.json"
MOST_JOBS = 8  # connections that a public server will not mind


_FIELDS = {field.name for field in fields(Outcome)}


T = TypeVar("T")


def download(
    chosen: Sequence[tuple[Source, SourceFile]],
    to: Path,
    mirror: str = "",
    jobs: int = 3,
    limits: Limits = PATIENCE,
    stop: Event | None = None,
    moved: Callable[[str, int, int], None] = lambda name, n_bytes, total: None,
    done: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Bring files of the catalogue into a folder, verified.

    What is in a folder of ``KLEIBER_DATA`` is checked and stays there.

    Parameters
    ----------
    mirror
        A folder's address that is tried before those of the catalogue.
    jobs
        Files at a time.
    stop
        Ends everything when it is set; what has come stays and is resumed.
    moved, done
        Told the bytes of a file as they come, and each file that is finished.

    Raises
    ------
    DownloadError
        When a file cannot be had, or the disk is too small; the other files are finished first.
    DataError
        When a file that was here already is not the source's.
    StateError
        When another process downloads into the same folder.
    ConfigError
        When `jobs` or `mirror` cannot be.
    """
    if not 1 <= jobs <= MOST_JOBS:
        raise ConfigError(f"{jobs} files at a time cannot be.\n  Choose 1 to {MOST_JOBS}: these are public servers.")
    if mirror and not is_folder(mirror):
        raise ConfigError(f"{mirror!r} is no mirror.\n  Write the address of a folder: https://host/folder/")
    try:
        with locked(to / RECORDS):
            records = read_records(to / RECORDS)
            return _Work(to, records, mirror, limits, stop or Event(), moved, done).run(chosen, jobs)
    except OSError as error:
        raise DownloadError(
            f"{to} cannot be used: {error}.\n  Choose another folder with --to; what has come is kept and resumed."
        ) from error


@dataclass
class _Work:
    """One call: the folder, what is known of it, and how to reach the sources."""

    to: Path
    records: dict[str, dict[str, Any]]
    mirror: str
    limits: Limits
    stop: Event
    moved: Callable[[str, int, int], None]
    done: Callable[[Outcome], None]

    def run(self, chosen: Sequence[tuple[Source, SourceFile]], jobs: int) -> list[Outcome]:
        """Leave alone what is known, check what is here, fetch what is missing."""
        outcomes: dict[str, Outcome] = {}
        wanted = []
        for source, file in chosen:
            item = Wanted(source, file, find_file(file.name, self.to))
            known = self._known(item)
            if known is None:
                wanted.append(item)
            else:
                outcomes[file.name] = known
                self.done(known)
        wanted = self._with_sums(wanted)
        self._check_space([item for item in wanted if item.path is None])
        with ThreadPoolExecutor(jobs) as pool:
            steps = {pool.submit(self._obtain if item.path is None else self._adopt, item) for item in wanted}
            errors = self._gather(steps, outcomes)
        if errors:
            raise _together(errors)
        return [outcomes[file.name] for _, file in chosen]

    def _gather(self, waiting: set[Future[Outcome]], outcomes: dict[str, Outcome]) -> list[KleiberError]:
        """Record every file as it is finished; without a network, or after a stop, the rest is not begun."""
        errors: list[KleiberError] = []
        try:
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    try:
                        outcome = future.result()
                    except KleiberError as error:
                        errors.append(error)
                        if isinstance(error, NoNetwork | Stopped):
                            waiting = {other for other in waiting if not other.cancel()}
                        continue
                    outcomes[outcome.name] = outcome
                    self._record(outcome)
                    self.done(outcome)
        except BaseException:
            self.stop.set()
            for future in waiting:
                future.cancel()
            raise
        return errors

    def _known(self, item: Wanted) -> Outcome | None:
        """Return what is recorded of a file that has not changed and has nothing left to be compared with."""
        record = item.path and self.records.get(self._key(item.path))
        if not item.path or not record or record.keys() != _FIELDS or not is_unchanged(item.path, record):
            return None
        pinned = item.file.digest
        is_settled = (
            record["verified"] == " ".join(pinned) if pinned else record["verified"] or not item.source.checksums
        )
        return Outcome(**{**record, "path": str(item.path), "status": "there"}) if is_settled else None

    def _key(self, path: Path) -> str:
        return path.name if path.parent.absolute() == self.to.absolute() else str(path.absolute())

    def _record(self, outcome: Outcome) -> None:
        self.records[self._key(Path(outcome.path))] = asdict(outcome)
        write_atomic(self.to / RECORDS, json.dumps(self.records, indent=1, sort_keys=True) + "\n")

    def _with_sums(self, wanted: list[Wanted]) -> list[Wanted]:
        """Complete what the catalogue says of files by their source's own list; without it nothing is fetched."""
        lists: dict[str, dict[str, SourceFile] | None] = {}
        for item in wanted:
            source = item.source
            if source.checksums and not item.file.digest and source.name not in lists:
                try:
                    lists[source.name] = self._in_turn(
                        source, source.checksums, self._list_folders(source), self._read_list
                    )
                except DownloadError:
                    if not all(other.path for other in wanted if other.source == source):
                        raise
                    lists[source.name] = None
        return [with_sum(item, lists.get(item.source.name)) for item in wanted]

    def _read_list(self, address: str) -> dict[str, SourceFile]:
        with TemporaryDirectory() as scratch:
            part = Path(scratch) / "list"
            Transfer(address, part, limits=self.limits, stop=self.stop).run()
            return parse_checksums(part.read_text(encoding="utf-8", errors="replace"))

    def _list_folders(self, source: Source) -> list[str]:
        """The source itself says what is right; a mirror only where nobody else can be asked."""
        return [*source.addresses, self.mirror] if self.mirror else [*source.addresses]

    def _file_folders(self, source: Source) -> list[str]:
        return [self.mirror, *source.addresses] if self.mirror else [*source.addresses]

    def _in_turn(self, source: Source, name: str, folders: Sequence[str], step: Callable[[str], T]) -> T:
        """Return what the first address gives that gives anything."""
        problems = []
        for folder in folders:
            address = address_of(folder, name)
            try:
                return step(address)
            except AddressError as error:
                problems.append((address, error))
        raise self._failure(source, name, problems)

    def _check_space(self, missing: list[Wanted]) -> None:
        """Refuse before the first byte what the disk cannot hold."""
        sizes = [item.file.size or self._asked_size(item) for item in missing]
        needed = sum(max(0, size - held(self._part(item.file))) for size, item in zip(sizes, missing, strict=True))
        free = shutil.disk_usage(self.to).free
        if needed > free:
            raise DownloadError(
                f"{self.to} is too small: {needed:,} bytes are to come, and {free:,} are free.\n"
                "  Free some, choose another disk with --to, or begin with a few --contigs."
            )

    def _asked_size(self, item: Wanted) -> int:
        """Return the size that the first address that answers tells, or 0."""
        folders = self._file_folders(item.source)
        try:
            return self._in_turn(item.source, item.file.name, folders, lambda address: size_at(address, self.limits))
        except NoNetwork:
            raise
        except DownloadError:
            return 0  # some servers answer no HEAD; the request for the file itself tells more

    def _part(self, file: SourceFile) -> Path:
        return self.to / f"{file.name}.part"

    def _obtain(self, item: Wanted) -> Outcome:
        """Fetch a file from one address after the other, and give it its name when it is right."""
        file, part = item.file, self._part(item.file)
        addresses = [address_of(folder, file.name) for folder in self._file_folders(item.source)]
        problems: list[tuple[str, AddressError]] = []
        n_wrong = 0
        while addresses:
            address = addresses.pop(0)
            try:
                self._transfer(address, part, file).run()
                sums = examine(part, file)
            except AddressError as error:
                problems.append((address, error))
            except DataError as error:
                discard(part)
                problems.append((address, AddressError(str(error))))
                n_wrong += 1
                addresses = [] if n_wrong == 2 else addresses or [address]
            else:
                land(part, self.to / file.name)
                discard(part)
                return self._outcome(item, self.to / file.name, "fetched", sums, address)
        raise self._failure(item.source, file.name, problems)

    def _transfer(self, address: str, part: Path, file: SourceFile) -> Transfer:
        return Transfer(
            address,
            part,
            file.size,
            is_checked=file.digest is not None,
            limits=self.limits,
            stop=self.stop,
            moved=lambda n_bytes, total: self.moved(file.name, n_bytes, total),
        )

    def _adopt(self, item: Wanted) -> Outcome:
        """Check a file that somebody put here, once."""
        assert item.path is not None
        try:
            sums = examine(item.path, item.file)
        except DataError as error:
            raise DataError(
                f"{item.path} is not the file that {item.source.name} names: {error}.\n"
                f"  Move it away (or its folder out of {DATA_VARIABLE}), and run the same command again."
            ) from None
        return self._outcome(item, item.path, "checked", sums, "")

    def _outcome(self, item: Wanted, path: Path, status: str, sums: dict[str, str], address: str) -> Outcome:
        stat = path.stat()
        return Outcome(
            source=item.source.name,
            name=item.file.name,
            path=str(path),
            status=status,
            size=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            sha256=sums["sha256"],
            verified=" ".join(item.file.digest or ()),
            note=item.note,
            address=address,
        )

    def _failure(self, source: Source, name: str, problems: Sequence[tuple[str, AddressError]]) -> DownloadError:
        """Return the error of a file that no address gives."""
        told = "\n".join(f"  {address}: {error}" for address, error in problems)
        if not any(error.is_reached for _, error in problems):
            return NoNetwork(
                f"{name} of {source.name} cannot be fetched: nothing answers from here.\n{told}\n"
                f"  On a machine without network, put the files of {source.name} by hand into {self.to},"
                f" or into a folder that the environment variable {DATA_VARIABLE} names."
            )
        return DownloadError(
            f"{name} of {source.name} could not be fetched.\n{told}\n"
            "  Try again later, or name another mirror with --mirror; what has come is kept and resumed."
        )


def _together(errors: list[KleiberError]) -> KleiberError:
    """Return one error for all: the stop or the missing network, else every file's own."""
    for error in errors:
        if len(errors) == 1 or isinstance(error, Stopped | NoNetwork):
            return error
    return DownloadError("\n".join(str(error) for error in errors))
