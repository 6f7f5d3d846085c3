"""The rules of the whole: who may import whom, who may build an Approved, what stays out of the daemons."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mmpi"
CONTRACTS: dict[str, dict[str, Any]] = {
    contract["id"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}
IO_ON_A_PURE_LAYER = {"device"}


def modules(folder: Path = PACKAGE) -> list[Path]:
    """Return the Python files of the package, or of one folder in it."""
    return sorted(folder.rglob("*.py"))


def named(names: list[str]) -> list[Path]:
    """Return the files of dotted module or package names."""
    places = [ROOT.joinpath(*name.split(".")) for name in names]
    return [path for place in places for path in (modules(place) if place.is_dir() else [place.with_suffix(".py")])]


def nodes(path: Path) -> Iterator[ast.AST]:
    """Return every node of a file's syntax tree."""
    return ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path)))


def imported(path: Path) -> set[str]:
    """Return the top-level packages that a file imports anywhere in it, functions and TYPE_CHECKING included."""
    names: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def last_name(node: ast.expr) -> str:
    """Return `c` for the expressions `c` and `a.b.c`, else ""."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def relative(paths: list[Path]) -> list[str]:
    """Return paths as they read from the project root."""
    return [path.relative_to(ROOT).as_posix() for path in paths]


def loaded_by(module: str) -> set[str]:
    """Return the names of all modules in memory once a fresh interpreter has imported `module`."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_imports_keep_their_contracts() -> None:
    """Imports run down the layers only, every module has a layer, and pure modules stay pure."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_on_a_pure_layer_is_bound_by_the_pure_contract() -> None:
    """A module on the simulator's layer or below it cannot be left out of the list of pure modules."""
    layers = [{name.strip(" ()") for name in line.split("|")} for line in CONTRACTS["layers"]["layers"]]
    top = next(rank for rank, line in enumerate(layers) if "sim" in line)
    on_pure_layers = set[str]().union(*layers[top:]) - IO_ON_A_PURE_LAYER
    there = {name for name in on_pure_layers if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()}
    assert {f"mmpi.{name}" for name in there} == set(CONTRACTS["pure"]["source_modules"])


def test_only_the_risk_gate_builds_an_approved_action() -> None:
    """I1: `Approved(...)` is called in risk.py and nowhere else in the package."""
    builders = {
        path
        for path in modules()
        for node in nodes(path)
        if isinstance(node, ast.Call) and last_name(node.func) == "Approved"
    }
    assert builders == {PACKAGE / "risk.py"}


def test_only_the_configuration_imports_pydantic() -> None:
    """pydantic is paid for by `mmpi check` alone: one package imports it."""
    paths = relative([path for path in modules() if "pydantic" in imported(path)])
    assert paths
    assert [path for path in paths if not path.startswith("mmpi/config/")] == []


def test_pure_modules_are_fully_typed() -> None:
    """No pure module uses `Any`, so mypyc knows every type."""
    loose = [
        path
        for path in named(CONTRACTS["pure"]["source_modules"])
        if any(
            (isinstance(node, ast.Name | ast.Attribute) and last_name(node) == "Any")
            or (isinstance(node, ast.alias) and node.name == "Any")
            for node in nodes(path)
        )
    ]
    assert relative(loose) == []


@pytest.mark.parametrize("path", [path for path in modules(PACKAGE / "quoting") if path.name != "__init__.py"])
def test_every_quoter_is_registered(path: Path) -> None:
    """Each file under quoting/ defines a class that QUOTERS names, so no strategy is left unreachable."""
    registered = {quoter.__module__ for quoter in import_module("mmpi.quoting").QUOTERS.values()}
    assert f"mmpi.quoting.{path.stem}" in registered


def test_the_guardian_carries_no_strategy() -> None:
    """The process that stops everything loads no engine, quoter, signal, HTTP server or pydantic."""
    loaded = loaded_by("mmpi.guardian")
    forbidden = {"aiohttp", "pydantic", "mmpi.engine", "mmpi.quoting", "mmpi.signals"}
    assert loaded & forbidden == set()
