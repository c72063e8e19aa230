"""Break a module in many small ways, and see which its own tests notice: a mutation run by the operators of cosmic-ray.

    python scripts/mutants.py --count 60 --seed 1 --json out/mutants.json
    python scripts/mutants.py scaling/runs --again out/mutants.json

A seed draws the mutants of each module, places first: a second change of one place is drawn when no place is left. A
mutant counts when it changes what runs: annotations, decorators, and the words of f-strings do not. pytest collects a
module's tests once; each mutant takes the module's place in a fork of that process, and no file is touched.
Rejected: the tools' own runners, of which none draws by a seed (mutmut leaves out decorated functions, which all
kernels are), and a bare `pytest` a mutant, which imports for twenty times as long as it tests.
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
import signal
import sys
import tempfile
from collections import Counter, defaultdict
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
TABLES = "tests/scaling/test_tables.py"
PROPERTIES = ("any_text_is_a_table_or_refused", "damaged_files_are_refused_in_words", "one_table_in_many_dialects")
WHOLE_TABLES = [TABLES, *(f"--deselect={TABLES}::test_{name}" for name in PROPERTIES)]  # they take longer than the rest
TESTS = {
    "scaling/runs": ["tests/scaling/test_runs.py", *WHOLE_TABLES],
    "scaling/observations": ["tests/scaling/test_observations.py", *WHOLE_TABLES],
    "scaling/numbers": ["tests/scaling/test_numbers.py", *WHOLE_TABLES],
    "scaling/witnesses": ["tests/scaling/test_witness_rules.py"],
    "scaling/solver": ["tests/scaling/test_solver.py"],
    "corpus/draws": ["tests/corpus/test_draws.py"],
    "genome/edits": ["tests/genome/test_edits.py"],
    "train/schedule": ["tests/train/test_schedule.py"],
}
"""The own tests of each module, cheapest first."""

KERNELS = ("scaling/solver", "corpus/draws", "genome/edits")  # interpreted: compiling each mutant would take longer
OPTIONS = ["-xqs", "-pno:cacheprovider", "-mnot slow"]
OPTIONS += ["-Wignore:overflow encountered in scalar:RuntimeWarning"]  # uint64 goes round, as compiled code has it
GIGABYTES = 16  # of addresses that a mutant may use
KINDS = [{"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"}, {"BitOr", "BitAnd", "BitXor"}, {"RShift", "LShift"}]
KINDS += [{"Is", "IsNot"}, {"Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"}]


def is_fair(operator: str) -> bool:
    """Say whether an operator changes a meaning, and not a type: ``|`` of floats is an error that anything notices."""
    kind, *names = operator.split("_")
    if kind in ("ReplaceBinaryOperator", "ReplaceComparisonOperator"):
        return any(names[0] in group and names[1] in group for group in KINDS)
    return kind not in ("RemoveDecorator", "VariableReplacer", "VariableInserter")


def meaning(code: str) -> str:
    """Return what runs of a module but words of messages; nothing where it is no Python: ``**`` may be no power."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        for name, nothing in (("annotation", None), ("returns", None), ("decorator_list", [])):
            if hasattr(node, name):
                setattr(node, name, nothing)
        if isinstance(node, ast.JoinedStr):
            node.values = []
    return ast.dump(tree)


def drawn(module: str, source: str, count: int, seed: int) -> list[dict]:
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
    seen, found = {"", meaning(source)}, []
    for _, _, name, occurrence, line in ranked:
        if len(found) == count:
            break
        code = mutate_code(source, provider[name](), occurrence)
        if (means := meaning(code)) in seen:
            continue
        seen.add(means)
        lines = [one for one in difflib.ndiff(source.splitlines(), code.splitlines()) if one[:2] in ("- ", "+ ")]
        before, after = (" ".join(one[2:].strip() for one in lines if one[0] == sign) for sign in "-+")
        found.append({"module": module, "operator": name, "occurrence": occurrence, "line": line})
        found[-1] |= {"before": before, "after": after, "code": code}
    return found


