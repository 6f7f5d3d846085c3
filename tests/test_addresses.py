"""mmpi.runtime.addresses: hosts found, remembered, and found again while nobody can be asked."""

import asyncio
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runtime_builders import until

from mmpi.runtime import addresses as module
from mmpi.runtime.addresses import MAX_ADDRESSES, SHARED, Addresses, is_address

HOST = "venue.example"


class Resolver:
    """The system's resolver, as a test wants it to be."""

    def __init__(self) -> None:
        self.answer: list[str] = ["192.0.2.1", "192.0.2.2"]
        self.asked = 0
        self.hangs = threading.Event()
        """Set = it answers at once."""
        self.hangs.set()

    def __call__(self, host: str, *_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        self.asked += 1
        self.hangs.wait(20)
        host.encode("idna")
        if not self.answer:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in self.answer]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    """Return the resolver that is asked instead of the system's."""
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    monkeypatch.setattr(module, "LOOK_UP_S", 0.1)
    monkeypatch.setattr(module, "KNOWN_S", 0.1)
    yield made
    made.hangs.set()


async def quiet(known: Addresses) -> None:
    """Wait until no look-up is under way."""
    await until(lambda: not known._looking and not any(t.name == "resolver" for t in threading.enumerate()))


async def test_an_address_is_not_looked_up(resolver: Resolver) -> None:
    """Whoever configures an address needs no resolver."""
    known = Addresses()
    assert [await known.of(each) for each in ("127.0.0.1", "::1")] == [("127.0.0.1",), ("::1",)]
    assert resolver.asked == 0
    assert not is_address("localhost")
    assert not is_address("1.2.3")


@pytest.mark.parametrize("silent", [True, False])
async def test_a_dead_resolver_leaves_what_was_known(resolver: Resolver, silent: bool) -> None:
    """It fails, or says nothing: the last good addresses; of a host never found an error, in the time allowed."""
    known = Addresses()
    assert await known.of(HOST) == ("192.0.2.1", "192.0.2.2")
    resolver.answer = []
    if silent:
        resolver.hangs.clear()
    began = time.monotonic()
    assert await known.of(HOST) == ("192.0.2.1", "192.0.2.2")
    with pytest.raises(OSError, match=r"other\.example: no address within" if silent else "Temporary failure"):
        await known.of("other.example")
    assert time.monotonic() - began < 1


async def test_a_silent_resolver_is_asked_once_and_waited_for_once(resolver: Resolver) -> None:
    """One thread for a host however often it is wanted; what is known comes at once from the second time on."""
    known = Addresses()
    await known.of(HOST)
    resolver.hangs.clear()
    await asyncio.gather(*[known.of(HOST) for _ in range(50)])
    began = time.monotonic()
    for _ in range(50):
        assert await known.of(HOST)
    assert time.monotonic() - began < 0.09, "less than one wait"
    assert (resolver.asked, [each.name for each in threading.enumerate()].count("resolver")) == (2, 1)
    resolver.answer = ["192.0.2.7"]
    resolver.hangs.set()
    await quiet(known)
    assert (await known.of(HOST))[0] == "192.0.2.7", "a late answer counts, and the next is waited for again"


async def test_what_worked_is_tried_first_and_what_failed_last(resolver: Resolver) -> None:
    """Experience orders addresses, also those of a new answer; those of old answers come behind."""
    known = Addresses()
    await known.of(HOST)
    known.failed(HOST, "192.0.2.1")
    assert await known.of(HOST) == ("192.0.2.2", "192.0.2.1")
    resolver.answer = ["192.0.2.1", "192.0.2.3"]
    assert await known.of(HOST) == ("192.0.2.1", "192.0.2.3", "192.0.2.2")
    known.worked(HOST, "192.0.2.2")
    assert (await known.of(HOST))[-1] == "192.0.2.2", "the resolver does not name it any more"
    known.worked("unknown.example", "192.0.2.9")


async def test_what_is_remembered_is_bounded(resolver: Resolver) -> None:
    """Ever new answers, of ever new hosts, push out the oldest; one answer cannot push out everything."""
    known = Addresses()
    for number in range(0, 40, 4):
        resolver.answer = [f"192.0.2.{number + each}" for each in range(40)]
        assert len(found := await known.of(HOST)) <= MAX_ADDRESSES
    assert found[:4] == ("192.0.2.36", "192.0.2.37", "192.0.2.38", "192.0.2.39")
    assert found[4:] == ("192.0.2.32", "192.0.2.33", "192.0.2.34", "192.0.2.35")
    for number in range(40):
        await known.of(f"{number}.example")
    assert len(known._known) == module.MAX_HOSTS


async def test_the_next_start_knows_them(tmp_path: Path, resolver: Resolver) -> None:
    """A file, readable for the group, written once for one set of addresses; a start with a dead resolver reads it."""
    path = tmp_path / "addresses.json"
    known = Addresses(path)
    await known.of(HOST)
    await quiet(known)
    assert json.loads(path.read_bytes()) == {"hosts": {HOST: ["192.0.2.1", "192.0.2.2"]}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o640 & ~_umask()
    written = path.stat().st_ino
    resolver.answer.reverse()
    await known.of(HOST)
    await quiet(known)
    assert path.stat().st_ino == written, "the same addresses in another order are no news"
    resolver.hangs.clear()
    assert await Addresses(path).of(HOST) == ("192.0.2.1", "192.0.2.2")
    assert [each.name for each in tmp_path.iterdir()] == ["addresses.json"]


async def test_the_file_is_not_written_for_every_answer(
    tmp_path: Path, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that answers with others each time costs a memory card one write in a while, not one a connection."""
    path = tmp_path / "addresses.json"
    known = Addresses(path)
    for number in range(5):
        resolver.answer = [f"192.0.2.{number}"]
        await known.of(HOST)
        await quiet(known)
    assert json.loads(path.read_bytes()) == {"hosts": {HOST: ["192.0.2.0"]}}
    monkeypatch.setattr(known, "_next_write", 0.0)
    await known.of(HOST)
    await quiet(known)
    assert len(json.loads(path.read_bytes())["hosts"][HOST]) == 5


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"hosts": []}', b'{"hosts": {"venue.example": ["nonsense"]}}', b"\xff", b"[" * 100_000, None],
)
@pytest.mark.usefixtures("resolver")
async def test_a_bad_file_is_as_good_as_none(tmp_path: Path, content: bytes | None) -> None:
    """Cut, foreign, not JSON, a folder: it is ignored, and replaced where that can be done."""
    path = tmp_path / "addresses.json"
    path.mkdir() if content is None else path.write_bytes(content)
    known = Addresses(path)
    assert await known.of(HOST) == ("192.0.2.1", "192.0.2.2")
    await quiet(known)
    assert path.is_dir() if content is None else Addresses(path)._known[HOST]


async def test_a_name_that_cannot_be_asked_for(resolver: Resolver) -> None:
    """A part of the name is too long: the error of the resolver is the caller's."""
    assert resolver.asked == 0
    with pytest.raises(UnicodeError):
        await Addresses().of(f"{'x' * 64}.example")


async def test_the_process_shares_one(resolver: Resolver) -> None:
    """Two links to one host cause one look-up."""
    resolver.hangs.clear()
    asks: list[Callable[[], object]] = [lambda: SHARED.of("shared.example")] * 2
    found = asyncio.gather(*[ask() for ask in asks])  # type: ignore[call-overload]
    await asyncio.sleep(0.01)
    resolver.hangs.set()
    assert await found == [("192.0.2.1", "192.0.2.2")] * 2
    assert resolver.asked == 1


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
