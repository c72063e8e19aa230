"""What every parser owes to any bytes: a `KleiberError`, or a result whose invariants hold. Tests and fuzzer share it.

A check takes the bytes of a file, or a first byte that says how the rest is wrapped, and a folder to write to. It
returns True where the parser took them and False where it refused; whatever else happens is a defect.
"""

from __future__ import annotations

import functools
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oracles.checkpoints import check_checkpoint, checkpoint_seeds
from oracles.containers import WRAPS, bgzf, refusing, unwrapped
from oracles.variants import WORDS as VCF_WORDS
from oracles.variants import check_vcf, vcf_seeds

CONTIGS = {"20": "ACGTTGCAAC" * 30, "chrX": "GATTACANNA" * 12, "HLA:A*01": "ACGT" * 9, "track1": "ACGT" * 5}
SAMPLE = np.frombuffer(b"ACGTTGCANNACGGATTACAacgtRACGTACGTTTTTTTTTTTTTTTTACGATCGATCG", np.uint8)


class Parser(NamedTuple):
    """How one parser is tried: valid inputs, what its language is made of, and its check."""

    seeds: Callable[[], list[bytes]]
    words: tuple[str, ...]
    check: Callable[[bytes, Path], bool]


@contextmanager
def inside(folder: Path):
    """Work in a folder, so that a relative path is one."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


# --- a study ---------------------------------------------------------------------------------------------------------

STUDY = b"""[study]
name = "tiny"
seed = 7
title = "T"
question = "Q?"
[genome]
reference = "ref.fa"
panel = ["panel.vcf.gz"]
holdout = ["20:3,500,001-4,000,000", "chr8"]
policy = "bcftools"
min_af = 0.01
[arms]
ref = { sampling = "reference", tokenizer = "6mer", reverse_complement = 0.5 }
pan = { sampling = "pangenome", tokenizer = "bpe64", unique = [0.5, 1.0] }
[ladder]
sizes = ["0.05M", "100K", "15M"]
tokens = [1e5, 200_000]
unique = [0.1, 1.0]
repeated = ["0.05M"]
seeds = 2
replicated = ["100K"]
[train]
batch = 8
length = 64
schedule = "wsd"
[tune]
sizes = ["0.05M", "0.1M", "0.2M"]
tokens = 1e5
factors = [0.5, 1, 2]
[fit]
bootstrap = 200
"""


def study_seeds() -> list[bytes]:
    """Return whole studies and a small one."""
    shipped = (Path(__file__).resolve().parents[2] / "studies").glob("*.toml")
    small = b'study.name="a"\ngenome={reference="embedded",holdout=["20"]}\n[arms.r]\nsampling="reference"\n'
    return [
        STUDY,
        small + b'tokenizer="6mer"\n[ladder]\nsizes=["1M"]\ntokens=[1e6]\n',
        *(path.read_bytes() for path in sorted(shipped)),
    ]


@refusing
def check_study(data: bytes, folder: Path) -> None:
    """Every study that is accepted expands into runs, each of them once, and each can be planned."""
    from kleiber.study.config import load_study
    from kleiber.study.plan import plan

    (folder / "study.toml").write_bytes(data)
    with inside(folder):
        study = load_study(Path("study.toml"))
        units, trials = study.units(), study.trials()
        assert units
        assert len(set(units)) == len(units), "one run twice"
        assert all(0 < unit.unique <= 1 and 0 <= unit.seed < 2**63 for unit in (*units, *trials))
        (folder / study.study.name).mkdir(exist_ok=True)
        (folder / study.study.name).rmdir()
        if len(data) % 4 == 0:  # it takes ten times as long as the rest
            assert plan(study).flops > 0


# --- FASTA -----------------------------------------------------------------------------------------------------------

INDEX = b"\xff\xff"  # between a FASTA and its index


def fasta_seeds() -> list[bytes]:
    """Return FASTA files in every wrapping, one with its index."""
    text = b">chr1 first\nACGTNacgtn\nRYKM\n\n>2\r\n1 ACu GT\r\n>empty\n>last\nA"
    index = b"a\t4\t3\t4\t5\n"
    return [
        *(bytes([kind]) + text for kind in range(3)),
        b"\3" + WRAPS[1](text),
        b"\3" + bgzf(text, 20),
        b"\0>a\nACGT\n" + INDEX + index,
    ]


@refusing
def check_fasta(data: bytes, folder: Path) -> None:
    """What is read are the letters of a naive reading, upper case, U as T, ambiguity codes as N; others are refused."""
    from kleiber.genome.reference import Reference, contigs_of
    from kleiber.storage import file_digest

    kind, contents = unwrapped(data)
    contents, is_indexed, index = contents.partition(INDEX)
    path = folder / "x.fa"
    path.write_bytes((*WRAPS, bytes)[kind & 3](contents))
    shutil.rmtree(folder / "r", ignore_errors=True)
    reference = Reference.build(path, folder / "r")
    if kind & 3 < 3:
        assert [(c.name, c.length) for c in reference.contigs] == [(n, len(b)) for n, b in naive_fasta(contents)]
    for contig in reference.contigs:
        bases = reference.bases(contig.name)
        assert len(bases) == contig.length
        assert set(bases.tobytes()) <= set(b"ACGTN")
        for start, end in (*reference.soft_masked(contig.name), *reference.n_runs(contig.name)):
            assert 0 <= start < end <= contig.length
    assert {name: file_digest(folder / "r" / name) for name in reference.checksums} == reference.checksums
    if kind & 3 < 3:
        for name, letters in naive_fasta(contents):
            assert re.fullmatch("[ACGTUNRYSWKMBDHV]*", letters.upper())
            expected = re.sub("[^ACGT]", "N", letters.upper().replace("U", "T"))
            assert expected == reference.bases(name).tobytes().decode()
    assert contigs_of(path) == reference.contigs
    if is_indexed:
        (folder / "x.fa.fai").write_bytes(index)
        try:
            assert all(contig.length >= 0 for contig in contigs_of(path))
        finally:
            (folder / "x.fa.fai").unlink()


def naive_fasta(contents: bytes) -> list[tuple[str, str]]:
    """Return (name, letters) of every sequence."""
    found = []
    for block in re.split(rb"(?:^|\n)>", contents)[1:]:
        head, *lines = block.split(b"\n")
        letters = re.sub(rb"[\s\d]", b"", b"".join(lines))
        found.append((head.split()[0].decode("utf-8", "replace"), letters.decode("latin-1")))
    return found


# --- BED and regions -------------------------------------------------------------------------------------------------


@functools.cache
def small_reference(folder: Path):
    """Return a reference with the contigs of `CONTIGS`."""
    from kleiber.genome.reference import Reference

    path = folder / "small.fa"
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in CONTIGS.items()))
    return Reference.build(path, folder / "small")


def bed_seeds() -> list[bytes]:
    """Return BED files and regions."""
    return [
        b"\0track name=x\nbrowser position chr1\n#\n20\t10\t20\tS1\t0\n20 30 40\nchrX\t0\t120\n\nHLA:A*01\t1\t2\n",
        b"\00020\t0\t300\r\nX\t5\t6\r\n",
        b"\00120:1,00-2,00",
        b"\001chrX",
        b"\001HLA:A*01:3-4",
    ]


@refusing
def check_bed(data: bytes, folder: Path) -> None:
    """Every interval lies in its contig, and a corpus that may read these alone reads no more."""
    from kleiber.corpus.regions import read_bed, regions_of, territory
    from kleiber.genome.assembly import Region

    reference = small_reference(folder)
    kind, contents = unwrapped(data)
    if kind & 1:
        texts = [contents.decode("utf-8", "replace")]
        regions = regions_of(reference, texts, "region")
        assert [Region.parse(str(region)) for region in regions] == regions
    else:
        path = folder / "x.bed"
        path.write_bytes(contents)
        rows = read_bed(path)
        lines = re.split("\r\n|\r|\n", contents.decode())
        named = [line for line in lines if line.strip() and line.split()[0] not in ("track", "browser")]
        assert len(rows) == sum(not line.startswith("#") for line in named), "a line is lost"
        texts = [str(Region(row[0], int(row[1]), int(row[2]))) for row in rows]
        regions = regions_of(reference, texts, "include")
        assert [(r.start, r.end) for r in regions] == [(int(row[1]), int(row[2])) for row in rows]
    for region in regions:
        assert 0 <= region.start < region.end <= len(CONTIGS[region.contig])
    if texts:
        wanted = {(r.contig, at) for r in regions for at in range(r.start, r.end)}
        read = territory(reference, ("20:1-5",), "train", None, tuple(texts), with_n=True)
        got = [(r.contig, at) for r in read for at in range(r.start, r.end)]
        assert sorted(got) == sorted(wanted - {("20", at) for at in range(5)})


# --- tokenizers ------------------------------------------------------------------------------------------------------


@functools.cache
def tokenizer_seeds() -> list[bytes]:
    """Return a tokenizer of each kind as it is saved."""
    from kleiber.tokens.bpe import BPETokenizer
    from kleiber.tokens.kmer import KmerTokenizer, OverlappingKmerTokenizer
    from kleiber.tokens.tokenizer import BASES, SPECIALS

    merges = [("A", "C"), ("G", "T"), ("AC", "GT"), ("T", "T"), ("TT", "TT")]
    bpe = BPETokenizer([*SPECIALS, *BASES, *map("".join, merges)], list(merges))
    kinds = (bpe, KmerTokenizer(1), KmerTokenizer(2), OverlappingKmerTokenizer(2))
    return [json.dumps(kind.model).encode() for kind in kinds]


@refusing
def check_tokenizer(data: bytes, folder: Path) -> None:
    """A tokenizer reads DNA and writes it again, is saved and loaded, and gives the ids of Hugging Face's library."""
    from tokenizers import Tokenizer as Theirs

    from kleiber.tokens.kinds import load
    from kleiber.tokens.kmer import OverlappingKmerTokenizer

    path = folder / "tokenizer.json"
    path.write_bytes(data)
    ours = load(path)
    ids = ours.encode(SAMPLE)
    assert len(ids) == 0 or (ids.min() >= 0 and ids.max() < ours.vocab_size)
    text = re.sub("[^ACGT]", "N", SAMPLE.tobytes().decode().upper())
    if not isinstance(ours, OverlappingKmerTokenizer):
        assert ours.decode(ids) == text
        assert ours.token_lengths[ids].sum() == len(SAMPLE)
    ours.save(folder / "again.json")
    again = load(folder / "again.json")
    assert again.fingerprint == ours.fingerprint
    assert (again.encode(SAMPLE) == ids).all()
    try:
        theirs = Theirs.from_str(data.decode())
        theirs.no_truncation()
        theirs.no_padding()
        expected = theirs.encode(spaced(text, ours), add_special_tokens=False).ids
    except Exception:  # the library refuses more files than we do
        return
    assert expected == ids.tolist(), (expected, ids.tolist())


