"""Words: RESULT.txt in the folder, and the result for the guardian in /run.

Invariant: neither holds a secret, as both are made of sentences that hold none; RESULT.txt is written only when it
would say something else. It must not know how a set-up is done.
"""

import os
import time
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from mmpi.device.durable import FRESH, sync_folder
from mmpi.setup import generations, secrets_file, wifi_file
from mmpi.setup.card import Card
from mmpi.setup.folder import FRESH_RESULT, MOST, NAMES, RESULT

TIME: Final = "Time by the box's clock: "
READABLE: Final = 0o644
READABLE_FOLDER: Final = 0o755
LIVE: Final = "live: hold the arm button at the box"
KEPT: Final = {
    generations.CONFIG: "configuration",
    **{generations.credential(name): key for key, name in secrets_file.CREDENTIALS.items()},
    generations.credential(wifi_file.CREDENTIAL): "Wi-Fi",
    generations.KEYS: "SSH keys",
    generations.HOSTNAME: "host name",
}
"""What a generation holds, in a person's words."""
NOT_CHANGED: Final = "NOT DONE: nothing was changed, and the box goes on with what it had before."


class Outcome(msgspec.Struct, frozen=True):
    """How a set-up ended."""

    ok: bool = True
    errors: tuple[str, ...] = ()
    applied: tuple[str, ...] = ()
    at: int = 0
    """Seconds since 1970, by the box's clock."""
    first: bool = False


def done(
    said: Mapping[str, str], mode: str, new: bool, stored: Container[str], examples: Sequence[str]
) -> list[str]:
    """Return the lines of a set-up that is in force; `new`: it armed the box. `stored`: paths in the generation."""
    lines = ["DONE: all is well.", ""]
    lines += [f"OK   {name}: {said[name]}" for name in NAMES if name in said] or ["This folder has nothing to apply."]
    lines.append("")
    if mode == "live":
        lines.append(f"Mode {LIVE}. Nothing is quoted before that.")
    else:
        lines.append(f"Mode {mode}." + (" The new box is armed, and begins to quote by itself." if new else ""))
    kept = [label for path, label in KEPT.items() if path in stored]
    lines += [f"Stored in the box: {', '.join(kept)}."] if kept else []
    if examples:
        lines += ["", f"Left alone, being examples: {', '.join(sorted(examples))}"]
    return lines


def refused(errors: Sequence[str], secret: Sequence[str]) -> list[str]:
    """Return the lines of a set-up that changed nothing; `secret`: files that still lie there in the clear."""
    lines = [NOT_CHANGED, "", *(f"{number}. {error}" for number, error in enumerate(errors, 1)), ""]
    lines.append("Correct that in this folder, and switch the box on again.")
    if secret:
        names = " and ".join(secret)
        lines.append(f"Still in this folder, readable for anyone who has the card: {names}.")
    return lines


def broken(errors: Sequence[str]) -> list[str]:
    """Return the lines of a set-up that could not be ended for a fault of the box."""
    told = [f"{number}. {error}" for number, error in enumerate(errors, 1)]
    return ["NOT ENDED: the box could not do it, and tries again when it is switched on.", "", *told]


def was_reset() -> list[str]:
    """Return the lines of a reset."""
    begins = "It starts anew, and applies what lies in this folder."
    return ["RESET: all that the box had stored is deleted.", "", begins]


def tell(card: Card, lines: Sequence[str], version: str, now: float) -> None:
    """Write RESULT.txt, if it would say something else; OSError or DeviceError."""
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    text = [f"mmpi {version}: set-up", f"{TIME}{when}", "", *lines, "", f"More: docs/setup.md of mmpi {version}"]
    path, fresh = card.folder / RESULT, card.folder / FRESH_RESULT
    if _without_time(_read(path)) == _without_time(text):
        return
    card.open_up()
    _write(fresh, "".join(f"{line}\r\n" for line in text).encode())
    os.replace(fresh, path)
    sync_folder(card.folder)


def put(path: Path, outcome: Outcome) -> None:
    """Put the result where the guardian reads it; OSError."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True)
        os.chmod(path.parent, READABLE_FOLDER)
    fresh = path.with_name(path.name + FRESH)
    _write(fresh, msgspec.json.encode(outcome) + b"\n")
    os.chmod(fresh, READABLE)
    os.replace(fresh, path)


def _read(path: Path) -> list[str]:
    """Return the lines that are there, none if they cannot be read: then they are written anew."""
    try:
        with path.open("rb") as file:
            return file.read(MOST).decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _without_time(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if not line.startswith(TIME)]


def _write(path: Path, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, READABLE)
    try:
        written = 0
        while written < len(data):
            written += os.write(file, data[written:])
        os.fsync(file)
    finally:
        os.close(file)
