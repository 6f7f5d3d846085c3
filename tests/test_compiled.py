"""The pure modules, compiled by mypyc: the same bytes out of the same market for every quoter, in less time."""

import ast
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mmpi.errors import ConfigError
from mmpi.quoting import QUOTERS as REGISTERED

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
COMPILED: list[str] = PROJECT["mmpi"]["compiled"]
INTERPRETED: dict[str, str] = PROJECT["mmpi"]["interpreted"]
PURE = next(each for each in PROJECT["importlinter"]["contracts"] if each["id"] == "pure")["source_modules"]
CONFIG = ROOT / "docs" / "examples" / "paper.toml"
SECONDS = "300"
"""Of the generated market, for each quoter: together a second or two of work, so that a ratio means something."""
QUOTERS = ("layered", "avellaneda_stoikov", "glft", "improve")
OPTIMISE = {"MYPYC_OPT_LEVEL": "1", "MYPYC_DEBUG_LEVEL": "0"}
"""All but as fast as 3, compiled in two thirds of the time."""
TIMEOUT = 900
"""Seconds; one core takes two minutes for all modules when nothing else runs."""


def has_code(path: Path) -> bool:
    """Return True if a module holds more than its docstring."""
    return len(ast.parse(path.read_text(encoding="utf-8")).body) > 1


def pure_files() -> set[str]:
    """Return the pure modules with code in them, from the project root."""
    places = [ROOT.joinpath(*name.split(".")) for name in PURE]
    files = [path for place in places for path in (place.with_suffix(".py"), *place.rglob("*.py")) if path.is_file()]
    return {file.relative_to(ROOT).as_posix() for file in files if has_code(file)}


def dotted(path: str) -> str:
    """Return the name by which a file's module is imported."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def ended(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return how Python ends, run with the package that lies in `folder`."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(folder), **environment},
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip


def run(folder: Path, *arguments: str, **environment: str) -> str:
    """Return what Python prints, run to a good end with the package that lies in `folder`."""
    done = ended(folder, *arguments, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needs_a_compiler() -> None:
    """Skip the test where nothing can be compiled, saying what is missing."""
    for package in ("mypyc", "setuptools"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"no C compiler: {compiler} is not on this machine")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        pytest.skip("no Python.h: this interpreter's headers are not installed")


def looked_at(folder: Path) -> dict[str, Any]:
    """Return where the compiled modules' names come from in `folder`, and the shapes of their structs."""
    found: dict[str, Any] = json.loads(run(folder, str(ROOT / "tests" / "struct_shapes.py"), *map(dotted, COMPILED)))
    return found


def backtest(folder: Path, quoter: str) -> float:
    """Return the seconds that a backtest takes with the package in `folder`; its journal is `folder`/QUOTER.mmj."""
    options = ["--json", "--config", str(CONFIG), "--seconds", SECONDS, "--quoter", quoter]
    out = run(folder, "-m", "mmpi", "backtest", *options, "--journal", f"{quoter}.mmj")
    return float(json.loads(out)["seconds"])


def test_every_quoter_is_compared() -> None:
    """A new strategy cannot be left out of the comparison by oversight."""
    assert set(QUOTERS) == {config.__struct_config__.tag for config in REGISTERED}


def test_every_pure_module_is_compiled_or_says_why_not() -> None:
    """A new pure module cannot be left out of the list of compiled ones by oversight."""
    assert len(COMPILED) == len(set(COMPILED))
    assert set(COMPILED) & INTERPRETED.keys() == set()
    assert set(COMPILED) | INTERPRETED.keys() == pure_files()
    assert all(INTERPRETED.values())


@pytest.mark.slow
def test_compiled_modules_do_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Structs keep options and types, a backtest writes the same bytes, which replay, and errors keep their code."""
    needs_a_compiler()
    compiled, interpreted = tmp_path / "compiled", tmp_path / "interpreted"
    for folder in (compiled, interpreted):
        shutil.copytree(ROOT / "mmpi", folder / "mmpi", ignore=shutil.ignore_patterns("__pycache__"))
    run(compiled, "-m", "mypyc", *COMPILED, **OPTIMISE)

    machine, source = looked_at(compiled), looked_at(interpreted)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    assert machine["files"].keys() == {dotted(path) for path in COMPILED}
    assert {name for name, file in machine["files"].items() if not file.endswith(suffix)} == set()
    assert {name for name, file in source["files"].items() if not file.endswith(".py")} == set()
    assert machine["shapes"] == source["shapes"]
    assert "mmpi.quoting.layered.LayeredConfig" in source["shapes"]

    fast = slow = 0.0
    for quoter in QUOTERS:
        fast, slow = fast + backtest(compiled, quoter), slow + backtest(interpreted, quoter)
        journal = (interpreted / f"{quoter}.mmj").read_bytes()
        assert len(journal) > 500_000
        assert (compiled / f"{quoter}.mmj").read_bytes() == journal, quoter
    refused = ended(compiled, "-m", "mmpi", "backtest", "--config", "none.toml")
    assert refused.returncode == ConfigError.exit_code, refused.stderr
    for quoter in QUOTERS:
        run(compiled, "-m", "mmpi", "replay", "--verify", str(interpreted / f"{quoter}.mmj"))
    run(interpreted, "-m", "mmpi", "replay", "--verify", str(compiled / "glft.mmj"))
    with capsys.disabled():
        print(f" compiled {slow / fast:.1f} times as fast ({fast:.2f} s, {slow:.2f} s) ", end="")