def spaced(text: str, tokenizer) -> str:
    """Return DNA as Hugging Face's library has to be given it."""
    from kleiber.tokens.kmer import OverlappingKmerTokenizer

    k = tokenizer.k if isinstance(tokenizer, OverlappingKmerTokenizer) else 0
    return " ".join(text[i : i + k] for i in range(len(text) - k + 1)) if k else text


# --- tables of observations ------------------------------------------------------------------------------------------

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


@functools.cache
def table_seeds() -> list[bytes]:
    """Return small tables in each format."""
    import polars as pl

    rows = "N,D,loss,C,seed,annealed\n1e6,2e8,3.5,1.2e15,0,true\n2e6,2e8,3.25,2.4e15,1,True\n3e6,4e8,3,7.2e15,1,false\n"
    table = pl.read_csv(rows.encode())
    parquet = io.BytesIO()
    table.write_parquet(parquet, compression="uncompressed")
    return [
        b"\0" + rows.encode(),
        b"\0Model Size,Training FLOP,loss\n1000,6e9,4\n2000,7e9,3.5\n",
        b"\0params,tokens,final_loss,tokenizer,loss_se,unique_tokens,step\n10,20,3,a,0.1,10,5\n20,20,2,a,0.1,20,6\n",
        b"\1" + table.write_csv(separator="\t").encode(),
        b"\2" + table.write_ndjson().encode(),
        b"\3" + parquet.getvalue(),
    ]


