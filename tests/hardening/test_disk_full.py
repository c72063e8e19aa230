"""A disk that fills up, at every stage: told in one message, nothing half-landed, and the same bytes in the end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from study.conftest import kleiber as typed

PAGE = 4096
STAGES = ("genome", "tokenizer", "corpora.json", "runs", "observations", "fits", "figs", "report.html")


def pages(files: list[Path]) -> int:
    """Return the bytes that files take, hard links once."""
    sizes = {(stat := path.stat()).st_ino: stat.st_size for path in files}
    return sum(-(-size // PAGE) * PAGE for size in sizes.values())


def sizes(finished: Path) -> list[int]:
    """Return sizes of a disk with which a study does not get through each stage: half of what it writes is missing."""
    found, before = [], 0
    for stage in STAGES:
        own = pages([p for p in finished.rglob("*") if p.is_file() and str(p.relative_to(finished)).startswith(stage)])
        found.append(before + own // 2 // PAGE * PAGE or PAGE)
        before += own
    return found


@pytest.mark.slow
def test_a_disk_that_is_full_at_every_stage(finished, toy_study, disk):
    out, met = disk.path / "out", set()
    for size in sizes(finished):
        disk.remount(f"size={size}")
        result = typed("run", toy_study, "--out", out)
        assert result.returncode == 2, (size, result.stderr)
        assert "Traceback" not in result.stderr
        told = re.search(rf"There is no space left for {disk.path}(\S*) \(([\d,]+) bytes are free\)", result.stderr)
        assert told, result.stderr
        assert "what is done is kept" in result.stderr
        assert not (out / "manifest.json").exists()
        met.add(told[1].split("/")[2] if told[1].count("/") > 1 else told[1])
    assert len(met) >= 5, met  # stages that were met
    disk.remount("size=64m")
    result = typed("run", toy_study, "--out", out)
    assert result.returncode == 0, result.stderr
    for pattern in ("observations.*", "fits/*", "runs/*/metrics.jsonl", "runs/*/rows.json", "runs/*/checkpoints/*/*"):
        expected = {path.relative_to(finished): path.read_bytes() for path in finished.glob(pattern)}
        assert expected
        assert {path.relative_to(out): path.read_bytes() for path in out.glob(pattern)} == expected
    assert not [path for path in out.rglob("*") if path.name.endswith(".partial")]
