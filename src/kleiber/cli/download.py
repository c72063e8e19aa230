"""The verb download: the catalogue, and its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from kleiber.genome.download import Outcome
    from kleiber.genome.sources import Source

__all__ = ["download"]


def download(
    *name: str,
    to: Path = Path("data"),
    contigs: str = "",
    mirror: str = "",
    jobs: int = 3,
    listing: Annotated[bool, Parameter(name="--list", negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Fetch public data, verified and resumed after any cut; without a name, list what there is.

    Files that a folder of the environment variable KLEIBER_DATA holds are checked there and not fetched again.

    Example: ``kleiber download GRCh38 1000G-30x-phased --contigs chr21,chr22``

    Parameters
    ----------
    name
        Names of the catalogue.
    to
        The folder that the files land in.
    contigs
        Of data that are one file a contig, fetch these only: chr21,chr22.
    mirror
        The address of a folder that is tried before those of the catalogue.
    jobs
        Files at a time, up to 8.
    listing
        List sizes, licences and citations, and fetch nothing.
    json
        Print JSON.
    """
    from dataclasses import asdict
    from json import dumps

    from kleiber.genome.download import download as fetch
    from kleiber.genome.sources import catalogue, find_source, select
    from kleiber.signals import stop_asked

    sources = [find_source(each) for each in name] or [*catalogue().values()]
    if listing or not name:
        print(dumps([asdict(source) for source in sources]) if json else "\n".join(_described(sources)))
        return
    chosen = select(sources, [contig.strip() for contig in contigs.split(",") if contig.strip()])
    with stop_asked() as stop, _bars(quiet=json) as (moved, say):
        outcomes = fetch(chosen, to, mirror, jobs, stop=stop, moved=moved, done=lambda outcome: say(_told(outcome)))
    if json:
        print(dumps([asdict(outcome) for outcome in outcomes]))


def _described(sources: list[Source]) -> Iterator[str]:
    for source in sources:
        sizes = [file.size for file in source.files]
        size = _bytes(sum(sizes)) if all(sizes) else "size told by the server"
        number = f"{len(sizes)} files" if len(sizes) > 1 else "1 file"
        yield f"{source.name}: {source.title}"
        yield f"  {number}, {size}; {source.licence} ({source.terms})"
        yield f"  {source.citation}, doi:{source.doi}"
        yield f"  {source.addresses[0]}"


def _told(outcome: Outcome) -> str:
    state = {"fetched": "fetched", "checked": "was here", "there": "is known"}[outcome.status]
    verified = f"{outcome.verified.split()[0]} verified" if outcome.verified else f"not verified: {outcome.note}"
    return f"{outcome.path}  {_bytes(outcome.size)}  {state}, {verified}"


def _bytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size:,} bytes"


@contextmanager
def _bars(quiet: bool) -> Iterator[tuple[Callable[[str, int, int], None], Callable[[str], None]]]:
    """Show a bar for every file under way, on a terminal only; yields what to tell bytes and lines to."""
    import sys

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    tasks = {}
    bars = Progress(
        *columns,
        console=console,
        disable=quiet or not console.is_terminal,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    )
    with bars:

        def moved(name: str, n_bytes: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name[-48:], total=total or None)
            bars.update(tasks[name], completed=n_bytes, visible=n_bytes != total)

        yield moved, (lambda line: None) if quiet else (lambda line: print(line, flush=True))
