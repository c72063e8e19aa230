"""Break a module in many small ways, and see which its own tests notice: a mutation run by the operators of cosmic-ray.

    python scripts/mutants.py --count 60 --seed 1 --json out/mutants.json
    python scripts/mutants.py scaling/runs --again out/mutants.json

A seed draws the mutants of each module, places first: a second change of one place is drawn when no place is left. A
mutant counts when it changes what runs: annotations, decorators, and the words of f-strings do not. Each runs in a
process forked with the libraries loaded already, on a private copy of the tree; `src` and `tests` are not touched.
Rejected: the tools' own runners, of which none draws by a seed (mutmut leaves out decorated functions, which all
kernels are), and a bare `pytest` a mutant, which imports for longer than it tests.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import gc
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ["hypothesis", "numba", "numpy", "polars", "pysam", "pytest", "scipy.optimize", "scipy.stats", "torch"]
INTERPRETED = {"NUMBA_DISABLE_JIT": "1"}  # kernels whose tests are small enough: compiling each mutant takes longer
TABLES = ["tests/scaling/test_tables.py"]
TABLES += [
    f"--deselect=tests/scaling/test_tables.py::{name}"
    for name in (
        "test_any_text_is_a_table_or_refused",
        "test_damaged_files_are_refused_in_words",
        "test_one_table_in_many_dialects",
    )
]
TESTS: dict[str, tuple[list[str], dict[str, str]]] = {
    "scaling/runs": (["tests/scaling/test_runs.py", *TABLES], {}),
    "scaling/observations": (["tests/scaling/test_observations.py", *TABLES], {}),
    "scaling/numbers": (["tests/scaling/test_numbers.py", *TABLES], {}),
    "scaling/witnesses": (["tests/scaling/test_witness_rules.py"], {}),
    "scaling/solver": (["tests/scaling/test_solver.py"], INTERPRETED),
    "corpus/draws": (["tests/corpus/test_sampling.py", "tests/corpus/test_strategies.py"], INTERPRETED),
    "genome/edits": (
        [
            *(f"tests/genome/test_panel.py::{name}" for name in ("test_every_kind_of_record", "test_rules")),
            "tests/genome/test_panel.py::test_records_that_make_no_sense",
            "tests/genome/test_letters.py",
            "--deselect=tests/genome/test_letters.py::test_letters_are_bases_codes_or_between_them",
            "tests/genome/test_haplotypes.py::test_haplotypes_and_windows_equal_the_naive_twin",
        ],
        INTERPRETED,
    ),
    "train/schedule": (["tests/train/test_schedule.py"], {}),
}
"""The own tests of each module, cheapest first, and what their environment has."""

OPTIONS = [*["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning", "-m"], "not slow"]
OPTIONS += ["-W", "ignore:overflow encountered in scalar:RuntimeWarning"]  # uint64 goes round, as compiled code has it
ARITHMETIC, BITS = {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"}, {"BitOr", "BitAnd", "BitXor"}
IDENTITY = {"Is", "IsNot"}
GIGABYTES = 16  # of addresses that a mutant may use


@dataclass(frozen=True)
class Mutant:
    """One change of a module: the operator that makes it, at which of its places, and what became of the lines."""

    module: str
    operator: str
    occurrence: int
    line: int
    before: str
    after: str


def is_fair(operator: str) -> bool:
    """Say whether an operator changes a meaning, and not a type: ``|`` of floats is an error that anything notices."""
    kind, *names = operator.split("_")
    if kind == "ReplaceBinaryOperator":
        return any(names[0] in group and names[1] in group for group in (ARITHMETIC, BITS, {"RShift", "LShift"}))
    if kind == "ReplaceComparisonOperator":
        return (names[0] in IDENTITY) == (names[1] in IDENTITY)
    return kind not in ("RemoveDecorator", "VariableReplacer", "VariableInserter")


class Meaning(ast.NodeTransformer):
    """Take away what does not run, or only words a message."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns, node.decorator_list = None, []
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.Constant:
        return ast.Constant("")


