"""Kill a study at random moments of all its stages, let it end, and compare it byte for byte with an undisturbed one.

    python scripts/kill_study.py studies/first.toml out/first out/killed --kills 50

The first folder holds the undisturbed study, or gets it; the second one is made anew. A kill is a SIGKILL to the whole
process group. Half of the kills meet the models, at moments that are drawn in logged steps, so that they lie all over
the training however often it is set back; the others meet the other stages, each alike, at moments drawn in seconds of
the undisturbed stage. A stage that is over before its kills are is begun again. All files of the two folders are
compared but what a clock or a process number decides.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from kleiber.study.config import Study, load_study

STAGES = ("genome", "tokenizers", "corpora", "machine", "models", "analysis", "report")
CHOICES = ("threads", "devices", "attention", "precision")  # of machine.json: they decide bytes
CLOCKED = ("timing.jsonl", "machine.json")
ENDS = {
    "genome": "genome/manifest.json",
    "tokenizers": "tokenizer/*/manifest.json",
    "corpora": "corpora.json",
    "machine": "machine.json",
    "analysis": "figs/*",
}
"""What shows that a stage is over; without it, it is done again."""
TICK = 0.02  # seconds between two looks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("undisturbed", type=Path)
    parser.add_argument("killed", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=17)
    options = parser.parse_args()
    if options.killed.exists():
        parser.error(f"{options.killed} exists; name a new folder")
    study = load_study(options.study)
    finish(options.study, options.undisturbed)
    start, hits, pace = time.monotonic(), Counter[str](), dict.fromkeys(STAGES, 1.0)
    for stage, share in moments(options.kills, random.Random(options.seed)):
        met = kill_once(study, options.study, options.undisturbed, options.killed, stage, share * pace[stage])
        if met != stage != "models":
            pace[stage] /= 2  # the undisturbed stage was slower: it compiled, or shared the machine
        adopt_choices(options.undisturbed, options.killed)
        hits[met] += 1
        print(f"{time.monotonic() - start:6.0f} s  kill {hits.total():>3}: {met}", flush=True)
    finish(options.study, options.killed)
    print(f"{hits.total()} kills: " + ", ".join(f"{hits[stage]} in {stage}" for stage in STAGES))
    different, n_same = compare(options.undisturbed, options.killed)
    print(f"{n_same} files are the same, {len(different)} are not")
    for line in different:
        print(f"  {line}")
    sys.exit(bool(different))


def moments(kills: int, draw: random.Random) -> list[tuple[str, float]]:
    """Return the stage of each kill, in their order, and which share of it is done then."""
    others = [stage for stage in STAGES if stage != "models"]
    chosen = ["models"] * (kills - kills // 2) + [others[i % len(others)] for i in range(kills // 2)]
    return sorted(((stage, draw.random()) for stage in chosen), key=lambda moment: (STAGES.index(moment[0]), moment[1]))


def finish(study: Path, out: Path) -> None:
    """Run a study to its end."""
    subprocess.run(_command(study, out), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_once(study: Study, file: Path, undisturbed: Path, out: Path, stage: str, share: float) -> str:
    """Start the study, kill it when it has come so far in a stage, and return the stage that it died in."""
    steps, seconds = share * n_steps(undisturbed), share * duration(study, undisturbed, stage)
    while True:
        begin_again(out, stage)
        process = subprocess.Popen(
            _command(file, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        entered = 0.0
        while process.poll() is None:
            if STAGES.index(stage_of(study, out)) >= STAGES.index(stage):
                entered = entered or time.monotonic()
                if n_steps(out) >= steps if stage == "models" else time.monotonic() - entered >= seconds:
                    os.killpg(process.pid, signal.SIGKILL)
                    break
            time.sleep(TICK)
        _, said = process.communicate()
        if process.returncode == -signal.SIGKILL:
            return stage_of(study, out)
        if process.returncode:
            sys.exit(f"The study failed by itself in {stage}:\n{said}")
        seconds /= 2  # it was through before the moment came


def begin_again(out: Path, stage: str) -> None:
    """Undo the end of a stage, and that of the study, where an earlier life came so far."""
    for pattern in ("report.html", "manifest.json", *([ENDS[stage]] if stage in ENDS else ())):
        for path in out.glob(pattern):
            if stage == "tokenizers" and path.parent != out:
                shutil.rmtree(path.parent)  # a folder without its manifest would not be replaced
            else:
                path.unlink()


def stage_of(study: Study, out: Path) -> str:
    """Return the first stage that is not complete."""
    n_runs, tuned = len(study.units()) + len(study.trials()), (out / "lr.json").exists() or not study.tune.sizes
    wanted = {"tokenizers": len(study.tokenizers())}
    is_done = {stage: len(list(out.glob(pattern))) >= wanted.get(stage, 1) for stage, pattern in ENDS.items()}
    is_done["models"] = tuned and len(list(out.glob("runs/*/manifest.json"))) == n_runs
    return next((stage for stage in STAGES if not is_done.get(stage)), "report")


def duration(study: Study, out: Path, stage: str) -> float:
    """Return the seconds that a stage of a finished study took, by the times of its files."""

    def landed(*patterns: str) -> float:
        return max(path.stat().st_mtime for pattern in patterns for path in out.glob(pattern))

    ends = {
        "genome": landed("genome/manifest.json"),
        "tokenizers": landed("tokenizer/*/manifest.json"),
        "corpora": landed("corpora.json"),
        "machine": landed("machine.json"),
        "models": landed("runs/*/manifest.json"),
        "analysis": landed("fits/*.json"),
        "report": landed("report.html"),
    }
    begin = min(path.stat().st_mtime for path in out.rglob("*") if path.is_file())
    before = STAGES.index(stage) - 1
    return ends[stage] - (ends[STAGES[before]] if before >= 0 else begin)


def n_steps(out: Path) -> int:
    """Return how many steps all runs have logged."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob("runs/*/metrics.jsonl"))


def adopt_choices(undisturbed: Path, out: Path) -> None:
    """Take the undisturbed study's machine.json where the measurement chose otherwise: bytes depend on it."""
    ours, theirs = out / "machine.json", undisturbed / "machine.json"
    if not ours.exists():
        return
    chose, given = (json.loads(path.read_bytes()) for path in (ours, theirs))
    if any(chose[key] != given[key] for key in CHOICES):
        print(f"machine.json: { ({key: chose[key] for key in CHOICES}) } was measured here; taking the undisturbed one")
        shutil.copy(theirs, ours)
        shutil.rmtree(out / "runs", ignore_errors=True)


def compare(undisturbed: Path, killed: Path) -> tuple[list[str], int]:
    """Return what differs between two folders, and how many files are the same to the byte."""
    ours, theirs = (
        {
            path.relative_to(folder)
            for path in folder.rglob("*")
            if path.is_file() and path.name not in CLOCKED and path.suffix != ".lock"
        }
        for folder in (undisturbed, killed)
    )
    changed = [str(path) for path in sorted(ours & theirs) if _bytes(undisturbed / path) != _bytes(killed / path)]
    alone = [f"{path} (only one has it)" for path in sorted(ours ^ theirs)]
    return changed + alone, len(ours & theirs) - len(changed)


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


def _command(study: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "kleiber", "run", str(study), "--out", str(out)]


if __name__ == "__main__":
    main()
