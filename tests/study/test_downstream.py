"""A study that scores its models: columns, figures, the same bytes after a kill, and refusals before any training."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from inprocess import kleiber
from kleiber.errors import ConfigError, DataError, KleiberError
from kleiber.scaling.observations import Observations
from kleiber.storage import write_manifest
from kleiber.study.beside import tokenizer_beside
from kleiber.study.config import load_study
from kleiber.study.run import run_study
from kleiber.study.stages import territory
from report.browser import Browser, find
from study.conftest import LADDER
from study.conftest import kleiber as typed

STUDY = (
    """
[study]
name = "meaning"
seed = 5
[genome]
reference = "embedded"
holdout = ["20:3,900,001-4,000,000"]
[arms]
ref-bpe = { sampling = "reference", tokenizer = "bpe64" }
"""
    + LADDER
    + """[downstream.made]
variants = "variants.vcf"
label = "CLASS"
positive = ["LOF"]
negative = ["FUNC"]
[downstream.piece]
variants = "piece.vcf"
reference = "piece.fa"
label = "EFFECT"
[downstream.tables]
train = "train.csv"
test = "test.csv"
"""
)
HEADER = """##fileformat=VCFv4.2
##INFO=<ID=CLASS,Number=1,Type=String,Description="class">
##INFO=<ID=EFFECT,Number=1,Type=Float,Description="a number">
##INFO=<ID=CADD,Number=1,Type=Float,Description="a score">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO
"""
SCORES = {"made": "auroc", "piece": "spearman", "tables": "mcc"}


def write_inputs(folder: Path, genome: str, chromosome: str = "chr20") -> Path:
    """Write the study and all that it names; return the study's path."""
    draw = np.random.default_rng(4)

    def lines(contig: str, text: str, starts: range) -> str:
        found = []
        for i, start in enumerate(starts):
            alt = "ACGT".replace(text[start], "")[i % 3]
            info = f"CLASS={('LOF', 'FUNC')[draw.integers(2)]};EFFECT={draw.random():.3f};CADD={draw.random():.3f}"
            found.append(f"{contig}\t{start + 1}\t.\t{text[start]}\t{alt}\t.\t.\t{info}\n")
        return HEADER + "".join(found)

    piece = genome[1_700_000:1_704_000]
    (folder / "variants.vcf").write_text(lines(chromosome, genome, range(1_600_000, 1_606_000, 60)))
    (folder / "piece.fa").write_text(f">piece\n{piece}\n")
    (folder / "piece.vcf").write_text(lines("piece", piece, range(100, 3900, 50)))
    for name, n in (("train", 120), ("test", 60)):
        at = draw.integers(1_500_000, 3_500_000, n)
        rows = [f"{genome[i : i + 60]},{int(genome[i : i + 60].count('A') > 16)}" for i in at]
        (folder / f"{name}.csv").write_text("sequence,label\n" + "\n".join(rows) + "\n")
    (folder / "study.toml").write_text(STUDY)
    return folder / "study.toml"


@pytest.fixture(scope="module")
def genome(embedded) -> str:
    return embedded[0].bases("20").tobytes().decode()


@pytest.fixture(scope="module")
def study(tmp_path_factory, genome) -> Path:
    return write_inputs(tmp_path_factory.mktemp("meaning"), genome)


@pytest.fixture(scope="module")
def scored(study) -> Path:
    """The output folder of the study, run once without interruption."""
    result = typed("run", study, "--out", study.parent / "out")
    assert result.returncode == 0, result.stderr
    assert "scored downstream" in result.stderr
    return study.parent / "out"