class Forks:
    """A plugin of pytest: once the tests are collected, run them in a fork a mutant, and in this process never."""

    def __init__(self, module: str, mutants: list[dict]):
        self.name, self.mutants, self.process = f"kleiber.{module.replace('/', '.')}", mutants, os.getpid()

    def pytest_runtestloop(self) -> bool | None:
        """Run the tests on the module as it is and on each mutant, a line each; None lets pytest run them in a fork."""
        if (whole := self.fork(Path(sys.modules[self.name].__file__ or "").read_text(), 600)) is None:
            return None
        if whole[0] != "survived":
            raise SystemExit(f"{self.name}: its tests fail without a mutant.")
        print(f"{self.name}: {len(self.mutants)} mutants, {whole[1]:.2f} s without one", flush=True)
        for one in self.mutants:
            if (ended := self.fork(one.pop("code"), math.ceil(2 + 5 * whole[1]))) is None:
                return None
            one["outcome"], one["seconds"] = ended
            print(f"  {ended[0]:8} {ended[1]:5.2f} s  {one['line']}: {one['before']}  →  {one['after']}", flush=True)
        return True

    def fork(self, code: str, seconds: int) -> tuple[str, float] | None:
        """Return survived, killed or timeout with the processor's seconds; in the fork, which has the code, None."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        if (child := os.fork()) == 0:
            gc.freeze()  # there is no garbage in the libraries
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
            resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30, GIGABYTES << 30))
            signal.alarm(60 * seconds)  # for what sleeps: a busy machine is no reason to call a mutant noticed
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            try:
                take_place(sys.modules[self.name], code)
            except Exception:  # it cannot even be imported
                os._exit(1)
            return None
        _, status = os.waitpid(child, 0)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        is_late = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL)
        return "timeout" if is_late else "killed" if status else "survived", round(took, 2)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Leave a fork at once, with what its tests say."""
        if os.getpid() != self.process:
            os._exit(int(exitstatus))


def take_place(module: ModuleType, code: str) -> None:
    """Run code in a loaded module, and give what it defines to all that have imported it by name."""
    before = dict(vars(module))
    exec(compile(code, module.__file__ or "", "exec"), vars(module))
    for other in list(sys.modules.values()):
        if (getattr(other, "__file__", None) or "").startswith(str(ROOT)) and other is not module:
            for name, value in list(vars(other).items()):
                if name in before and before[name] is value:
                    setattr(other, name, vars(module)[name])


def run_module(module: str, mutants: list[dict]) -> list[dict]:
    """Run a module's tests on mutants, in a process that has loaded nothing yet; return them with their outcomes."""
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    os.environ |= {"NUMBA_DISABLE_JIT": str(int(module in KERNELS)), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    import pytest
    from scipy.stats import binomtest

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        tests = [str(ROOT / test) for test in TESTS[module] if not test.startswith("--")]
        options = [test for test in TESTS[module] if test.startswith("--")]
        where = [f"--rootdir={ROOT}", f"--config-file={ROOT / 'pyproject.toml'}", f"--basetemp={folder}/tests"]
        code = pytest.main([*OPTIONS, *where, *options, *tests], [Forks(module, mutants)])
    if code:
        sys.exit(f"{module}: pytest ends with {code}.")
    counts = Counter(one["outcome"] for one in mutants)
    if n := len(mutants):
        killed = n - counts["survived"]
        low, high = binomtest(killed, n).proportion_ci(method="wilson")
        share = f"{killed} of {n} killed ({counts['timeout']} by time): {killed / n:.0%}, 95 % {low:.0%} to {high:.0%}"
        print(f"{module}: {share}", flush=True)
    return mutants


def main() -> None:
    """Draw, run and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=list(TESTS), metavar="MODULE", help=", ".join(TESTS))
    parser.add_argument("--count", type=int, default=60, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write what became of each mutant")
    parser.add_argument("--again", type=Path, help="run only the survivors of such a file, drawn alike")
    asked = parser.parse_args()
    earlier = json.loads(asked.again.read_text()) if asked.again else []
    survivors = {(one["module"], one["before"], one["after"]) for one in earlier if one["outcome"] == "survived"}
    results = []
    for module in asked.modules:
        source = (ROOT / "src" / "kleiber" / f"{module}.py").read_text()
        mutants = drawn(module, source, asked.count, asked.seed)
        if asked.again:
            mutants = [one for one in mutants if (module, one["before"], one["after"]) in survivors]
        with get_context("spawn").Pool(1) as pool:
            results += pool.apply(run_module, (module, mutants))
        if asked.json:
            asked.json.parent.mkdir(parents=True, exist_ok=True)
            asked.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
