"""Limits that no linter has: sizes, docstrings, clean lock files, nothing of one machine in the tree."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "mmpi").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))

MODULE_LINES = 400
FUNCTION_LINES = 50
PUBLIC_METHODS = 12

REGISTRY_HOST = re.compile(
    r"\b(pypi|pythonhosted|piwheels|npmjs|(deb|security|snapshot|archive)\.debian|crates|golang)\.(org|com|io)\b", re.I
)
MACHINE_PATH = re.compile(r"(?<![\w.$~>})\]-])/(root|work|farm|tmp/scratch)/\w")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def ids(paths: list[Path]) -> list[str]:
    """Return paths as they read from the project root."""
    return [path.relative_to(ROOT).as_posix() for path in paths]


def tree(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def functions(node: ast.AST) -> list[Function]:
    """Return every function below a node, methods and nested ones included."""
    return [child for child in ast.walk(node) if isinstance(child, Function)]


def public(body: list[ast.stmt]) -> list[ast.ClassDef | Function]:
    """Return the public classes and functions of a body, and those of its public classes."""
    found: list[ast.ClassDef | Function] = []
    for node in body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            found += [node, *(public(node.body) if isinstance(node, ast.ClassDef) else [])]
    return found


def tracked() -> list[Path]:
    """Return the files that git tracks or would add."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout: the tracked files cannot be listed")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def matches(pattern: re.Pattern[str]) -> list[str]:
    """Return file:line: text of every line of a tracked file that a pattern matches."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_sizes_stay_within_limits(path: Path) -> None:
    """Modules, functions and classes stay small enough to be read in one sitting."""
    module = tree(path)
    too_big = [
        f"{node.name}: {size} lines"
        for node in functions(module)
        if (size := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    ]
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef):
            methods = [child for child in public(node.body) if isinstance(child, Function)]
            if len(methods) > PUBLIC_METHODS:
                too_big.append(f"{node.name}: {len(methods)} public methods")
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MODULE_LINES
    assert too_big == []


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_public_things_have_docstrings(path: Path) -> None:
    """Every module, and every public class, function and method in it, says what it is for."""
    module = tree(path)
    silent = [node.name for node in public(module.body) if not ast.get_docstring(node)]
    assert ast.get_docstring(module)
    assert silent == []


@pytest.mark.parametrize("path", TESTS, ids=ids(TESTS))
def test_tests_state_their_claim(path: Path) -> None:
    """Every test says in its docstring what it claims."""
    tests = [node for node in functions(tree(path)) if node.name.startswith("test_")]
    assert [node.name for node in tests if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", LOCKS, ids=ids(LOCKS))
def test_locks_are_complete_and_name_no_place(path: Path) -> None:
    """Every requirement of a lock file is pinned and has a hash, and nothing in it says where to fetch from."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    loose = [line for line in lines if not re.match(r"[a-z0-9._-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)]
    assert lines
    assert loose == []
    assert re.findall(r"://|--(?:index|extra-index|find-links|trusted)\S*| @ |\s/\S+", text) == []


def test_no_registry_host_in_the_tree() -> None:
    """Packages are named, never the host that serves them: people and machines bring their own mirror."""
    assert matches(REGISTRY_HOST) == []


def test_no_path_of_one_machine_in_the_tree() -> None:
    """No file names a folder that exists on its author's machine only."""
    assert matches(MACHINE_PATH) == []
