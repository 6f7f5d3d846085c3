"""Opening: a rig by its name, made ready here, and where a box on it sees a venue.

    with open_rig("nspawn", folder, port, ROOT) as (rig, address):
        rig.mend(...)

`free_port()` gives the venue's port.

Invariant: what cannot be had here is UnavailableError with the reason, before anything was made.
It must not know what is played on a rig.
"""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final

from hil.rig import Rig
from hil.trixie import ROOT
from image.debian import UnavailableError

Opened = tuple[Rig, str]
"""A rig, and the venue's address as a box on it sees it."""


@contextmanager
def _nspawn(folder: Path, port: int, checkout: Path) -> Iterator[Opened]:
    from hil.rigs.nspawn import OPERATOR, Network, missing
    from hil.rigs.station import Station

    if why := missing():
        raise UnavailableError(why)
    with Network() as network, Station(network, folder, port, checkout) as rig:
        yield rig, OPERATOR


@contextmanager
def _virt(folder: Path, port: int, checkout: Path) -> Iterator[Opened]:
    from hil.rigs.shelf import Shelf
    from hil.rigs.virt import SERVER

    if checkout != ROOT:
        raise UnavailableError(f"--checkout {checkout}: the rig virt plays the image of this checkout, and no other")
    with Shelf(folder, port) as rig:
        yield rig, SERVER[0]


RIGS: Final[Mapping[str, Callable[[Path, int, Path], AbstractContextManager[Opened]]]] = {
    "nspawn": _nspawn,
    "virt": _virt,
}
"""Those that there are."""
BENCH: Final = "bench"
_NO_BENCH: Final = "no bench rig here yet: a real Pi with its power, pins, cable, card and sensors in a rig's hands"
PORTS: Final = range(18444, 18500)
"""Of venues: below those that the kernel gives to whoever asks."""
_held: Final[list[socket.socket]] = []
"""Names in the kernel, one for each port that this process was given: they end with it, however it ends."""


def free_port() -> int:
    """Return a port of this machine's loopback that nobody listens at, and that no other call gives while we live."""
    for port in sorted(PORTS, key=lambda port: (port - os.getpid()) % len(PORTS)):
        holder = socket.socket(socket.AF_UNIX)
        with suppress(OSError):
            holder.bind(f"\0mmpi-hil-port-{port}")
            with socket.create_server(("127.0.0.1", port)):
                _held.append(holder)
                return port
        holder.close()
    raise OSError(f"ports {PORTS.start} to {PORTS.stop - 1} of 127.0.0.1 are all taken; allowed: one that is free")


def open_rig(name: str, folder: Path, port: int, checkout: Path) -> AbstractContextManager[Opened]:
    """Return a context manager that gives the rig; `port` is the venue's on this machine's loopback.

    `checkout` has the package that is played. UnavailableError, at the latest on entering, if it cannot be had here.
    """
    if name == BENCH:
        raise UnavailableError(_NO_BENCH)
    if name not in RIGS:
        raise UnavailableError(f"no rig {name} yet; there is: {', '.join(RIGS)}")
    return RIGS[name](folder, port, checkout)
