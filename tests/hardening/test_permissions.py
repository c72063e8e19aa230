"""What may not be read or written is told in one message, exit 2; and a read-only place is good enough for reading."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from study.conftest import TOY
from study.conftest import kleiber as typed

EMBEDDED = Path(str(files("kleiber") / "data" / "embedded"))
FASTA, PANEL = EMBEDDED / "chr20_1-4Mb.GRCh37.fa.gz", EMBEDDED / "EUR300.chr20_1-4Mb.vcf.gz"

DRIVER = """
import contextlib, io, json, sys
from kleiber.cli import main
for line in sys.stdin:
    sys.argv, told, code = ["kleiber", *json.loads(line)], io.StringIO(), 0
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([code, told.getvalue()]), flush=True)
"""


def run_each(prefix: list[str], *commands: list[object], cwd: Path | None = None) -> list[tuple[int, str]]:
    """Run commands one after the other in one process; return the exit code and the message of each."""
    lines = "\n".join(json.dumps([str(word) for word in command]) for command in commands)
    driver = [*prefix, sys.executable, "-c", DRIVER]
    result = subprocess.run(driver, input=lines, capture_output=True, text=True, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return [tuple(json.loads(line)) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def bound() -> list[str]:
    """What to put before a command so that permissions count: root is given none of its privileges over files."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root without setpriv may read and write everything")
    without = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={without}", f"--inh-caps={without}"]


def test_what_may_not_be_read_or_written_is_named(bound, tmp_path):
    closed, secret = tmp_path / "closed", tmp_path / "secret.fa"
    closed.mkdir()
    secret.write_text(">20\nACGT\n")
    study, hidden, vcf = tmp_path / "study.toml", tmp_path / "hidden.toml", tmp_path / "hidden.vcf"
    study.write_text(TOY)
    hidden.write_text(TOY)
    vcf.write_text("##fileformat=VCFv4.2\n")
    for path, mode in ((closed, 0o555), (secret, 0), (hidden, 0), (vcf, 0)):
        path.chmod(mode)
    build = ["panel", "build", "--reference"]
    told = run_each(
        bound,
        ["run", hidden, "--out", tmp_path / "out"],
        ["run", study, "--out", closed],
        ["run", study, "--out", closed / "below" / "out"],
        [*build, secret, "--panel", PANEL, "--out", tmp_path / "store"],
        [*build, FASTA, "--panel", vcf, "--out", tmp_path / "store"],
        ["new", closed / "study.toml", "--embedded"],
        ["tokenizer", "train", "--kind", "kmer", "--k", "3", "--out", closed / "t.json"],
        ["tokenizer", "info", secret],
        ["status", study, "--out", tmp_path / ("n" * 300)],
    )
    named = [hidden, closed, closed / "below", secret, vcf, closed, closed, secret, "n" * 300]
    for (code, message), path in zip(told, named, strict=True):
        assert code == 2, message
        assert str(path) in message
        assert re.search(r"ermission|longer name", message), message
        assert "Traceback" not in message
        assert "damaged" not in message
    assert not list(closed.iterdir())
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "store").exists()


def test_a_read_only_disk_cannot_be_written_and_is_told(toy_study, disk):
    disk.remount("ro")
    for code, message in run_each(
        [],
        ["run", toy_study, "--out", disk.path / "out"],
        ["sweep", toy_study, "--out", disk.path / "out"],
        ["panel", "build", "--reference", FASTA, "--panel", PANEL, "--out", disk.path / "store"],
        ["new", disk.path / "study.toml", "--embedded"],
    ):
        assert code == 2, message
        assert f"{disk.path}" in message
        assert "its file system is read-only" in message


@pytest.mark.slow
def test_a_finished_study_is_looked_at_on_a_read_only_disk(finished, toy_study, disk):
    out = disk.path / "out"
    shutil.copytree(finished, out)
    disk.remount("ro")
    for command in (["run", toy_study, "--out", out], ["status", toy_study, "--out", out]):
        result = typed(*command)
        assert result.returncode == 0, result.stderr
    result = typed("status", toy_study, "--out", out, "--json")
    assert [run["state"] for run in json.loads(result.stdout)] == ["done"] * 4
    disk.remount("rw")
    for name in ("manifest.json", "report.html"):
        (out / name).unlink()
    next(out.glob("runs/*/manifest.json")).unlink()
    disk.remount("ro")
    states = [run["state"] for run in json.loads(typed("status", toy_study, "--out", out, "--json").stdout)]
    assert sorted(states) == ["done", "done", "done", "stopped"]
    result = typed("run", toy_study, "--out", out)
    assert result.returncode == 2
    assert "its file system is read-only" in result.stderr
    disk.remount("rw")
    assert typed("run", toy_study, "--out", out).returncode == 0
    assert (out / "observations.csv").read_bytes() == (finished / "observations.csv").read_bytes()


def test_without_a_place_for_compiled_code(bound, tmp_path):
    """Installed read-only, and no home: as in a container."""
    package = tmp_path / "installed" / "kleiber"
    shutil.copytree(files("kleiber"), package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (*package.rglob("*"), package, package.parent):
        path.chmod(0o555 if path.is_dir() else 0o444)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    code = (
        "import os, kleiber\nfrom kleiber import counter\n"
        "assert kleiber.__file__.startswith(os.environ['PYTHONPATH']), kleiber.__file__\n"
        "folder = os.environ['NUMBA_CACHE_DIR']\nassert os.stat(folder).st_mode & 0o77 == 0\n"
        "print(counter.draws(1, 2, 3, 1), os.listdir(folder) != [])"
    )
    free = {key: value for key, value in os.environ.items() if key not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    environment = {
        **free,
        "PYTHONPATH": str(tmp_path / "installed"),
        "HOME": str(tmp_path / "installed" / "home"),
        "TMPDIR": str(scratch),
    }
    result = subprocess.run([*bound, sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith("True")
    assert not list(scratch.iterdir())