def drawn(module: str, source: str, count: int, seed: int) -> list[tuple[Mutant, str]]:
    """Draw mutants of a module, with their code: all places once before any is taken twice, and each meaning once."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.operators.provider import OperatorProvider

    provider, nodes, draw = OperatorProvider(), list(ast_nodes(get_ast(source))), random.Random(f"{seed} {module}")
    by_place = defaultdict(list)
    for name in sorted(filter(is_fair, provider)):
        places = [begin for node in nodes for begin, _ in provider[name]().mutation_positions(node)]
        for occurrence, begin in enumerate(places):
            by_place[begin].append((draw.random(), name, occurrence, begin[0]))
    ranked = sorted((rank, *one) for changes in by_place.values() for rank, one in enumerate(sorted(changes)))
    seen, found = {meaning(source)}, []
    for _, _, name, occurrence, line in ranked:
        code = mutate_code(source, provider[name](), occurrence)
        means = meaning(code)
        if means and means not in seen:
            seen.add(means)
            lines = [line for line in difflib.ndiff(source.splitlines(), code.splitlines()) if line[:2] in ("- ", "+ ")]
            before, after = (" ".join(line[2:].strip() for line in lines if line[0] == sign) for sign in "-+")
            found.append((Mutant(module, name, occurrence, line, before, after), code))
        if len(found) == count:
            break
    return found


def meaning(code: str) -> str:
    """Return what runs of a module; nothing where it is no Python: ``**`` of a dictionary is no power."""
    try:
        return ast.dump(Meaning().visit(ast.parse(code)))
    except SyntaxError:
        return ""


def run_tests(tree: Path, tests: list[str], environment: dict[str, str], seconds: int) -> None:
    """Run tests in this process, on a copy of the tree, quietly, and leave with their exit code."""
    import numba
    import pytest

    gc.freeze()  # pytest collects garbage several times, and there is none in the libraries
    os.setsid()
    os.chdir(tree)
    os.environ |= environment | {"PYTHONPATH": str(tree / "src"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    numba.config.reload_config()
    sys.path.insert(0, str(tree / "src"))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30, GIGABYTES << 30))
    output = os.open(tree.parent / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = pytest.main([*OPTIONS, *tests])
    (tree.parent / "seconds").write_text(str(time.process_time()))
    sys.exit(code)


def outcome(tree: Path, module: str, seconds: int) -> tuple[str, float]:
    """Run a module's tests on the tree as it is; return survived, killed or timeout, and the seconds that it took."""
    for compiled in (tree / "src" / "kleiber" / module).parent.glob(f"__pycache__/{Path(module).name}.*.pyc"):
        compiled.unlink()  # two mutants of one second and size would share it
    began = time.monotonic()
    process = get_context("forkserver").Process(target=run_tests, args=(tree, *TESTS[module], seconds))
    process.start()
    process.join(20 * seconds)  # for what sleeps: a busy machine is no reason to call a mutant noticed
    is_late = process.exitcode is None
    if is_late:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    late = is_late or process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
    return "timeout" if late else "killed" if process.exitcode else "survived", time.monotonic() - began


def wilson(killed: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    z = 1.959964
    middle, spread = killed + z * z / 2, z * math.sqrt(killed * (n - killed) / n + z * z / 4)
    return (middle - spread) / (n + z * z), (middle + spread) / (n + z * z)


def main() -> None:
    """Draw, run and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=list(TESTS), metavar="MODULE", help=", ".join(TESTS))
    parser.add_argument("--count", type=int, default=60, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write what became of each mutant")
    parser.add_argument("--again", type=Path, help="run only the survivors of such a file, drawn alike")
    asked = parser.parse_args()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    get_context("forkserver").set_forkserver_preload(["__main__", *LIBRARIES])
    earlier = json.loads(asked.again.read_text()) if asked.again else []
    survivors = [one["mutant"] for one in earlier if one["outcome"] == "survived"]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "out", "dist", "_build"))
        if (ROOT.parent / "shared").is_dir():
            (tree.parent / "shared").symlink_to(ROOT.parent / "shared")
        for module in asked.modules:
            path = tree / "src" / "kleiber" / f"{module}.py"
            source = path.read_text()
            chosen = drawn(module, source, asked.count, asked.seed)
            chosen = [one for one in chosen if not asked.again or asdict(one[0]) in survivors]
            outcome(tree, module, 600)  # fills caches
            state, _ = outcome(tree, module, 600)
            if state != "survived":
                sys.exit(f"{module}: its tests fail without a mutant.\n{(tree.parent / 'output').read_text()[-3000:]}")
            seconds = float((tree.parent / "seconds").read_text())
            print(f"{module}: {len(chosen)} mutants, {seconds:.1f} s without one", flush=True)
            for mutant, code in chosen:
                path.write_text(code)
                state, took = outcome(tree, module, math.ceil(10 + 3 * seconds))
                results.append({"mutant": asdict(mutant), "outcome": state, "seconds": round(took, 1)})
                print(f"  {state:8} {took:5.1f} s  {mutant.line}: {mutant.before}  →  {mutant.after}", flush=True)
            path.write_text(source)
            states = Counter(one["outcome"] for one in results if one["mutant"]["module"] == module)
            killed, n = len(chosen) - states["survived"], len(chosen)
            if n:
                low, high = wilson(killed, n)
                words = f"{killed} of {n} killed ({states['timeout']} by time)"
                print(f"{module}: {words}, {killed / n:.0%}, 95 % {low:.0%} to {high:.0%}", flush=True)
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
