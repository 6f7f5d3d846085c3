"""Home Assistant itself, for tests: an environment of its own, made at first use, and questions to a program in it.

The program is tests/homeassistant_judge.py. Version and requirements are those of the last release that takes the
CPython 3.13 which this project's machines have; what the release wants of other packages is in its own constraints.
"""

import fcntl
import glob
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest

from hil.trixie import cache

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / ".venv-homeassistant"
RELEASE: Final = "homeassistant==2025.4.4"
MORE: Final = ("paho-mqtt", "PyTurboJPEG", "hassil", "home-assistant-intents")
"""What the mqtt component asks for, and what importing the parts around it takes."""
INSTALL_S: Final = 1200.0


def ensure_homeassistant() -> Path:
    """Return the environment's interpreter, made now if need be; skips with the reason where it cannot be had."""
    python, stamp = FOLDER / "bin" / "python", FOLDER / "mmpi-stamp"
    wanted = " ".join((RELEASE, *MORE))
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "homeassistant.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (stamp.is_file() and stamp.read_text("utf-8") == wanted):
            _make(python)
            stamp.write_text(wanted, "utf-8")
    return python


def _make(python: Path) -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    _run(_interpreter(), "-m", "venv", str(FOLDER))
    pip = (str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input")
    _run(*pip, "--no-deps", RELEASE)
    (constraints,) = FOLDER.glob("lib/python*/site-packages/homeassistant/package_constraints.txt")
    _run(*pip, "-c", str(constraints), RELEASE, *MORE)


def _interpreter() -> str:
    """Return a CPython 3.13 that really runs; skips if there is none."""
    roots = [os.environ.get("PYENV_ROOT", ""), str(Path.home() / ".pyenv")]
    pyenv = [each for root in roots if root for each in sorted(glob.glob(f"{root}/versions/3.13*/bin/python3.13"))]
    for candidate in (sys.executable, "python3.13", *pyenv):
        code = "import sys; sys.exit(sys.version_info[:2] != (3, 13))"
        if shutil.which(candidate) and not subprocess.run([candidate, "-c", code], capture_output=True).returncode:
            return candidate
    pytest.skip(f"no CPython 3.13, which {RELEASE} needs, on PATH or under pyenv")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"{RELEASE} cannot be installed: {last}")


class Judge:
    """The program in that environment; it answers one line of JSON for each."""

    def __init__(self, folder: Path, *words: str) -> None:
        """`folder` is its configuration folder, and gets its log."""
        self._python, self._words = ensure_homeassistant(), words
        self._log = folder / "judge.log"
        self._folder = folder

    def __enter__(self) -> Self:
        command = [str(self._python), str(ROOT / "tests" / "homeassistant_judge.py"), str(self._folder), *self._words]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=self._folder
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def ask(self, what: str, **more: Any) -> Any:
        """Return its answer; RuntimeError with its log if there is none."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, **more}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the judge ended: {self.log[-4000:]}")
        return json.loads(line)

    @property
    def log(self) -> str:
        """Return what Home Assistant logged: warnings and worse."""
        return self._log.read_text("utf-8", "replace")

    @property
    def complaints(self) -> list[str]:
        """Return what its components and templates complained of, and every error."""
        about = ("WARNING homeassistant.components.", "WARNING homeassistant.helpers.template", "ERROR ")
        return [line for line in self.log.splitlines() if line.startswith(about)]
