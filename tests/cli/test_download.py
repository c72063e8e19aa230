"""download from the command line."""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from genome.misbehaving import misserve, running
from inprocess import kleiber
from kleiber import cli
from kleiber.genome import sources
from kleiber.genome.sources import Source, SourceFile

EMBEDDED = Path(str(files("kleiber") / "data" / "embedded"))
FASTA, VCF = EMBEDDED / "chr20_1-4Mb.GRCh37.fa.gz", EMBEDDED / "EUR300.chr20_1-4Mb.vcf.gz"


@pytest.fixture
def server():
    with running() as server:
        server.files = {f"/{path.name}": path.read_bytes() for path in (FASTA, VCF)}
        yield server


@pytest.fixture
def small(server, monkeypatch, tmp_path):
    """A catalogue of the embedded data, served on the loopback device; the current folder is empty."""

    def entry(name: str, kind: str, path: Path, contig: str) -> Source:
        file = SourceFile(path.name, contig, path.stat().st_size, hashlib.md5(path.read_bytes()).hexdigest())
        return Source(name, kind, "A title", "A licence", "https://terms", "A paper", "10.1/2", (server.url,), (file,))

    entries = {"Small": entry("Small", "assembly", FASTA, ""), "Small-panel": entry("Small-panel", "panel", VCF, "20")}
    monkeypatch.setattr(sources, "catalogue", lambda: entries)
    monkeypatch.delenv("KLEIBER_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def run(capsys, monkeypatch, *arguments: str, code: int = 0) -> str:
    monkeypatch.setattr(sys, "argv", ["kleiber", *arguments])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    captured = capsys.readouterr()
    assert (exit.value.code or 0) == code, captured.err
    return captured.out if code == 0 else captured.err


def test_the_list_needs_no_network(monkeypatch):
    text = kleiber("download").stdout
    for name in ("GRCh38:", "GRCh38-analysis-set:", "T2T-CHM13:", "1000G-30x-phased:", "1000G-samples:"):
        assert f"\n{name}" in f"\n{text}"
    assert "23 files, 37.44 GB; open, no embargo, to be cited (https://www.internationalgenome.org" in text
    assert "Byrska-Bishop et al. 2022, Cell 185:3426, doi:10.1016/j.cell.2022.08.004" in text
    (entry,) = json.loads(kleiber("download", "T2T-CHM13", "--list", "--json").stdout)
    assert entry["files"][0]["name"] == "GCF_009914755.1_T2T-CHM13v2.0_genomic.fna.gz"


def test_files_land_and_stay(small, server, capsys, monkeypatch, tmp_path):
    text = run(capsys, monkeypatch, "download", "Small", "Small-panel")
    assert f"data/{FASTA.name}  925,051 bytes  fetched, md5 verified" in text
    assert (tmp_path / "data" / VCF.name).read_bytes() == VCF.read_bytes()
    n_asked = len(server.asked)
    outcomes = json.loads(run(capsys, monkeypatch, "download", "Small", "Small-panel", "--json"))
    assert [outcome["status"] for outcome in outcomes] == ["there", "there"]
    assert len(server.asked) == n_asked


def test_contigs_folder_and_jobs(small, capsys, monkeypatch, tmp_path):
    run(capsys, monkeypatch, "download", "Small-panel", "--contigs", "chr20", "--to", "elsewhere", "--jobs", "1")
    assert (tmp_path / "elsewhere" / VCF.name).exists()
    assert "'chr21' in Small-panel" in run(
        capsys, monkeypatch, "download", "Small-panel", "--contigs", "chr20,chr21", code=2
    )


def test_errors_exit_2_and_say_what_to_do(small, server, capsys, monkeypatch, tmp_path):
    assert "Did you mean 'Small'" in run(capsys, monkeypatch, "download", "Smal", code=2)
    server.forever[f"/{FASTA.name}"] = misserve(change=lambda data: data[::-1])
    text = run(capsys, monkeypatch, "download", "Small", code=2)
    assert text.startswith(
        f"DownloadError: {FASTA.name} of Small could not be fetched.\n  {server.url}{FASTA.name}: its"
    )
    assert not (tmp_path / "data" / FASTA.name).exists()


def test_a_machine_without_network(monkeypatch, tmp_path):
    for scheme in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(scheme, "http://127.0.0.1:9")
    result = kleiber("download", "GRCh38", "--to", tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("NoNetwork: md5checksums.txt of GRCh38 cannot be fetched: nothing answers")
    assert "https://ftp.ncbi.nlm.nih.gov/genomes/all/GCF" in result.stderr
    assert "KLEIBER_DATA" in result.stderr
    assert "Traceback" not in result.stderr
