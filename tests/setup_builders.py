"""Builders for the set-up: a folder and a data folder, a sealer in memory, and a disk whose power fails."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mmpi.errors import DeviceError
from mmpi.setup import generations
from mmpi.setup.procedure import Ended, Tools, set_up
from mmpi.venues.hyperliquid.signing import Signer

ACCOUNT = "0x" + "ab" * 20
QUOTER = "5ec3e7" * 10 + "5ec3"
GUARDIAN = "7a11ed" * 10 + "7a11"
PASSPHRASE = "correct horse battery"
SECRETS = f'# keys\nACCOUNT={ACCOUNT}\nexport QUOTER_KEY="{QUOTER}"\nGUARDIAN_KEY = 0x{GUARDIAN}  # the other\n'
WIFI = f'ssid = "Net"\npassphrase = "{PASSPHRASE}"\ncountry = "DE"\n'
PAPER = '[venue]\nmode = "paper"\n'
PRACTICE = '[venue]\nmode = "practice"\n'
LIVE = '[venue]\nmode = "live"\n'
OWN_ADDRESS = Signer(bytes.fromhex(QUOTER), mainnet=False).address
NOW = 1_796_000_000.0
VERSION = "9.8.7"
PLAIN = {
    "mmpi.account": f"{ACCOUNT}\n",
    "mmpi.quoter.key": f"0x{QUOTER}\n",
    "mmpi.guardian.key": f"0x{GUARDIAN}\n",
}
"""What is stored of SECRETS."""


class Sealer:
    """Seals in memory: other bytes each time, and never the secret's own."""

    def __init__(self) -> None:
        self.count = 0
        self.broken = ""

    def seal(self, name: str, secret: bytes) -> bytes:
        """Return what only `unseal` undoes."""
        if self.broken:
            raise DeviceError(f"{name}: {self.broken}")
        self.count += 1
        return b"%d %s " % (self.count, name.encode()) + bytes(byte ^ 0xFF for byte in secret)

    def unseal(self, name: str, sealed: bytes) -> bytes:
        """Return the secret; DeviceError for another name or other bytes."""
        number, _, rest = sealed.partition(b" ")
        own, _, secret = rest.partition(b" ")
        if not number.isdigit() or own != name.encode():
            raise DeviceError(f"{name}: not sealed here")
        return bytes(byte ^ 0xFF for byte in secret)


class Box:
    """A card's folder and a data folder, and runs of the set-up on them."""

    def __init__(self, root: Path, **files: str | bytes) -> None:
        self.folder, self.data = root / "card" / "mmpi-setup", root / "data"
        self.folder.mkdir(parents=True)
        self.data.mkdir()
        self.sealer = Sealer()
        self.wrong: list[str] = []
        """What the check of a configuration is to say."""
        self.checked = 0
        self.held = False
        self.fills = 0
        self.now = NOW
        self.version = VERSION
        self.put(**files)

    def put(self, **files: str | bytes) -> None:
        """Put files into the folder; a name's "__" is a dot, and "_" stays."""
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (self.folder / name.replace("__", ".")).write_bytes(data)

    def run(self, **changed: Any) -> Ended:
        """Return how a set-up ended."""

        def check(_: bytes) -> list[str]:
            self.checked += 1
            return self.wrong

        def fill(folder: Path) -> None:
            assert folder == self.folder
            self.fills += 1

        tools = {
            "sealer": self.sealer, "check": check, "held": lambda _: self.held, "remount": None, "fill": fill,
            "now": lambda: self.now, "version": self.version,
        }  # fmt: skip
        return set_up(self.folder, self.data, Tools(**(tools | changed)))

    def errors(self) -> list[str]:
        """Return what a run found wrong."""
        outcome = self.run().outcome
        assert outcome.ok is (not outcome.errors)
        return list(outcome.errors)

    def result(self) -> str:
        """Return RESULT.txt."""
        return (self.folder / "RESULT.txt").read_bytes().decode()

    def names(self) -> list[str]:
        """Return what is in the folder."""
        return sorted(os.listdir(self.folder))

    def settings(self) -> dict[str, str]:
        """Return the generation in force, its secrets opened."""
        return opened(self.data, self.sealer)

    def latch(self) -> bool:
        """Return whether there is a latch file."""
        return (self.data / "mmpi" / "latch.json").exists()


def opened(data: Path, sealer: Sealer) -> dict[str, str]:
    """Return the generation in force by its files' names, its secrets opened."""
    found = {}
    for path, content in generations.read(data).items():
        name = path.rpartition("/")[2]
        sealed = path.startswith("credstore/")
        found[name] = (sealer.unseal(name.removeprefix("mmpi."), content) if sealed else content).decode()
    return found


class Cut(BaseException):
    """The power is gone."""


