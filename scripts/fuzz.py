"""Fuzz one parser under the guidance of coverage: bytes that reach new lines are kept and changed further.

    python scripts/fuzz.py study|fasta|bed|tokenizer|table|checkpoint|vcf [--minutes 5] [--corpus DIR] [--mode MODE]

Needs atheris (libFuzzer for Python; not among kleiber's dependencies). What a parser has to do with any bytes stands
in tests/oracles/parsers.py, and the tests use it too. It stops at the first input that does something else, takes
longer than `SECONDS` or more than `MEGABYTES`, or has code run or unpickled, and leaves that input in the corpus's
folder. Kernels are compiled and give no coverage, so the VCF reader is fuzzed in three modes: "python" runs them as
Python, which guides into them; "checked" compiles them with bounds checks; "compiled" is as users have them. With
--replay, the inputs of a corpus are run once and what became of each is printed, so that modes can be compared.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS, MEGABYTES = 5, 3000  # of processor time for one input, and of the process
STUCK = 120  # seconds by the clock, for code that Python cannot interrupt
MODES = {
    "compiled": {},
    "python": {"NUMBA_DISABLE_JIT": "1"},
    "checked": {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(Path(tempfile.gettempdir()) / "kleiber-fuzz-checked")},
}
FORBIDDEN = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
THIRD_PARTIES = ["tomllib", "gzip"]  # Python that parses for us
TOOK, REFUSED = range(2)
TOKENS, LINES = re.compile(rb"[A-Za-z_]+|[0-9.]+|\s+|[^A-Za-z_0-9.\s]"), re.compile(rb"[^\n]*\n|[^\n]+")
ODD = (
    "0",
    "-1",
    "1e400",
    "nan",
    "4294967296",
    "18446744073709551617",
    "9" * 5000,
    "\u00b2",
    "~x",
    "\0",
    "",
    "true",
    "[]",
)


def main() -> int:
    """Fuzz in a child process, so that its end, however it comes, can be told."""
    args = arguments()
    if args.child:
        return fuzz(args) if args.replay is None else replay(args)
    env = {**os.environ, **MODES[args.mode], "TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0"}
    env |= dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    args.corpus.mkdir(parents=True, exist_ok=True)
    counts = args.corpus.parent / f".{args.target}.counts"
    counts.write_bytes(bytes(16))
    child = subprocess.Popen(
        [sys.executable, __file__, *sys.argv[1:], "--child"],
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert child.stderr is not None
    coverage, executions, features = "?", "?", "?"
    for line in child.stderr:
        sys.stderr.write(line)
        if found := re.match(r"#\d+\s.*cov: (\d+) ft: (\d+)", line):
            coverage, features = found.groups()
        if found := re.match(r"stat::number_of_executed_units:\s+(\d+)", line):
            executions = found[1]
    code = child.wait()
    if args.replay is None:
        took, refused = (int.from_bytes(counts.read_bytes()[8 * i : 8 * i + 8], "little") for i in (TOOK, REFUSED))
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"{args.target} ({args.mode}): {'clean' if code == 0 else 'STOPPED'} after {executions} executions "
            f"in {usage.ru_utime + usage.ru_stime:.0f} s of processor time; "
            f"{took} taken, {refused} refused; {coverage} edges, {features} features; "
            f"{usage.ru_maxrss // 1024} MB at most"
        )
    return code


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=("study", "fasta", "bed", "tokenizer", "table", "checkpoint", "vcf"))
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--corpus", type=Path, help="inputs worth keeping; a temporary folder when not given")
    parser.add_argument("--mode", choices=MODES, default="compiled")
    parser.add_argument("--replay", type=Path, help="run the inputs in this folder once instead")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.corpus is None:
        args.corpus = Path(tempfile.gettempdir()) / "kleiber-fuzz" / f"{args.target}-{args.mode}"
    return args


def prepare(args: argparse.Namespace):
    """Import what is tried, with coverage; return its parser and a folder in memory to work in."""
    import atheris

    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
    compiled = [] if args.mode == "python" else [f"kleiber.{name}" for name in with_kernels()]
    with atheris.instrument_imports(include=["kleiber", *THIRD_PARTIES], exclude=compiled):
        import_all(args.target)
    from oracles.parsers import PARSERS

    if args.target == "checkpoint":  # importing torch with coverage would take minutes
        from torch._weights_only_unpickler import Unpickler

        Unpickler.load = atheris.instrument_func(Unpickler.load)
    warnings.simplefilter("ignore" if args.mode == "python" else "error", RuntimeWarning)  # scalars overflow, as meant
    shared = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="kleiber-fuzz-", dir=shared if shared.is_dir() else None)
    return PARSERS[args.target], Path(folder)


def with_kernels() -> list[str]:
    """Return the modules with compiled functions, which cannot be instrumented."""
    source = ROOT / "src" / "kleiber"
    files = [path for path in source.rglob("*.py") if "njit" in path.read_text()]
    return [".".join(path.relative_to(source).with_suffix("").parts) for path in files]


def import_all(target: str) -> None:
    """Import every module that a check will need."""
    import importlib

    rooms = {
        "study": ("study.config", "study.plan"),
        "fasta": ("genome.reference",),
        "bed": ("corpus.regions", "genome.assembly"),
        "tokenizer": ("tokens.tokenizer", "tokens.bpe", "tokens.kmer", "tokens.original"),
        "table": ("scaling.observations", "scaling.frontier"),
        "checkpoint": ("model.weights", "train.checkpoint"),
        "vcf": ("genome.vcf", "genome.scan", "genome.bgzf", "genome.panel"),
    }
    for name in rooms[target]:
        importlib.import_module(f"kleiber.{name}")


def fuzz(args: argparse.Namespace) -> int:
    """Run libFuzzer until its time is over or an input misbehaves."""
    import atheris

    parser, folder = prepare(args)
    for number, seed in enumerate(parser.seeds()):
        (args.corpus / f"seed-{number}").write_bytes(seed)
        parser.check(seed, folder)  # compiles what is compiled, before anything is timed
    words = args.corpus.parent / f"{args.target}.dict"
    words.write_text("".join(f'"{escaped(word)}"\n' for word in parser.words))
    forbid()
    limit_memory()
    with open(args.corpus.parent / f".{args.target}.counts", "r+b") as file:
        counts = memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")

    def too_long(*_: object) -> None:
        raise AssertionError(f"an input takes more than {SECONDS} s")

    signal.signal(signal.SIGVTALRM, too_long)

    def test_one_input(data: bytes) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        counts[TOOK if parser.check(data, folder) else REFUSED] += 1

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        draw = random.Random(seed)
        return atheris.Mutate(data, most) if draw.random() < 0.5 else change_tokens(data, parser.words, draw)[:most]

    options = {
        "dict": words,
        "max_total_time": round(60 * args.minutes),
        "timeout": STUCK,
        "rss_limit_mb": MEGABYTES,
        "max_len": 8192,
        "len_control": 20,
        "detect_leaks": 0,
        "print_final_stats": 1,
        "artifact_prefix": f"{args.corpus.parent / args.target}-",
    }
    command = [sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), str(args.corpus)]
    atheris.Setup(command, test_one_input, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


def change_tokens(data: bytes, words: tuple[str, ...], draw: random.Random) -> bytes:
    """Put, cut, replace or double whole tokens or lines: what single bytes hardly ever do to a text."""
    pattern = TOKENS if draw.random() < 0.7 else LINES
    parts = re.findall(pattern, data) or [b""]
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(parts) + 1)
        other = draw.choice(parts) if draw.random() < 0.5 else draw.choice((*words, *ODD)).encode()
        parts[at : at + draw.randrange(2)] = [other] * draw.choice((0, 1, 1, 1, 2))
        parts = parts or [b""]
    return b"".join(parts)


def escaped(word: str) -> str:
    """Return a word as libFuzzer's dictionaries spell it."""
    return "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\' else f"\\x{b:02x}" for b in word.encode())


def forbid() -> None:
    """From now on nothing may unpickle a class, start a program or open a connection; numba's own cache may."""

    def hook(event: str, details: tuple) -> None:
        if event in FORBIDDEN:
            frame = sys._getframe()
            while frame is not None:
                if frame.f_globals.get("__name__", "").startswith("numba."):
                    return
                frame = frame.f_back
            raise AssertionError(f"an input leads to {event}: {details}")

    sys.addaudithook(hook)


def limit_memory() -> None:
    """Refuse more address space than is in use and `MEGABYTES`: an allocation beyond fails, and is a finding."""
    used = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmSize" in line)
    limit = used * 1024 + MEGABYTES * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def replay(args: argparse.Namespace) -> int:
    """Say of every input whether it is taken or refused, or what else it does."""
    parser, folder = prepare(args)
    failures = 0
    for path in sorted(args.replay.iterdir()):
        try:
            became = "taken" if parser.check(path.read_bytes(), folder) else "refused"
        except Exception as error:
            became, failures = f"{type(error).__name__}: {error}", failures + 1
        print(f"{path.name}\t{became}")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
