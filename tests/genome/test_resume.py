"""Builds that are stopped go on with what is not finished, by file and by contig, and end in the same bytes."""

from __future__ import annotations

import gzip
import json
import random
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pysam
import pysam.bcftools
import pytest

from kleiber.genome import build as building
from kleiber.genome.bgzf import pieces
from kleiber.genome.panel import Panel, PanelRules
from kleiber.genome.reference import Reference
from kleiber.genome.vcf import VcfFile
from kleiber.storage import file_digest
from oracles import haplotype as oracle


def drawn_panel(folder: Path) -> tuple[Reference, Path]:
    fasta, vcf = oracle.write_panel(oracle.random_panel(11, n_contigs=4, n_samples=3), folder)
    return Reference.build(fasta, folder / "r"), vcf


def forms(vcf: Path) -> list[Path]:
    """A bgzipped file in every form that is read: as it is, gzipped, plain, with CRLF, and as BCF."""
    text, folder = gzip.decompress(vcf.read_bytes()), vcf.parent
    (folder / "gzip.vcf.gz").write_bytes(gzip.compress(text))
    (folder / "plain.vcf").write_bytes(text)
    (folder / "crlf.vcf").write_bytes(text.replace(b"\n", b"\r\n"))
    pysam.bcftools.view("-Ob", "-o", str(folder / "b.bcf"), str(vcf), catch_stdout=False)
    return [vcf, *(folder / name for name in ("gzip.vcf.gz", "plain.vcf", "crlf.vcf", "b.bcf"))]


def test_contents_from_any_byte_on(tmp_path):
    text = np.random.default_rng(1).integers(0, 4, 300_000, np.uint8).tobytes()
    paths = [tmp_path / name for name in ("bgzf", "gzip", "plain")]
    with pysam.BGZFile(str(paths[0]), "wb") as file:
        file.write(text)
    paths[1].write_bytes(gzip.compress(text))
    paths[2].write_bytes(text)
    blocks = [0, 1, 65_279, 65_280, 65_281, 130_560, 200_000, len(text) - 1, len(text)]
    for path in paths:
        for start in blocks:
            assert b"".join(pieces(path, start)) == text[start:], (path.name, start)


def test_a_batch_says_where_it_begins(tmp_path):
    def records(source: VcfFile, *begins) -> list[tuple[str, int]]:
        found = []
        for contig, _, batch in source.batches(False, *begins):
            found += [(contig, int(position)) for position in batch.position[: batch.n[0]]]
        return found

    for path in forms(drawn_panel(tmp_path)[1]):
        source = VcfFile(path)
        places = {contig: batch.begins.tolist() for contig, _, batch in reversed(list(copied(source)))}
        everything = records(source)
        assert len(places) == 4
        for contig, (offset, number) in places.items():
            assert everything[number - 1][0] == contig
            assert records(source, (offset, number)) == everything[number - 1 :], (path.name, contig)


def copied(source: VcfFile):
    for contig, text, batch in source.batches():
        yield contig, text, batch._replace(begins=batch.begins.copy())


class Cut(Exception):
    pass