@pytest.mark.slow
def test_each_model_has_its_scores(scored):
    table = pl.read_csv(scored / "observations.csv")
    assert table.height == 4
    facts = json.loads((scored / "fits" / "downstream.json").read_bytes())
    for task, score in SCORES.items():
        low, value, high = (table[f"{task}_{score}{end}"] for end in ("_low", "", "_high"))
        assert ((low <= value) & (value <= high)).all()
        assert table[f"{task}_error"].to_numpy() == pytest.approx(1 - value.to_numpy())
        assert facts[task]["statistic"] == score
        assert (facts[task]["n_models"], facts[task]["n_runs"]) == (4, 2)
        assert facts[task]["interval"] is None  # two runs are too few
        for axis in ("bits_per_base", "n_params_non_embedding", "n_tokens", "flops"):
            for ending in ("svg", "png", "csv"):
                assert (scored / "figs" / f"downstream-{task}-{axis}.{ending}").stat().st_size > 0
    assert set(facts["made"]["opponents"]) == {"MARKOV", "TWO_SIDED", "CADD"}
    assert set(facts["tables"]["opponents"]) == {"k-mer counts"}
    page = (scored / "report.html").read_text()
    assert "made: the best AUROC is" in page
    assert "Does a lower loss mean anything" in page


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_drawn_by_a_browser(scored, tmp_path, width):
    program = find()
    if program is None:
        pytest.skip("there is no Chromium on this machine")
    browser = Browser(program, tmp_path / "profile")
    try:
        browser.open(scored / "report.html", width, False)
        assert browser.messages == []
        drawn = "[...document.querySelectorAll('.plot')].filter(p => p.querySelector('svg.marks')).length"
        assert browser.evaluate(drawn) == browser.evaluate("document.querySelectorAll('.plot').length")
        titles = browser.evaluate("document.body.innerText")
        for task in SCORES:
            assert f"{task} against held-out bits per base" in titles
        assert browser.evaluate("document.documentElement.scrollWidth") == width
    finally:
        browser.close()


@pytest.mark.slow
def test_a_study_scores_as_the_command_does(study, scored):
    """Also: a run's folder inside a study is a checkpoint, whose tokenizer is the study's."""
    table = pl.read_csv(scored / "observations.csv")
    row = table.row(1, named=True)
    asked = ("--reference", study.parent / "piece.fa", "--vcf", study.parent / "piece.vcf", "--label", "EFFECT")
    result = kleiber("score", scored / "runs" / row["run"], *asked, "--length", 32, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)["agreements"]["KLEIBER_LLR"]["spearman"]
    assert found["value"] == row["piece_spearman"]
    assert found["interval"] == [row["piece_spearman_low"], row["piece_spearman_high"]]


@pytest.mark.slow
def test_a_law_is_fitted_to_an_error(scored):
    result = kleiber("fit", scored / "observations.csv", "--columns", "loss=made_error", "--bootstrap", 0, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["n"], found["settings"]["columns"]["loss"]) == (4, "made_error")
    assert "se" not in found["settings"]["columns"]  # loss_se is in nats


def test_standard_errors_are_those_of_the_column_that_is_fitted():
    n = np.array([1e4, 2e4, 3e4])
    rows = {"n_params_non_embedding": n, "n_tokens": 10 * n, "flops": 60 * n**2, "flops_6nd": 60 * n**2}
    rows |= {"loss": 5 - n / 1e5, "loss_se": n / 1e6, "bits_per_base": 2 - n / 1e5, "bits_per_base_se": n / 1e7}
    table = pl.DataFrame(rows | {"task_error": 0.5 - n / 1e6})
    assert Observations.of(table).se == pytest.approx(n / 1e6)
    assert Observations.of(table, {"loss": "bits_per_base"}).se == pytest.approx(n / 1e7)
    assert Observations.of(table, {"loss": "task_error"}).se is None


