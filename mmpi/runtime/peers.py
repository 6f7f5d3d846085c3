"""Peers: who is at the other end of a control socket, by the kernel's word, and whether it may speak at all.

Root and the server's own user are hands. So may everybody else who is, by the system's user database, a member of the
group that the socket's folder belongs to, if folder and socket let that group in.

Invariant: who cannot be looked up is refused, and a look-up that hangs holds nobody up but the peer.
It must not know what is asked.
"""

import asyncio
import grp
import os
import pwd
import socket
import stat
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

LOOK_UP_S: Final = 1.0
"""The user database may be a service that hangs."""
MAX_KNOWN: Final = 64
_UCRED: Final = struct.Struct("3i")


class Peer(msgspec.Struct, frozen=True):
    """A process that may speak; `hands`: root or the server's own user, who may do everything."""

    pid: int
    uid: int
    hands: bool


class Peers:
    """Who may speak on the socket at `path`."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._thread: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="groups")
        self._known: Final[dict[int, bool]] = {}
        """What was found for a user last, which counts while the database does not answer."""

    async def known(self, link: socket.socket) -> Peer | None:
        """Return the connected process, or None if it may not speak."""
        pid, uid = credentials(link)
        if uid in (0, os.getuid()):
            return Peer(pid, uid, hands=True)
        return Peer(pid, uid, hands=False) if await self._is_member(uid) else None

    async def _is_member(self, uid: int) -> bool:
        looking = asyncio.get_running_loop().run_in_executor(self._thread, is_member, self._path, uid)
        try:
            async with asyncio.timeout(LOOK_UP_S):
                found = await looking
        except TimeoutError:
            return self._known.get(uid, False)
        if uid not in self._known and len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[uid] = found
        return found


def credentials(link: socket.socket) -> tuple[int, int]:
    """Return (pid, uid) of the connected process, as the kernel knows them."""
    pid, uid, _ = _UCRED.unpack(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid


def is_member(path: Path, uid: int) -> bool:
    """Return whether a user belongs to the group that may use the socket at `path`; blocks on the user database."""
    try:
        folder, own = path.parent.stat(), path.stat()
        if not folder.st_mode & stat.S_IXGRP or not own.st_mode & stat.S_IWGRP:
            return False
        grp.getgrgid(folder.st_gid)
        user = pwd.getpwuid(uid)
        return folder.st_gid in os.getgrouplist(user.pw_name, user.pw_gid)
    except (KeyError, OSError):
        return False