@refusing
def check_table(data: bytes, folder: Path) -> None:
    """All numbers are finite and positive, curves come out of them, and the table is the same read twice."""
    from kleiber.scaling.frontier import curves_of
    from kleiber.scaling.observations import Observations, read_table, select

    kind, contents = unwrapped(data)
    path = folder / f"table{SUFFIXES[kind & 3]}"
    path.write_bytes(contents)
    table = read_table(path)
    if table.width and kind & 4:
        table = select(table, {table.columns[0]: "1"}, path.name)
    exact = bool(kind & 8)
    points = Observations.of(table, None, path.name, exact_flops=exact)
    assert len(points) == len(points.cluster) > 0
    for values in (points.N, points.D, points.loss, points.C, points.unique, points.se):
        assert values is None or (np.isfinite(values).all() and (values > 0).all() and len(values) == len(points))
    (folder / "again.csv").write_text(
        "N,D,loss,C\n" + "".join(",".join(map(repr, row)) + "\n" for row in rows_of(points)), encoding="utf-8"
    )
    if len(set(rows_of(points))) == len(points):  # else they differ in columns that are not written here
        again = Observations.of(read_table(folder / "again.csv"), exact_flops=True)
        assert rows_of(again) == rows_of(points)
    if kind & 16:
        return
    assert sum(len(curve.loss) for curve in curves_of(table, None, path.name, exact_flops=exact)) >= 1