@pytest.mark.slow
def test_killed_while_it_scores_it_ends_in_the_same_bytes(study, scored, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(scored, out)
    results = sorted(path.relative_to(out) for path in out.glob("runs/*/checkpoints/*/downstream.json"))
    assert len(results) == 4
    for name in ("manifest.json", "report.html", "observations.csv", "fits/downstream.json", *results):
        (out / name).unlink()
    (out / "downstream" / "piece" / "opponents.json").unlink()
    command = [sys.executable, "-m", "kleiber", "run", str(study), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 120
    while not any((out / name).exists() for name in results) and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert sum((out / name).exists() for name in results) in (1, 2, 3)
    result = kleiber("run", study, "--out", out)
    assert result.returncode == 0, result.stderr
    for name in ("observations.csv", "fits/downstream.json", "downstream/piece/opponents.json", *results):
        assert (out / name).read_bytes() == (scored / name).read_bytes(), name


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"variants.vcf": None}, r"which \[downstream\] made of the study names"),
        ({"variants.vcf": "not a VCF\n"}, "is no VCF or BCF file"),
        ({"variants.vcf": HEADER + "20\t1600001\t.\tN\tA\t.\t.\tCLASS=LOF\n"}, "REF allele disagrees"),
        ({"variants.vcf": HEADER + "7\t1600001\t.\tA\tC\t.\t.\tCLASS=LOF\n"}, "can be scored"),
        ({"piece.fa": ">other\n" + 4000 * "A"}, "can be scored"),
        ({"train.csv": "sequence,label\nACGT,1\nAC-T,0\n"}, "line 3: 'AC-T' is no sequence"),
        ({"test.csv": "sequence,label\nACGTACGT,7\n"}, "has the class 7"),
        ({"study.toml": STUDY.replace('"CLASS"', '"CLAS"')}, "CLASS"),
        ({"study.toml": STUDY.replace('["LOF"]', '["LOSS"]')}, "No variant of"),
        ({"study.toml": STUDY.replace('["FUNC"]', '["FUNC", "LOF"]')}, "at once"),
    ],
)
def test_what_tasks_cannot_use_is_refused_before_anything_is_trained(genome, tmp_path, files, says):
    path = write_inputs(tmp_path, genome)
    for name, text in files.items():
        (tmp_path / name).unlink() if text is None else (tmp_path / name).write_text(text)
    with pytest.raises(KleiberError, match=says):
        run_study(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_plan_asks_for_the_files_of_tasks_where_the_genome_is_here(genome, tmp_path):
    path = write_inputs(tmp_path, genome)
    assert territory(load_study(path))
    (tmp_path / "piece.vcf").unlink()
    with pytest.raises(ConfigError, match=r"no file .*piece.vcf, which \[downstream\] piece of the study names"):
        territory(load_study(path))
    path.write_text(path.read_text().replace('reference = "embedded"', 'reference = "elsewhere.fa"', 1))
    assert territory(load_study(path)) == []


def test_the_command_says_so_without_a_traceback(genome, tmp_path):
    path = write_inputs(tmp_path, genome, chromosome="7")
    result = kleiber("run", path, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "Its FASTA has the contigs 20" in result.stderr


def test_the_tokenizer_of_a_run_inside_a_study(tmp_path):
    run = tmp_path / "runs" / "one"
    checkpoint = run / "checkpoints" / "step-7"
    checkpoint.mkdir(parents=True)
    kept = tmp_path / "tokenizer" / "bpe64"
    kept.mkdir(parents=True)
    (kept / "tokenizer.json").write_text("{}")
    write_manifest(kept, {"fingerprint": "abc"})
    write_manifest(run, {"config": {"labels": {"tokenizer": "bpe64"}, "tokenizer": "abc"}})
    for place in (run, checkpoint, checkpoint / "model.safetensors"):
        assert tokenizer_beside(place) == kept / "tokenizer.json"
    write_manifest(kept, {"fingerprint": "another"})
    with pytest.raises(DataError, match=r"is not the tokenizer that .* was trained with"):
        tokenizer_beside(checkpoint)
    (run / "tokenizer.json").write_text("{}")
    assert tokenizer_beside(run) == run / "tokenizer.json"
    assert tokenizer_beside(tmp_path) == tmp_path / "tokenizer.json"  # and is not there
