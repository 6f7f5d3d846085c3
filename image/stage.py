"""Stage: one step of the build, run when something that it is made from has changed, and kept under a key of all that.

Invariant: what stands in the cache under a key was made completely, from exactly what the key says.
It must not know what a stage makes.
"""

import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

KEPT: Final = 2
"""Results of a stage that are kept: this one, and the one before."""


class Stage(NamedTuple):
    """Its name, what it makes, the stages before it, and `make(work)`, which writes into `work.folder`.

    `inputs()` returns everything else that its result depends on, by name: its own code, files, lock lines.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    inputs: Callable[[], Mapping[str, bytes]]
    make: "Callable[[Work], None]"


class Work(NamedTuple):
    """Where a stage writes, where the stages before it have written, and the folder of downloads."""

    folder: Path
    before: Mapping[str, Path]
    downloads: Path
    say: Callable[[str], None]


class Stages:
    """The stages of a build in their order, with their results below `cache`."""

    def __init__(self, stages: Sequence[Stage], cache: Path, downloads: Path, *, quiet: bool = False) -> None:
        """Every stage stands after those that it needs. `downloads` may be shared by several caches."""
        self.stages: Final = {stage.name: stage for stage in stages}
        self.seconds: Final[dict[str, float]] = {}
        """How long each stage of this run took; 0.0 = it was there already."""
        self._cache, self._downloads, self._quiet = cache, downloads, quiet
        self._keys: dict[str, str] = {}

    def key(self, name: str) -> str:
        """Return the key of what a stage would make now."""
        if name not in self._keys:
            stage, digest = self.stages[name], hashlib.sha256(name.encode())
            for need in stage.needs:
                digest.update(self.key(need).encode())
            for what, data in sorted(stage.inputs().items()):
                digest.update(f"\0{what}\0{len(data)}\0".encode() + data)
            self._keys[name] = digest.hexdigest()[:20]
        return self._keys[name]

    def folder(self, name: str) -> Path:
        """Return where the stage's result lies, or would."""
        return self._cache / f"{name}-{self.key(name)}"

    def run(self, name: str) -> Path:
        """Return the folder of a stage's result, made now with all that it needs if it is not there."""
        stage, folder = self.stages[name], self.folder(name)
        if folder.is_dir():
            self.seconds.setdefault(name, 0.0)
            folder.touch()
            return folder
        before = {need: self.run(need) for need in stage.needs}
        self._say(f"{name}: {stage.title} ...")
        began = time.monotonic()
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._cache, prefix=f".{name}-") as fresh:
            made = Path(fresh) / "made"
            made.mkdir()
            stage.make(Work(made, before, self._downloads, lambda text: self._say(f"{name}: {text}")))
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another build was quicker
                    raise
        self.seconds[name] = round(time.monotonic() - began, 1)
        self._say(f"{name}: done in {self.seconds[name]:.0f} s")
        self._forget(name)
        return folder

    def _forget(self, name: str) -> None:
        results = sorted(self._cache.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime)
        for old in results[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def _say(self, text: str) -> None:
        if not self._quiet:
            print(f"image: {text}", file=sys.stderr, flush=True)
