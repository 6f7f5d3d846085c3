"""mmpi.runtime.peers: who may speak on a control socket, with real sockets and a user database that is made up."""

import grp
import os
import pwd
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmpi.runtime import peers
from mmpi.runtime.peers import MAX_KNOWN, Peer, Peers, credentials, is_member

USER, GROUP = 54321, 65432


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a socket's path in a folder that its group may enter."""
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(0o770)
    (folder / "guardian.sock").touch()
    (folder / "guardian.sock").chmod(0o660)
    return folder / "guardian.sock"


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch, path: Path) -> dict[str, list[int]]:
    """Give the groups of user `telemetry`; the folder's group exists, and is one of them."""
    own = path.parent.stat().st_gid
    groups = {"telemetry": [GROUP, own]}
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name={USER: "telemetry"}[uid], pw_gid=GROUP))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: {own: "mmpi"}[gid])
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, *groups[name]])
    return groups


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Give a connection whose other end is another user's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    monkeypatch.setattr(peers, "credentials", lambda _: (77, USER))
    with ours, theirs:
        yield ours


def test_the_kernels_word() -> None:
    """A connected process is known by the kernel's word alone."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert credentials(ours) == (os.getpid(), os.getuid())


async def test_own_user_and_root_are_hands(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root and the server's own user may do everything, whatever folder and database say."""
    path.parent.chmod(0o700)
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert await Peers(path).known(ours) == Peer(os.getpid(), os.getuid(), hands=True)
        monkeypatch.setattr(os, "getuid", lambda: 4242)
        monkeypatch.setattr(peers, "credentials", lambda _: (1, 0))
        assert await Peers(path).known(ours) == Peer(1, 0, hands=True)


@pytest.mark.usefixtures("database")
async def test_a_member_is_heard_but_has_no_hands(path: Path, link: socket.socket) -> None:
    """A user of the folder's group may speak, and is told apart from hands."""
    assert await Peers(path).known(link) == Peer(77, USER, hands=False)


def test_who_is_no_member(path: Path, database: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused: a user outside the group, one without a name, a group without one, a folder or a socket that keeps its
    group out, a socket that is gone."""
    assert is_member(path, USER)
    assert not is_member(path, USER + 1)
    database["telemetry"].pop()
    assert not is_member(path, USER)
    database["telemetry"].append(path.parent.stat().st_gid)
    for place, mode in ((path.parent, 0o700), (path, 0o600)):
        before = place.stat().st_mode
        place.chmod(mode)
        assert not is_member(path, USER)
        place.chmod(before)
    assert is_member(path, USER)
    monkeypatch.setattr(grp, "getgrgid", lambda gid: {}[gid])
    assert not is_member(path, USER)
    path.unlink()
    assert not is_member(path, USER)


def test_the_real_database(path: Path) -> None:
    """A number that no user has is nobody, by this machine's own database."""
    assert not is_member(path, 2**31 - 12345)


async def test_a_database_that_hangs(path: Path, link: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database does not answer, who was found to be a member last time is heard, and nobody else."""
    monkeypatch.setattr(peers, "LOOK_UP_S", 0.02)
    answered = threading.Event()
    everybody = Peers(path)
    monkeypatch.setattr(peers, "is_member", lambda *_: True)
    assert await everybody.known(link) is not None
    monkeypatch.setattr(peers, "is_member", lambda *_: answered.wait(5))
    try:
        assert await everybody.known(link) is not None
        monkeypatch.setattr(peers, "credentials", lambda _: (78, USER + 1))
        assert await everybody.known(link) is None
    finally:
        answered.set()


async def test_memory_of_members_is_bounded(path: Path, link: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many users ask, no more than MAX_KNOWN are remembered."""
    everybody = Peers(path)
    monkeypatch.setattr(peers, "is_member", lambda *_: True)
    for number in range(MAX_KNOWN + 10):
        monkeypatch.setattr(peers, "credentials", lambda _, uid=USER + number: (1, uid))
        assert await everybody.known(link) is not None
    assert len(everybody._known) == MAX_KNOWN
