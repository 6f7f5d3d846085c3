"""Sealing: secrets as systemd's encrypted credentials, which only this box can read.

Invariant: a secret goes through pipes alone, and what `seal` returns was opened again and found the same.
It must not know what a secret is for or where it is kept.

Source: systemd-creds(1), systemd.exec(5) "SetCredentialEncrypted="; systemd 252 and 257.
"""

import os
import subprocess
from typing import Final, Protocol

from mmpi.errors import DeviceError

PROGRAM: Final = "systemd-creds"
ENDS_S: Final = 30.0


class Sealer(Protocol):
    """What makes secrets unreadable elsewhere. DeviceError says why it cannot."""

    def seal(self, name: str, secret: bytes) -> bytes:
        """Return a secret encrypted under the name of its credential."""
        ...

    def unseal(self, name: str, sealed: bytes) -> bytes:
        """Return what was sealed under this name."""
        ...


class SystemdCreds:
    """Seals with the key of this system's host, which systemd makes at the first use."""

    def seal(self, name: str, secret: bytes) -> bytes:
        """Return a secret encrypted under the name of its credential."""
        sealed = _run(name, ["encrypt", "--with-key=host", f"--name={name}", "-", "-"], secret)
        if self.unseal(name, sealed) != secret:
            raise DeviceError(f"{name}: {PROGRAM} does not give back what it encrypted")
        return sealed

    def unseal(self, name: str, sealed: bytes) -> bytes:
        """Return what was sealed under this name."""
        return _run(name, ["decrypt", f"--name={name}", "--newline=no", "-", "-"], sealed)


def _run(name: str, words: list[str], data: bytes) -> bytes:
    """Return what the program makes of the data; it is given no variables but PATH, and its words are not repeated."""
    environ = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [PROGRAM, *words], input=data, env=environ, capture_output=True, timeout=ENDS_S, check=False
        )
    except OSError as error:
        raise DeviceError(f"{name}: {PROGRAM} cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{name}: {PROGRAM} {words[0]} took longer than {ENDS_S:g} s") from None
    if done.returncode:
        raise DeviceError(f"{name}: {PROGRAM} {words[0]} failed: {_last(done.stderr)}")
    return done.stdout


def _last(stderr: bytes) -> str:
    """Return the last line that a program said; it never repeats what it was given."""
    return (stderr.decode("utf-8", "replace").strip().splitlines() or ["it did not say why"])[-1]
