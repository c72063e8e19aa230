"""Everything that the pages tell a reader to type works, in the order of the page.

A page runs in a folder of its own with ``genome.fa.gz``, ``panel.vcf.gz``, ``examples/`` and ``studies/``. A
``console`` block is run by bash command by command, a ``python`` block as a script, and the keys of a ``toml`` block
are set in the study file that its marker names. What takes hours is made small first,
and only by what this module says: `SMALLER` for what a command asks for, `TINY` for the study files of the folder,
right before a command that trains them.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import pytest

from docs.pages import ROOT, Block, blocks, pages
from study.slurm import missing, slurm

SMALLER = [
    (r"--tokens( [\d.e]+)+", "--tokens 4e3 8e3"),
    (r"--size \S+", "--size 0.01M"),
    (r"(?<=tokenizer train genome.fa.gz)(.*)--vocab-size \d+", r"\1--vocab-size 64 --bases 1e5"),
    (r"chr8", "20:3,900,001-4,000,000"),
    (r"(-m kleiber|kleiber) train ", r"\1 train --length 32 --batch 8 --eval-rows 50 "),
    (r"kleiber evaluate", "kleiber evaluate --length 32 --rows 50"),
    (r"--nproc-per-node 8", "--nproc-per-node 2"),
    (r"--devices 8", "--devices 2"),
    (r"import DNABERT-2-117M", "import my-model"),  # the published weights are on the network
    (r"--watch 10", "--watch 1"),
]
TINY = [
    (r"(?m)^sizes += .*$", 'sizes = ["0.01M", "0.02M"]'),
    (r"(?m)^tokens += .*$", "tokens = [4e3, 8e3]"),
    (r"(?m)^length = 128", "length = 32"),
    (r"(?m)^eval_rows = 500", "eval_rows = 50"),
    (r"(?m)^batch = 16", "batch = 8"),
    (r"bpe1024", "bpe64"),
    (r"(?m)^(variant-bpe|ref-6mer) .*\n", ""),
    (r"(?s)\A(?!.*\[fit\])(.*)\Z", r"\1\n[fit]\nbootstrap = 100\n"),
]
TRAINS = re.compile(r"^(kleiber (run|sweep|plan(?!.*--no-measure))|sbatch|snakemake|examples/)")
FAST = {"README.md", "docs/howto/sizes.md", "docs/explanation/counting.md", "docs/explanation/bits-per-base.md"}
NEEDS = {
    "docs/howto/slurm.md": ", ".join(missing()),
    "docs/howto/ray.md": "" if importlib.util.find_spec("ray") else "ray",
    "docs/howto/snakemake.md": "" if shutil.which("snakemake") else "snakemake",
    "docs/howto/finetune.md": "" if importlib.util.find_spec("transformers") else "transformers",
}


EXTEND = "docs/howto/extend.md"  # tests/docs/test_extend.py does what it says


def marked(page: str) -> pytest.param:
    """Return a page as a parameter, with its marks."""
    lacks = NEEDS.get(page)
    marks = [pytest.mark.skip(reason=f"{page} needs {lacks}")] if lacks else []
    return pytest.param(page, marks=marks if page in FAST else [*marks, pytest.mark.slow])


RUN = [page for page in pages() if any(block.is_run for block in blocks(page))]


@pytest.mark.parametrize("page", [marked(page) for page in RUN])
def test_a_page_runs(page, tmp_path):
    lay_out(tmp_path)
    with surroundings(page) as environment:
        for block in blocks(page):
            if block.is_run:
                run_block(page, block, tmp_path, environment)


def test_every_block_is_run_or_says_why_not():
    for page in pages():
        for block in blocks(page):
            where = f"{page}:{block.line}"
            if block.kind == "toml":
                assert block.marker[0], f"{where}: a toml block says into which file it goes"
            assert block.marker[0] != "into" or block.kind in ("toml", "diff"), where
            assert block.marker[0] not in ("as", "into") or block.kind == "toml" or page == EXTEND, where
            assert block.is_run or len(block.marker[1]) > 10, f"{where}: a reason is a sentence"
    assert {"docs/tutorial/own-vcf.md", "README.md"} <= set(RUN)
    assert set(RUN) >= FAST | set(NEEDS)


def lay_out(folder: Path) -> None:
    """Put what the pages speak of into a folder."""
    data = Path(str(files("kleiber") / "data" / "embedded"))
    shutil.copy(data / "chr20_1-4Mb.GRCh37.fa.gz", folder / "genome.fa.gz")
    shutil.copy(data / "EUR300.chr20_1-4Mb.vcf.gz", folder / "panel.vcf.gz")
    for name in ("examples", "studies"):
        shutil.copytree(ROOT / name, folder / name)


@contextmanager
def surroundings(page: str) -> Iterator[dict[str, str]]:
    """Yield the environment of a page; its cluster, if it has one, is there as long."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["RAY_USAGE_STATS_ENABLED"] = "0"
    if page != "docs/howto/slurm.md":
        yield environment
        return
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as folder, slurm(Path(folder)) as cluster:
        yield {**environment, **cluster, "PATH": f"{environment['PATH']}:/usr/sbin"}


def run_block(page: str, block: Block, folder: Path, environment: dict[str, str]) -> None:
    """Do what a block says."""
    where = f"{page}:{block.line}"
    if block.kind == "python":
        run([sys.executable, "-c", block.text], where, folder, environment)
    elif block.kind == "toml":
        if block.marker[0] == "into":
            set_keys(folder / block.marker[1], block.text)
    else:
        for command in block.commands():
            if TRAINS.match(command):
                for study in folder.glob("*.toml"):
                    study.write_text(change(study.read_text(), TINY))
            run(["bash", "-euo", "pipefail", "-c", change(command, SMALLER)], where, folder, environment)


def run(command: list[str], where: str, folder: Path, environment: dict[str, str]) -> None:
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=3600)
    assert result.returncode == 0, f"{where}: {command[-1]}\n{result.stdout}{result.stderr}"


def change(text: str, changes: list[tuple[str, str]]) -> str:
    for pattern, new in changes:
        text = re.sub(pattern, new, text)
    return text


def set_keys(path: Path, text: str) -> None:
    """Set the keys of some TOML, a line each, in the tables of a study file; tables that it lacks come last."""
    tables = re.split(r"(?m)^(?=\[)", path.read_text())
    for new in re.split(r"(?m)^(?=\[)", text):
        head, *lines = new.strip().splitlines() or [""]
        at = next((i for i, table in enumerate(tables) if table.startswith(head)), len(tables))
        if at == len(tables):
            tables.append(f"\n{head}\n")
        for line in filter(None, lines):
            key = re.escape(line.split("=")[0].strip())
            kept = re.sub(rf"(?m)^{key} *=.*\n", "", tables[at])
            tables[at] = f"{kept.rstrip()}\n{line}\n\n"
    path.write_text("".join(tables))
    tomllib.loads(path.read_text())
