"""The rules of the house, as tests: imports without circles, short files, no copies, light starts, examples."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "kleiber"
MODULES = sorted(SOURCE.rglob("*.py"))
NEEDS_TORCH = {
    f"kleiber.model.{name}"
    for name in ("attention", "dnabert2", "hub", "networks", "pretrained", "shortconv", "weights")
} | {"kleiber.downstream.likelihood"}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT)


def test_imports_go_one_way_and_never_in_circles():
    result = subprocess.run([Path(sys.executable).parent / "lint-imports"], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_file_is_read_in_a_sitting(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 460
    assert not lines or path.read_text().startswith('"""'), "a module says what it is for"


def test_nothing_is_written_twice():
    """No six lines in a row stand twice; blank lines and indentation do not count, nor do imports, which have to."""
    seen: dict[tuple[str, ...], str] = {}
    twice = []
    for path in MODULES:
        lines = own_lines(path)
        for k in range(len(lines) - 5):
            where = f"{module_name(path)}:{lines[k][0]}"
            first = seen.setdefault(tuple(line for _, line in lines[k : k + 6]), where)
            if first != where:
                twice.append(f"{where} is {first}: {lines[k][1]}")
    assert not twice, "\n".join(twice)


def own_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a file that are no imports, with their numbers."""
    text = path.read_text()
    imports = {
        number
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = enumerate(map(str.strip, text.splitlines()), 1)
    return [(number, line) for number, line in lines if line and number not in imports]


@pytest.mark.parametrize("room", ["scaling", "tokens", "corpus"])
def test_only_compiled_functions_have_no_types(room):
    """What mypy's strict asks beside what `pyproject.toml` does; numba finds the types of kernels itself."""
    for path in (SOURCE / room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.returns is None and node.name != "__init__":
                compiled = [ast.unparse(d) for d in node.decorator_list if ast.unparse(d).startswith("njit")]
                assert compiled, f"{path}:{node.lineno}: {node.name} returns nobody knows what"


def test_everything_but_training_imports_without_torch():
    names = [module_name(p) for p in MODULES if p.name != "__main__.py"]
    light = [
        n
        for n in names
        if n not in NEEDS_TORCH and not (n.startswith("kleiber.train.") and n != "kleiber.train.config")
    ]
    code = (
        "import sys, importlib\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'transformers', 'sklearn'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    code += "\n".join(f"importlib.import_module({name!r})" for name in light)
    result = run(code)
    assert result.returncode == 0, result.stderr


def test_help_loads_nothing_heavy():
    heavy = {"numpy", "polars", "numba", "torch", "scipy", "altair", "pysam", "transformers"}
    result = run(
        "import sys\nsys.argv = ['kleiber', '--help']\nfrom kleiber.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"loaded = {heavy!r} & set(sys.modules)\nassert not loaded, loaded"
    )
    assert result.returncode == 0, result.stderr


def verbs() -> list[list[str]]:
    from kleiber.cli import app

    def walk(node, prefix):
        for name in node:
            if name.startswith("-"):
                continue
            child = node[name]
            below = walk(child, [*prefix, name])
            yield from below if (below := list(below)) else [[*prefix, name]]

    return list(walk(app, []))


def test_shells_complete_every_verb():
    from kleiber.cli import app

    for shell in ("bash", "zsh", "fish"):
        script = app.generate_completion(shell=shell)
        assert all(verb[-1] in script for verb in verbs())


def test_every_verb_has_help_with_an_example(capsys):
    from kleiber.cli import app

    found = verbs()
    assert len(found) >= 2
    for verb in found:
        with pytest.raises(SystemExit) as stop:
            app([*verb, "--help"])
        text = capsys.readouterr().out
        assert stop.value.code == 0
        assert "Example" in text, f"`kleiber {' '.join(verb)} --help` shows no example"
