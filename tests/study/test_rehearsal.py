"""The page on the original study is run as it stands: its commands, in its order, on slices of the files it names.

What is put in the place of what:

====================  ===============================================================================================
of the page           here
====================  ===============================================================================================
the download          slices of the same release with the same 3,202 samples, under the names that the download has
                      (chr1, chr20, chr22; of chrX there is none), a FASTA with RefSeq's names, and the sample table
chr8, held out        chr22
4,096 tokens          256
8 devices             2 processes on processors
Slurm                 two of the array's four tasks, the script started with what Slurm sets
the study's ladder    three sizes of 0.01M to 0.04M, 16,000 tokens, batches of 8; everything else is its file's
====================  ===============================================================================================
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "howto" / "original-study.md"
RELEASE = "CCDG_14151_B01_GRM_WGS_2020-08-05_{}.filtered.shapeit2-duohmm-phased.vcf.gz"
SLICES = {
    "chr1": "1kGP_high_coverage_Illumina.chr1.filtered.SNV_INDEL_SV_phased_panel-head-1000.vcf.gz",
    "chr20": "chr20.PTGIS.shapeit2-duohmm-phased.vcf.gz",
    "chr22": "chr22.COMT.shapeit2-duohmm-phased.vcf.gz",
}
RECORDS = 889 + 1766 + 1379
COMMANDS = {"chr8": "chr22", "4096": "256", "--devices 8": "--devices 2"}
STUDY = {
    r"sizes  = .*": 'sizes = ["0.01M", "0.02M", "0.04M"]',
    r"tokens = .*": "tokens = [1.6e4]",
    r"\nbatch = 1024": "\nbatch = 8",
    r"micro_batch = 64 ": "micro_batch = 4 ",
    r"bpe4096": "bpe256",
}
GENOME = """[genome]
reference = "../data/GCF_000001405.26_GRCh38_genomic.fna.gz"
panel = [{}]
holdout = ["chr22"]
min_af = 0.0

"""


def commands() -> list[str]:
    """Return the commands of the page, as they stand."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def lay_out(folder: Path, shared: Path) -> None:
    """Put into a folder what the page has there: the downloaded files, the study, the examples."""
    data, source = folder / "data", shared / "demo_grch38_kgp3202"
    data.mkdir()
    with gzip.open(source / "GRCh38.loci_Npadded.fa.gz", "rt") as padded:
        text = padded.read()
    names = re.sub(r">chr(\d+)", lambda m: f">NC_0000{int(m[1]):02}.11", text)
    with gzip.open(data / "GCF_000001405.26_GRCh38_genomic.fna.gz", "wt", compresslevel=1) as fasta:
        fasta.write(names)
    for contig, name in SLICES.items():
        shutil.copy(source / name, data / RELEASE.format(contig))
    table = lzma.decompress((shared / "meta" / "igsr_samples.tsv.xz").read_bytes())
    (data / "20130606_g1k_3202_samples_ped_population.txt").write_bytes(table)
    shutil.copytree(ROOT / "examples", folder / "examples")
    study = (ROOT / "studies" / "original.toml").read_text(encoding="utf-8")
    panel = ", ".join(f'"../data/{RELEASE.format(contig)}"' for contig in SLICES)
    study = re.sub(r"\[genome\].*?(?=\[arms\])", GENOME.format(panel), study, flags=re.DOTALL)
    for pattern, value in STUDY.items():
        study, n = re.subn(pattern, value, study)
        assert n, pattern
    (folder / "studies").mkdir()
    (folder / "studies" / "original.toml").write_text(study)


def ask(command: str, folder: Path, **environment: str) -> str:
    """Run one command of the page, and return what it prints."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path, "PYTHONWARNINGS": "default", **environment},
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def rehearsed(command: str, folder: Path) -> str:
    """Run one command of the page with what stands in for what here."""
    for old, new in COMMANDS.items():
        command = command.replace(old, new)
    if match := re.fullmatch(r"sbatch --array=1-(\d+) \S+ (.*)", command):
        tasks = {"SLURM_ARRAY_TASK_COUNT": match[1], "SLURM_ARRAY_TASK_MIN": "1"}
        return "".join(ask(f"bash {match[2]}", folder, **tasks, SLURM_ARRAY_TASK_ID=task) for task in ("1", "2"))
    return "" if command.startswith("kleiber download") else ask(command, folder)


@pytest.mark.slow
def test_the_page_from_the_download_to_the_report(shared_data, tmp_path):
    lay_out(tmp_path, shared_data)
    told = {}
    for command in commands():
        told[" ".join(command.split()[:3])] = rehearsed(command, tmp_path)

    assert "3 contigs, 3,202 samples" in told["kleiber panel verify"]
    manifest = json.loads((tmp_path / "panel" / "manifest.json").read_text())
    names = ["NC_000001.11", "NC_000020.11", "NC_000022.11"]
    assert sorted(entry["name"] for entry in manifest["contigs"]) == names
    assert sum(entry["counts"]["records"] for entry in manifest["contigs"]) == RECORDS
    assert "n_variant_windows" in told["kleiber corpus describe"]
    assert "256" in told["kleiber tokenizer train"]
    assert re.search(r"on 8 x a100 at 80% of the fp32 peak", told["kleiber plan studies/original.toml"])
    assert "12 done" in told["kleiber status studies/original.toml"]
    assert re.search(r"0\.83", told["kleiber fit original-study"])

    out = tmp_path / "out" / "original"
    table = pl.read_csv(out / "observations.csv")
    arms = {"ref-bpe", "pan-bpe", "variant-bpe", "ref-6mer"}
    assert set(table["arm"]) == arms
    assert len(table) == 12
    assert table["bits_per_base"].is_between(1.5, 3).all()
    assert table["schedule"].unique().to_list() == ["linear"]
    described = json.loads((out / "corpora.json").read_text())
    assert all(entry["n_windows"] > 0 for entry in described.values())
    assert described["variant-bpe"]["n_variant_windows"] > 0
    assert {path.name.split(".")[0] for path in (out / "fits").iterdir()} >= arms
    assert all(arm in (out / "report.html").read_text(encoding="utf-8") for arm in arms)


def test_the_page_names_files_and_verbs_that_are_there():
    """What can be seen without running it: every command is ours or Slurm's, and every local file it needs exists."""
    found = commands()
    assert len(found) >= 12
    for command in found:
        assert command.split()[0] in ("kleiber", "sbatch"), command
        for path in re.findall(r"(?:studies|examples)/[\w./-]+", command):
            assert (ROOT / path).is_file(), path
