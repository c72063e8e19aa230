"""The whole 1000 Genomes panel in rehearsal: build a simulated piece of it, and say what the whole will take.

    python benchmarks/genome_scale.py [--records 600000] [--scratch DIR] [--data DIR] [--workers 2]

Four contigs of different sizes at 3,202 samples are written once into the scratch folder (a minute for each 400,000
records), built by two workers, and verified. Time and size by record are then carried to the release's 23 files, with
the arithmetic shown; memory is a line through contigs of three sizes, each built alone. Wall time is that of a machine
to itself; the seconds of CPU beside it hardly depend on what else runs.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from simulate import LETTERS, simulate_genome, write_fasta

from kleiber.genome.panel import Panel
from kleiber.genome.reference import Reference
from kleiber.genome.vcf import VcfFile
from kleiber.storage import read_manifest, staged_folder, write_manifest

SAMPLES = 3202
SLOTS = 2 * SAMPLES
SHARES = {"chr1": 0.4, "chr2": 0.3, "chr3": 0.2, "chr4": 0.1}
RELEASE = 73_554_796
"""Assumed records of the whole panel. Release 20201028 states no count; this is of its successor of 2022, with SVs,
which holds 73,452,337 SNVs and indels (Byrska-Bishop et al. 2022, doi 10.1016/j.cell.2022.08.004)."""
_LENGTHS = """248956422 242193529 198295559 190214555 181538259 170805979 159345973 145138636 138394717 133797422
135086622 133275309 114364328 107043718 101991189 90338345 83257441 80373285 58617616 64444167 46709983 50818468
156040895"""
GRCH38 = dict(zip([f"chr{i}" for i in [*range(1, 23), "X"]], map(int, _LENGTHS.split()), strict=True))
ALL_BASES = 3_209_286_105  # of RefSeq GCF_000001405.26, alternate loci included


@dataclass(frozen=True)
class Cost:
    """What one piece of work took: wall and CPU seconds, and the most memory at one time of all its processes."""

    wall: float
    cpu: float
    rss: float
    private: float

    def __str__(self) -> str:
        return f"{self.wall:7.1f} s wall, {self.cpu:7.1f} s CPU, peak {self.rss / 1e6:6.0f} MB resident"


def measured(work: Callable[..., object], *arguments: object) -> Cost:
    """Run ``work(*arguments)`` in a fresh process, and watch it and its children."""
    context = get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_timed, args=(work, arguments, queue))
    process.start()
    peaks, ended = [0.0, 0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            rss, private = _memory_of_tree(process.pid or 0)
            peaks[0], peaks[1] = max(peaks[0], rss), max(peaks[1], private)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        wall, cpu = queue.get()
        process.join()
    finally:
        ended.set()
        watcher.join()
    return Cost(wall, cpu, *peaks)


def _timed(work: Callable[..., object], arguments: tuple, queue: object) -> None:
    start = time.perf_counter()
    work(*arguments)
    wall = time.perf_counter() - start
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    queue.put((wall, sum(usage.ru_utime + usage.ru_stime for usage in used)))


def _memory_of_tree(root: int) -> tuple[float, float]:
    """Return resident and private bytes of a process and everything it started; shared pages count in each."""
    parents, sizes = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                status = dict(
                    line.split(":", 1) for line in Path(f"/proc/{entry}/status").read_text().splitlines() if ":" in line
                )
            except OSError:
                continue  # it has ended
            parents[int(entry)] = int(status["PPid"])
            sizes[int(entry)] = [1024 * float(status.get(key, "0").split()[0]) for key in ("VmRSS", "RssAnon")]
    tree, found = {root}, True
    while found:
        found = {pid for pid, parent in parents.items() if parent in tree} - tree
        tree |= found
    return tuple(sum(sizes.get(pid, (0, 0))[k] for pid in tree) for k in (0, 1))


def build_reference(fasta: Path, out: Path) -> None:
    Reference.build(fasta, out)


def build_panel(reference: Path, files: list[Path], out: Path, workers: int) -> None:
    Panel.build(Reference.open(reference), files, out, workers=workers)


def verify(panel: Path) -> None:
    assert Panel.open(panel).damage() == []


def simulated(scratch: Path, n_records: int) -> tuple[Path, list[Path]]:
    """Return the simulated FASTA and VCF files, writing them when they are not there."""
    folder = scratch / f"simulated-{n_records}"
    plan = {contig: int(share * n_records) for contig, share in SHARES.items()}
    if read_manifest(folder) is None:
        start = time.perf_counter()
        with staged_folder(folder) as partial:
            simulate_genome(partial, SAMPLES, plan)
            write_manifest(partial, {"records": plan})
        print(f"simulated {n_records:,} records x {SAMPLES:,} samples in {time.perf_counter() - start:.0f} s")
    return folder / "reference.fa", [folder / f"{contig}.vcf.gz" for contig in plan]


def largest_contig(scratch: Path) -> Path:
    """Return a FASTA file of one contig, as long as chr1."""
    fasta = scratch / "chr1.fa"
    if not fasta.exists():
        write_fasta(scratch / "chr1.part", {"chr1": np.random.default_rng(1).choice(LETTERS, GRCH38["chr1"])})
        os.replace(scratch / "chr1.part", fasta)
    return fasta


def character(files: list[Path], panels: list[Path]) -> dict[str, float]:
    """Return what decides the cost of records (their carriers, their text, their bytes), and of stores (their bits)."""
    counts, n_text, n_indels, n_records = [], 0, 0, 0
    for file in files:
        for _, _, batch in VcfFile(file).batches():
            r, v = int(batch.n[0]), int(batch.n[1])
            counts.append(np.diff(batch.carriers_at[: v + 1]))
            n_indels += int((batch.ref_len[batch.record[:v]] != batch.alt_len[:v]).sum())
            n_text += int(batch.ref_at[r - 1] - batch.ref_at[0]) * r // max(1, r - 1)
            n_records += r
    carriers = np.concatenate(counts)
    edges = (0, 2, 5, 32, 320, 800, SLOTS)
    found = {
        f"{low + 1} to {high} carriers": float(((carriers > low) & (carriers <= high)).mean())
        for low, high in pairwise(edges)
    }
    sizes = [store_size(Panel.open(panel)) for panel in panels]
    return {
        **found,
        "indels": n_indels / len(carriers),
        "bytes of text": n_text / n_records,
        "bytes of file": sum(file.stat().st_size for file in files) / n_records,
        "bits a cell": 8 * sum(size for size, _ in sizes) / sum(cells for _, cells in sizes),
    }


def store_size(panel: Panel) -> tuple[int, int]:
    """Return the bytes of a store without its reference, and its cells: edits times haplotypes."""
    n_bytes = sum(path.stat().st_size for path in panel.path.glob("part-*/*"))
    return n_bytes, panel.n_slots * sum(entry["n_edits"] for entry in panel.manifest["contigs"])


def compare(scratch: Path, data: Path, files: list[Path], panel: Path) -> list[dict[str, float]]:
    """Print the simulation beside the real slices, where they are; return the character of each."""
    n_bytes, n_cells = store_size(Panel.open(panel))
    ours = character(files[-1:], [panel]) | {"bits a cell": 8 * n_bytes / n_cells}
    slices = sorted((data / "demo_grch38_kgp3202").glob("*.vcf.gz"))
    if not slices:
        print(f"\nno real slices under {data}: the simulation stands alone")
        return [ours]
    reference = Reference.build(slices[0].parent / "GRCh38.loci_Npadded.fa.gz", scratch / "slices-reference")
    panels = [scratch / f"slice-{i}" for i in range(len(slices))]
    for file, out in zip(slices, panels, strict=True):
        Panel.build(reference, [file], out)
    each = [character([file], [out]) for file, out in zip(slices, panels, strict=True)]
    theirs = character(slices, panels)
    names = [file.name.replace("1kGP_high_coverage_Illumina.", "").split(".")[0] for file in slices]
    print(f"\n{'of a record':<24}{'simulated':>12}{'real slices':>13}" + "".join(f"{name:>10}" for name in names))
    for key in ours:
        digits = ".0f" if "bytes" in key else ".3f"
        print(
            f"{key:<24}{ours[key]:>12{digits}}{theirs[key]:>13{digits}}"
            + "".join(f"{e[key]:>10{digits}}" for e in each)
        )
    return [ours, theirs]


def schedule(seconds: list[float], workers: int) -> float:
    """Return when the last of some pieces of work is done, the longest begun first."""
    busy = [0.0] * workers
    for piece in sorted(seconds, reverse=True):
        heapq.heappush(busy, heapq.heappop(busy) + piece)
    return max(busy)


def measure(scratch: Path, fasta: Path, files: list[Path], workers: int) -> tuple[dict[str, Cost], dict[int, Cost]]:
    """Print and return what each step took, and what contigs took that were built alone, by their records."""
    warm = files[-1:]
    build_reference(fasta, scratch / "reference")  # and compile, once
    build_panel(scratch / "reference", warm, scratch / "warm", 1)
    costs = {
        "reference as long as chr1": measured(build_reference, largest_contig(scratch.parent), scratch / "chr1"),
        f"panel, {workers} workers": measured(build_panel, scratch / "reference", files, scratch / "panel", workers),
        "verify": measured(verify, scratch / "panel"),
    }
    alone = {}
    for file in files[:1] + files[2:]:
        n = read_manifest(file.parent)["records"][file.name.split(".")[0]]
        alone[n] = measured(build_panel, scratch / "reference", [file], scratch / f"alone-{n}", 1)
    for name, cost in {**costs, **{f"{n:,} records alone": cost for n, cost in alone.items()}}.items():
        print(f"  {name:<27}{cost}")
    return costs, alone


def extrapolate(
    options: argparse.Namespace,
    n_bases: int,
    costs: dict[str, Cost],
    alone: dict[int, Cost],
    kinds: list[dict[str, float]],
) -> dict[str, float]:
    """Print what the whole panel takes, with the arithmetic; return the totals."""
    reference, panel, check = costs.values()
    workers, n = options.workers, options.records
    total = sum(GRCH38.values())
    records = {name: options.release * length / total for name, length in GRCH38.items()}
    per_record = workers * panel.wall / n
    hours = schedule([r * per_record for r in records.values()], workers) / 3600
    cpu_hours = panel.cpu / n * options.release / 3600
    reference_hours = reference.wall / GRCH38["chr1"] * ALL_BASES / 3600
    densest, file_bytes = (max(kind[key] for kind in kinds) for key in ("bits a cell", "bytes of file"))
    store = densest * options.release * SLOTS / 8
    a_byte = check.wall / (kinds[0]["bits a cell"] * n * SLOTS / 8 + n_bases)
    whole = store + ALL_BASES
    verify_hours = a_byte * whole / 3600
    slope, base = np.polyfit(list(alone), [cost.rss for cost in alone.values()], 1)
    parent = max(0.0, panel.rss - 2 * base - slope * n * (SHARES["chr1"] + SHARES["chr2"]))
    largest = sorted(records.values(), reverse=True)[:workers]
    memory = parent + sum(base + slope * r for r in largest)
    chr1 = records["chr1"]
    lines = {
        "a record": f"{workers} x {panel.wall:.1f} s / {n:,} = {1e6 * per_record:.1f} us of a worker",
        "largest file": f"chr1, {chr1:,.0f} records by its share of bases: {chr1 * per_record / 60:.1f} minutes",
        "panel": f"23 files, the longest first, on {workers} workers: {hours:.2f} h",
        "panel, CPU": f"{panel.cpu:.1f} s / {n:,} x {options.release:,} = {cpu_hours:.2f} h of all",
        "reference": f"{reference.wall:.1f} s / {GRCH38['chr1']:,} bases x {ALL_BASES:,} = {reference_hours:.2f} h",
        "all": f"{hours:.2f} + {reference_hours:.2f} = {hours + reference_hours:.2f} h (bar: 2 h)",
        "verify": f"{1e9 * a_byte:.2f} ns a byte x {whole / 1e9:.2f} GB = {60 * verify_hours:.1f} minutes",
        "store": f"{densest:.3f} bit x {options.release:,} x {SLOTS:,} / 8 = {store / 1e9:.2f} GB (bar: 12.5 GB)",
        "on disk": f"{store / 1e9:.2f} + {ALL_BASES / 1e9:.2f} of reference = {whole / 1e9:.2f} GB",
        "to download": f"{file_bytes:.0f} bytes x {options.release:,} = {file_bytes * options.release / 1e9:.0f} GB",
        "a worker": f"{base / 1e6:.0f} MB + {slope:.0f} bytes x records; chr1: {(base + slope * chr1) / 1e6:.0f} MB",
        "memory": f"{parent / 1e6:.0f} MB + the {workers} largest files = {memory / 1e9:.2f} GB resident",
        "memory, reference": f"chr1 alone, as measured: {reference.rss / 1e9:.2f} GB resident",
    }
    print(f"\nthe whole panel: {options.release:,} records x {SAMPLES:,} samples, {workers} workers")
    for name, line in lines.items():
        print(f"  {name:<18} {line}")
    return {
        "records_per_s": n / panel.wall,
        "records_per_cpu_s": n / panel.cpu,
        "hours": hours + reference_hours,
        "cpu_hours": cpu_hours + reference.cpu / GRCH38["chr1"] * ALL_BASES / 3600,
        "verify_hours": verify_hours,
        "store_bytes": store,
        "memory_bytes": max(memory, reference.rss),
        "memory_bytes_a_record": slope,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=600_000, help="of the simulation")
    parser.add_argument("--release", type=int, default=RELEASE, help="records of the whole panel")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "kleiber-genome-scale")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    options = parser.parse_args()
    fasta, files = simulated(options.scratch, options.records)
    n_bases = sum(length or 0 for file in files for length in VcfFile(file).lengths.values())
    print(f"{options.records:,} records x {SAMPLES:,} samples on {n_bases:,} bases in {len(files)} files")
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        costs, alone = measure(Path(folder), fasta, files, options.workers)
        kinds = compare(Path(folder), options.data, files, Path(folder) / "panel")
    print(json.dumps({"records": kinds, **extrapolate(options, n_bases, costs, alone, kinds)}))


if __name__ == "__main__":
    main()
