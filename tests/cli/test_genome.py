"""panel and corpus from the command line, as a user types them."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import polars as pl
import pytest

from inprocess import kleiber
from kleiber.genome.panel import Panel
from oracles import haplotype as oracle


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A panel of random haplotypes, built by the command line."""
    folder = tmp_path_factory.mktemp("cli")
    fasta, vcf = oracle.write_panel(oracle.random_panel(9, n_contigs=3), folder)
    result = kleiber("panel", "build", "--reference", fasta, "--panel", vcf, "--out", folder / "store", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["n_samples"] == 2
    return folder / "store"


def run(*arguments: object, code: int = 0) -> str:
    result = kleiber(*map(str, arguments))
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout if code == 0 else result.stderr


def test_sequences_are_those_of_bcftools(store):
    folder = store.parent
    expected = oracle.bcftools_consensus(folder / "reference.fa", folder / "panel.vcf.gz", "S1", 1)
    text = run("panel", "sequence", store, "c0", "c2", "--sample", "S1", "--slot", "1")
    found = {block.split()[0].split(":")[0]: "".join(block.splitlines()[1:]) for block in text.split(">")[1:]}
    assert found == {name: expected[name] for name in ("c0", "c2")}


def test_regions_from_a_bed_file(store, tmp_path):
    (tmp_path / "regions.bed").write_text("c0\t10\t30\tS0\t1\nc1\t0\t12\n")
    text = run("panel", "sequence", store, "--bed", tmp_path / "regions.bed", "--sample", "S1", "--mode", "anchored")
    heads = [line for line in text.splitlines() if line.startswith(">")]
    assert heads == [">c0:11-30 S0 1", ">c1:1-12 S1 0"]
    panel = Panel.open(store)
    from kleiber.genome.assembly import Region

    assert text.splitlines()[1] == panel.sequence("S0", 1, Region("c0", 10, 30)).tobytes().decode()


def test_info_and_verify(store):
    facts = json.loads(run("panel", "info", store, "--json"))
    assert [contig["name"] for contig in facts["contigs"]] == ["c0", "c1", "c2"]
    assert "2 samples (S0, S1)" in run("panel", "info", store)
    assert "is whole" in run("panel", "verify", store)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["c0:1-10"], "No sample is named"),
        ([], "No region is named"),
        (["c9", "--sample", "S0"], "c9"),
        (["c0:1-99", "--sample", "S0"], "80 bases long"),
        (["c0", "--sample", "S9"], "S9"),
    ],
)
def test_what_cannot_be_printed(arguments, message, store):
    assert message in run("panel", "sequence", store, *arguments, code=2)


def test_describe_and_sample(store):
    choice = ["--panel", store, "--strategy", "variant", "--window", "10"]
    facts = json.loads(run("corpus", "describe", *choice, "--n", "100", "--json"))
    assert facts["n_variant_windows"] <= facts["n_windows"]
    assert facts["coverage"] == pytest.approx(100 * 10 / 240)
    lines = [json.loads(line) for line in run("corpus", "sample", *choice, "--n", "5", "--json").splitlines()]
    assert all(line["records"] and len(line["sequence"]) == 10 for line in lines)
    alone = json.loads(run("corpus", "sample", *choice, "--n", "1", "--first", "3", "--json"))
    assert alone == lines[3]
    embedded = files("kleiber") / "data" / "embedded" / "chr20_1-4Mb.GRCh37.fa.gz"
    assert run("corpus", "sample", "--reference", embedded, "--n", "1").startswith(">0 20:")
    assert "either a panel" in run("corpus", "describe", code=2)


@pytest.mark.parametrize("strategy", ["reference", "pangenome", "variant"])
def test_exports_are_the_corpus(strategy, store, tmp_path):
    folders = {"reference": "reference_sampling", "pangenome": "random_sampling", "variant": "variant_sampling"}
    choice = ["--panel", store, "--strategy", strategy, "--window", "12"]
    lines = [json.loads(line) for line in run("corpus", "sample", *choice, "--n", "30", "--json").splitlines()]
    for form, workers in (("text", 1), ("fasta", 2), ("parquet", 1)):
        out = tmp_path / form
        command = ["corpus", "export", *choice, "--n", 30, "--files", 4, "--format", form, "--workers", workers]
        assert run(*command, "--out", out).strip() == str(out / folders[strategy])
        parts = sorted(path for path in (out / folders[strategy]).iterdir() if path.name != "manifest.json")
        assert len(parts) == 4
        if form == "parquet":
            table = pl.concat([pl.read_parquet(part) for part in parts])
            assert table["sequence"].to_list() == [line["sequence"] for line in lines]
            assert table["start"].to_list() == [line["start"] for line in lines]
            assert table["sample"].to_list() == [line["sample"] for line in lines]
        else:
            rows = "".join(part.read_text() for part in parts).splitlines()
            assert [row for row in rows if not row.startswith(">")] == [line["sequence"] for line in lines]
    parts[0].unlink()
    assert "another export" in run(*command[:-2], "--workers", 1, "--seed", 3, "--out", out, code=2)


def test_an_export_goes_on_where_it_was_stopped(store, tmp_path):
    command = ["corpus", "export", "--panel", store, "--strategy", "pangenome", "--window", 12, "--n", 50]
    run(*command, "--files", 5, "--out", tmp_path)
    folder = tmp_path / "random_sampling"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(before["manifest.json"])
    (folder / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    (folder / "2.txt").unlink()
    run(*command, "--files", 5, "--out", tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