class Power:
    """Counts what is done to the disk, fails at one of these, and takes back what no fsync had confirmed."""

    def __init__(self, fails_at: int = 0, *, forgets: bool = False) -> None:
        self.done = 0
        self.fails_at, self.forgets = fails_at, forgets
        self.undo: list[tuple[object, Callable[[], object]]] = []
        """(what an fsync must be of, how to take it back), the oldest first."""
        self.kept: list[int] = []
        """Files that are held open for that, until the run is over."""

    def step(self) -> None:
        """Take one step, or fail for ever."""
        self.done += 1
        if self.fails_at and self.done >= self.fails_at:
            raise Cut

    def synced(self, what: object) -> None:
        """Confirm."""
        self.undo = [each for each in self.undo if each[0] != what]

    def forget(self) -> None:
        """Lose what was not confirmed."""
        while self.undo:
            # A folder that is gone for good took with it what was not confirmed in it.
            with suppress(FileNotFoundError):
                self.undo.pop()[1]()


def _inode(path: "str | Path | int") -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _restorer(path: Path) -> Callable[[], object]:
    """Return what makes a name again as it is now: nothing, a file or a link."""
    if path.is_symlink():
        target = os.readlink(path)
        return lambda: (path.unlink(missing_ok=True), path.symlink_to(target))
    if path.is_file():
        content, mode = path.read_bytes(), path.stat().st_mode & 0o7777
        return lambda: (path.unlink(missing_ok=True), path.write_bytes(content), path.chmod(mode))
    return lambda: path.unlink(missing_ok=True)


@contextmanager
def powered(power: Power) -> Iterator[Power]:
    """Let everything that is done to files go by way of a power."""
    with pytest.MonkeyPatch.context() as patch:
        _patch(patch, power)
        yield power


def failed(power: Power, run: Callable[[], object]) -> bool:
    """Return whether the power failed in a run; what a real disk would not have kept is gone then."""
    try:
        with powered(power):
            try:
                run()
                return False
            except Cut:
                pass
        if power.forgets:
            power.forget()
        return True
    finally:
        while power.kept:
            os.close(power.kept.pop())


def _patch(patch: pytest.MonkeyPatch, power: Power) -> None:
    real = {
        name: getattr(os, name)
        for name in ("open", "write", "pwrite", "ftruncate", "fsync", "replace", "unlink", "mkdir", "rmdir", "symlink")
    }

    def at(path: Any, dir_fd: int | None) -> Path:
        base = Path(os.readlink(f"/proc/self/fd/{dir_fd}")) if dir_fd is not None else Path()
        return base / os.fspath(path)

    def content(file: int) -> None:
        what = ("content", _inode(file))
        if any(each[0] == what for each in power.undo):
            return
        before = os.pread(again := os.open(f"/proc/self/fd/{file}", os.O_RDWR), 1 << 20, 0)
        os.close(again)
        keep = os.dup(file)
        power.kept.append(keep)

        def restore() -> None:
            real["ftruncate"](keep, 0)
            real["pwrite"](keep, before, 0)

        power.undo.append((what, restore))

    def opened_(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & os.O_CREAT and not os.path.lexists(path):
            power.step()
            place = Path(path)
            power.undo.append((("names", _inode(place.parent)), lambda: place.unlink(missing_ok=True)))
        return int(real["open"](path, flags, *rest, **more))

    def changing(name: str) -> Callable[..., Any]:
        def change(file: int, *rest: Any) -> Any:
            power.step()
            content(file)
            return real[name](file, *rest)

        return change

    def fsync(file: int) -> None:
        power.step()
        kind = "names" if Path(f"/proc/self/fd/{file}").is_dir() else "content"
        power.synced((kind, _inode(file)))

    def naming(name: str) -> Callable[..., Any]:
        def change(path: Any, *rest: Any, dir_fd: int | None = None, **more: Any) -> Any:
            power.step()
            places = [at(path, dir_fd)] if name != "symlink" else [Path(rest[0])]
            places += [Path(rest[0])] if name == "replace" else []
            what = ("names", _inode(places[-1].parent))
            undo = _undo(name, places, real)
            done = real[name](path, *rest, **({"dir_fd": dir_fd} if dir_fd is not None else {}), **more)
            power.undo.append((what, undo))
            return done

        return change

    for name in ("write", "pwrite", "ftruncate"):
        patch.setattr(os, name, changing(name))
    for name in ("replace", "unlink", "mkdir", "rmdir", "symlink"):
        patch.setattr(os, name, naming(name))
    patch.setattr(os, "open", opened_)
    patch.setattr(os, "fsync", fsync)
    patch.setattr(os, "sync", power.undo.clear)


def _undo(name: str, places: list[Path], real: dict[str, Any]) -> Callable[[], object]:
    """Return what takes back a change of names that is about to be made."""
    if name == "mkdir":
        # With what is in it, synced or not: nothing leads there any more.
        return lambda: shutil.rmtree(places[0])
    if name == "rmdir":
        mode = places[0].stat().st_mode & 0o7777
        return lambda: (real["mkdir"](places[0]), places[0].chmod(mode))
    if name == "symlink":
        return lambda: real["unlink"](places[0])
    restore = [_restorer(place) for place in reversed(places)]
    return lambda: [each() for each in restore]