def cut_at(monkeypatch, n: int) -> None:
    """Let the next build end when it has finished n contigs and begins another."""
    begin = building._Contigs._begin

    def cut(self, theirs: str) -> None:
        if len(self.entries) == n:
            raise Cut
        begin(self, theirs)

    monkeypatch.setattr(building._Contigs, "_begin", cut)


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): file_digest(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def stopped(reference: Reference, vcf: Path, out: Path, n: int) -> Path:
    """Stop a build behind n contigs; return what it left."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Cut):
        cut_at(patch, n)
        Panel.build(reference, [vcf], out)
    assert not out.exists()
    return out.with_name(f".{out.name}.partial") / ".part-0.partial"


@pytest.mark.parametrize("form", [0, 3, 4])
def test_finished_contigs_of_one_file_are_kept(form, tmp_path):
    reference, vcf = drawn_panel(tmp_path)
    vcf = forms(vcf)[form]
    whole = tree(Panel.build(reference, [vcf], tmp_path / "whole").path)
    for n in (1, 3):
        out = tmp_path / f"stopped-{n}"
        left = stopped(reference, vcf, out, n)
        before = {path.name: path.stat() for path in left.iterdir() if int(path.name[0], 36) < n}
        assert len(before) == 21 * n  # 19 arrays, the slots and the state
        panel = Panel.build(reference, [vcf], out)
        assert tree(panel.path) == whole
        for name, stat in before.items():
            now = (panel.path / "part-0" / name).stat()
            assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


def test_files_of_a_finished_store_are_not_read_again(tmp_path, monkeypatch):
    """Unless they or the rules are others, or their part is not as it was written."""
    reference, vcf = drawn_panel(tmp_path)
    out = tmp_path / "panel"
    whole = tree(Panel.build(reference, [vcf], out).path)

    def refuse(*_):
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(building, "VcfFile", refuse)
        assert tree(Panel.build(reference, [vcf], out).path) == whole
        with pytest.raises(Cut):
            Panel.build(reference, [vcf], out, PanelRules(policy="edits"))
        assert tree(out) == whole
        array = out / "part-0" / "0.slots.npy"
        damaged = bytearray(array.read_bytes())
        damaged[-1] ^= 1
        array.unlink()
        array.write_bytes(damaged)
        with pytest.raises(Cut):
            Panel.build(reference, [vcf], out)
    assert tree(Panel.build(reference, [vcf], out).path) == whole


def test_what_a_stopped_build_left_is_not_trusted(tmp_path):
    """Damaged arrays, a damaged record, other rules, another file: the part is built from its beginning."""
    reference, vcf = drawn_panel(tmp_path)
    whole = tree(Panel.build(reference, [vcf], tmp_path / "whole").path)

    def flip(left: Path) -> None:
        data = bytearray((left / "0.end").read_bytes())
        data[0] ^= 1
        (left / "0.end").write_bytes(data)

    damages = {
        "flipped": flip,
        "missing": lambda left: (left / "1.start").unlink(),
        "no progress": lambda left: (left / "progress.json").unlink(),
        "half a progress": lambda left: (left / "progress.json").write_text('{"made_from": '),
        "stray": lambda left: (left / "9.start").write_text("?"),
    }
    for name, damage in damages.items():
        damage(stopped(reference, vcf, tmp_path / name, 2))
        assert tree(Panel.build(reference, [vcf], tmp_path / name).path) == whole, name
    rules = PanelRules(policy="edits")
    other = tree(Panel.build(reference, [vcf], tmp_path / "other", rules).path)
    stopped(reference, vcf, tmp_path / "rules", 2)
    assert tree(Panel.build(reference, [vcf], tmp_path / "rules", rules).path) == other
    stopped(reference, vcf, tmp_path / "file", 2)
    text = gzip.decompress(vcf.read_bytes()).replace(b"\t0|1", b"\t1|1")
    (tmp_path / "changed.vcf").write_bytes(text)
    changed = Panel.build(reference, [tmp_path / "changed.vcf"], tmp_path / "changed")
    resumed = Panel.build(reference, [tmp_path / "changed.vcf"], tmp_path / "file")
    assert tree(resumed.path) == tree(changed.path)


def test_a_stopped_file_that_is_left_out_leaves_nothing(tmp_path):
    reference, vcf = drawn_panel(tmp_path)
    lines = gzip.decompress(vcf.read_bytes()).decode().splitlines(True)
    first = next(line for line in lines if line[0] != "#").split("\t")[0]
    (tmp_path / "one.vcf").write_text(
        "".join(line for line in lines if line[0] == "#" or line.startswith(f"{first}\t"))
    )
    (tmp_path / "wrong.vcf").write_text("".join(lines).replace("|", "/"))
    with pytest.raises(Exception, match="not phased"):
        Panel.build(reference, [tmp_path / "one.vcf", tmp_path / "wrong.vcf"], tmp_path / "p")
    panel = Panel.build(reference, [tmp_path / "one.vcf"], tmp_path / "p")
    assert {path.name for path in panel.path.iterdir()} == {"manifest.json", "part-0", "reference"}


def three_files(folder: Path) -> list[str]:
    """The embedded panel three times, as three contigs in three files; the command that builds them."""
    source = Path(str(files("kleiber") / "data" / "embedded"))
    text = gzip.decompress((source / "EUR300.chr20_1-4Mb.vcf.gz").read_bytes())
    bases = gzip.decompress((source / "chr20_1-4Mb.GRCh37.fa.gz").read_bytes()).split(b"\n", 1)[1]
    (folder / "r.fa").write_bytes(b"".join(b">%s\n" % name + bases for name in (b"a", b"b", b"c")))
    for name in (b"a", b"b", b"c"):
        renamed = text.replace(b"\n20\t", b"\n%s\t" % name).replace(b"contig=<ID=20", b"contig=<ID=%s" % name)
        with pysam.BGZFile(str(folder / f"{name.decode()}.vcf.gz"), "wb") as file:
            file.write(renamed)
    command = [sys.executable, "-m", "kleiber", "panel", "build", "--workers", "2", "--reference", str(folder / "r.fa")]
    return [*command, "--panel", *(str(folder / f"{name}.vcf.gz") for name in "abc"), "--out"]


@pytest.mark.slow
def test_killed_at_any_moment_with_three_files(tmp_path):
    """SIGKILL when one part is complete, when two are, and at random: parts that are done stay as they are."""
    command = three_files(tmp_path)
    start = time.monotonic()
    assert subprocess.run([*command, str(tmp_path / "whole")], capture_output=True).returncode == 0
    took = time.monotonic() - start
    whole, partial = tree(tmp_path / "whole"), tmp_path / ".p.partial"
    seen: dict[str, tuple[int, int]] = {}
    moments = random.Random(1)
    for wanted in (0, 1, 2, None, None):
        process = subprocess.Popen([*command, str(tmp_path / "p")], stderr=subprocess.DEVNULL)
        end = time.monotonic() + moments.uniform(0, took)
        while process.poll() is None:
            done = len(list(partial.glob("part-*/manifest.json")))
            if time.monotonic() > end if wanted is None else done >= wanted and partial.exists():
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:  # it was faster than the signal
            break
        for folder in partial.glob("part-*"):
            assert json.loads((folder / "manifest.json").read_text())
            for path in folder.iterdir():
                now = path.stat().st_ino, path.stat().st_mtime_ns
                assert seen.setdefault(str(path.relative_to(partial)), now) == now
    assert len({name.split("/")[0] for name in seen}) >= 2
    if not (tmp_path / "p").exists():
        result = subprocess.run([*command, str(tmp_path / "p")], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    assert tree(tmp_path / "p") == whole
    for name, stat in seen.items():
        now = (tmp_path / "p" / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == stat


WORKERS = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from kleiber.signals import end_with_parent

def work(n):
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(60)

if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        list(pool.map(work, range(2)))
"""


def test_workers_end_with_the_process_that_started_them(tmp_path):
    """Else they would go on, and hold the locks of their parts against the next build."""
    (tmp_path / "workers.py").write_text(WORKERS)
    command = [sys.executable, str(tmp_path / "workers.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        workers = [int(process.stdout.readline()) for _ in range(2)]
        process.kill()
    end = time.monotonic() + 30
    while alive := [pid for pid in workers if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < end, alive
        time.sleep(0.05)