def rows_of(points) -> list[tuple[float, ...]]:
    """Return N, D, loss and C of every point."""
    return list(zip(*(getattr(points, key).tolist() for key in ("N", "D", "loss", "C")), strict=True))


# --- all of them -----------------------------------------------------------------------------------------------------

PARSERS = {
    "study": Parser(
        study_seeds,
        (
            "[study]",
            "[arms]",
            "[ladder]",
            "[train]",
            "[tune]",
            "inf",
            "nan",
            "0x",
            "1e",
            "1979-05-27",
            '"""',
            "true",
            "M",
        ),
        check_study,
    ),
    "fasta": Parser(fasta_seeds, (">", "\r", "N", ">a", "\t"), check_fasta),
    "bed": Parser(bed_seeds, ("track", "browser", "#", "\t", "chrX", "20", ":", "-", ",", "\u00b2"), check_bed),
    "tokenizer": Parser(
        tokenizer_seeds,
        (
            "[UNK]",
            '"merges"',
            '"vocab"',
            '"BPE"',
            '"WordLevel"',
            "NaN",
            "null",
            "true",
            "1e9",
            "\\ud800",
            '"A"',
            '"dropout"',
        ),
        check_tokenizer,
    ),
    "table": Parser(
        table_seeds,
        ("N", "D", "loss", "C", "seed", "annealed", "nan", "inf", "1e308", "true", '"', "tokenizer"),
        check_table,
    ),
    "checkpoint": Parser(
        checkpoint_seeds,
        ("F32", "BF16", "data_offsets", "shape", "__metadata__", "position", "1e9", "null"),
        check_checkpoint,
    ),
    "vcf": Parser(vcf_seeds, VCF_WORDS, refusing(check_vcf)),
}
