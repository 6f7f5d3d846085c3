"""mmpi.runtime.websocket against real servers on loopback: messages, endings, reconnection, bad peers."""

import asyncio
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from runtime_builders import Ear, kept_up, shake_hands, tcp_server, until
from websockets.asyncio.server import ServerConnection, serve

from mmpi.errors import ConfigError
from mmpi.runtime import websocket
from mmpi.runtime.addresses import Addresses
from mmpi.runtime.websocket import Link

TEXT_X, GOODBYE = b"\x81\x01x", b"\x88\x02\x03\xe9"
"""Frames of a server: the text x; a close frame with code 1001."""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect at once: how long a link waits is the claim of one test only."""
    monkeypatch.setattr(websocket, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(websocket, "BACKOFF_LAST_S", 0.02)


@asynccontextmanager
async def server(talk: object) -> AsyncIterator[str]:
    """Give the address of a WebSocket server that runs `talk` for each connection."""
    async with serve(talk, "127.0.0.1", 0) as running:  # type: ignore[arg-type]
        yield f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}/ws"


async def test_messages_both_ways() -> None:
    """Whole messages arrive stamped with the clock that was given, and what is sent arrives at the other end."""
    heard: list[object] = []

    async def talk(peer: ServerConnection) -> None:
        heard.append(await peer.recv())
        await peer.send(["fra", "gmen", "ted"])
        await peer.send(b"binary")
        await peer.wait_closed()

    ear, times = Ear(), iter(range(100, 1000))
    async with server(talk) as url:
        link = Link(url, ear.on_open, ear.on_frame, ear.closed.append, lambda: next(times))
        assert link.send(b"too early") is False
        async with kept_up(link):
            await until(lambda: link.open)
            sent = link.send(b"hello")
            await until(lambda: len(ear.frames) == 2)
    assert (sent, heard, ear.frames) == (True, ["hello"], [b"fragmented", b"binary"])
    assert 100 <= ear.stamps[0] <= ear.stamps[1] < 1000
    assert (ear.opened, link.connects, link.open) == (1, 1, False)


async def test_a_ping_is_answered() -> None:
    """The venue's ping gets its pong without the owner's help."""
    answered = asyncio.Event()

    async def talk(peer: ServerConnection) -> None:
        await (await peer.ping())
        answered.set()
        await peer.wait_closed()

    ear = Ear()
    async with server(talk) as url, kept_up(ear.link(url)), asyncio.timeout(5):
        await answered.wait()
    assert ear.frames == []


async def test_the_venue_closes_and_the_link_comes_back() -> None:
    """An ended connection is told once, with the venue's words, and another one is made."""

    async def talk(peer: ServerConnection) -> None:
        await peer.close(1001, "maintenance")

    ear = Ear()
    async with server(talk) as url, kept_up(link := ear.link(url)):
        await until(lambda: link.connects >= 3)
    ended = [why for why in ear.closed if why != "ended by this side"]
    assert set(ended) == {"closed by the venue: 1001 (going away) maintenance"}
    assert len(ended) in (link.connects - 1, link.connects)
    # The end of the test may come in the middle of one more handshake.
    assert len(ear.closed) - len(ended) <= 1


async def test_an_end_of_ours_is_not_told_as_the_venues() -> None:
    """Who stops keeping a link up, opened or still shaking hands, hears once that this side ended it."""
    asked = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()

    async def talk(peer: ServerConnection) -> None:
        await peer.wait_closed()

    shaking, opened = Ear(), Ear()
    async with tcp_server(mute) as url, kept_up(shaking.link(url)), asyncio.timeout(5):
        await asked.wait()
    async with server(talk) as url, kept_up(link := opened.link(url)):
        await until(lambda: link.open)
    assert (shaking.closed, shaking.opened) == (["ended by this side"], 0)
    assert (opened.closed, opened.opened) == (["ended by this side"], 1)


async def test_nothing_is_sent_into_a_goodbye() -> None:
    """An answer to a message that came together with the close frame is refused, not an error."""
    sent: list[bool] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await shake_hands(reader, writer, TEXT_X + GOODBYE)
        await reader.read()

    async with tcp_server(talk) as url:
        link = Link(url, lambda: None, lambda *_: sent.append(link.send(b"answer")), lambda _: None)
        async with kept_up(link):
            await until(lambda: sent)
    assert sent[0] is False


async def test_a_peer_that_does_not_read_is_given_up() -> None:
    """Once too much waits in the transport the link is ended, says so, and takes nothing more."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await shake_hands(reader, writer)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(60)

    ear = Ear()
    async with tcp_server(talk) as url, kept_up(link := ear.link(url)):
        await until(lambda: link.open)
        frame, taken = bytes(100_000), 0
        while link.send(frame):
            taken += 1
            assert taken < 1000, "sixteen times what loopback's buffers hold"
        assert (link.open, link.send(b"more")) == (False, False)
        await until(lambda: ear.closed)
    assert ear.closed[0] == "peer does not read"


async def test_an_aborted_link_takes_nothing() -> None:
    """From the instant of an abort `send` says no, though the end of the connection is told later."""
    ear = Ear()
    async with server(lambda peer: peer.wait_closed()) as url, kept_up(link := ear.link(url)):
        await until(lambda: link.open)
        link.abort("enough")
        assert (link.send(b"x"), ear.closed) == (False, [])
        await until(lambda: link.connects >= 2)
    assert ear.closed[0] == "enough"


async def test_a_refused_handshake() -> None:
    """The venue's status is told; a link that was never open is not opened."""
    ear = Ear()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with tcp_server(talk) as url, kept_up(ear.link(url)):
        await until(lambda: len(ear.closed) >= 2)
    assert (ear.closed[:2], ear.opened) == (["handshake refused: HTTP 429"] * 2, 0)


async def test_a_handshake_that_is_never_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts and then says nothing is left after the time for connecting."""
    monkeypatch.setattr(websocket, "CONNECT_TIMEOUT_S", 0.05)
    ear = Ear()
    async with tcp_server(lambda reader, _: reader.read(-1)) as url, kept_up(ear.link(url)):  # type: ignore[arg-type]
        await until(lambda: len(ear.closed) >= 2)
    assert (ear.closed[:2], ear.opened) == (["handshake not answered"] * 2, 0)


async def test_an_answer_that_is_no_http() -> None:
    """A server of another protocol is told apart from one that is away."""
    ear = Ear()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example.org ESMTP\r\n")
        await reader.read()

    async with tcp_server(talk) as url, kept_up(ear.link(url)):
        await until(lambda: ear.closed)
    assert ear.closed[0] == "did not receive a valid HTTP response"


async def test_a_message_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message over the limit, in fragments too, ends the connection and is never delivered."""
    monkeypatch.setattr(websocket, "MAX_FRAME", 1000)
    fragments = b"\x01\x7e\x03\x00" + bytes(768) + b"\x80\x7e\x03\x00" + bytes(768)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await shake_hands(reader, writer, fragments)
        await reader.read()

    ear = Ear()
    async with tcp_server(talk) as url, kept_up(link := ear.link(url)):
        await until(lambda: link.connects >= 2)
    assert ear.closed[0].startswith("bad bytes from the venue: 1009 (message too big)")
    assert ear.frames == []


async def test_a_message_cut_off_by_the_end_is_forgotten() -> None:
    """The first fragment of a lost connection is not the beginning of the next one's message."""
    starts = iter([b"\x01\x03old", b"\x81\x03new"])

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = next(starts, None)
        await shake_hands(reader, writer, start or b"")
        await writer.drain()
        if start is None or start.endswith(b"new"):
            await reader.read()

    ear = Ear()
    async with tcp_server(talk) as url, kept_up(ear.link(url)):
        await until(lambda: ear.frames)
    assert ear.frames[0] == b"new"


async def test_waits_double_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens: each wait is drawn from twice the range of the last, up to a limit, and each failure is told."""
    monkeypatch.setattr(websocket, "BACKOFF_FIRST_S", 0.1)
    monkeypatch.setattr(websocket, "BACKOFF_LAST_S", 5.0)
    ranges: list[float] = []

    def uniform(low: float, high: float) -> float:
        ranges.append(high)
        return low

    monkeypatch.setattr(random, "uniform", uniform)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ear = Ear()
    async with kept_up(ear.link(f"ws://127.0.0.1:{port}/ws")):
        await until(lambda: len(ranges) >= 8)
    assert ranges[:8] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    assert len(ear.closed) >= 8
    assert "Connect call failed" in ear.closed[0]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/ws", "ws://", "ws://127.0.0.1:99999/ws", "ws://127.0.0.1:port/ws", "", "ws://u@h/ws"]
)
def test_a_bad_address_is_refused_at_once(url: str) -> None:
    """An address that is none is one clear error, not a link that never comes up."""
    with pytest.raises(ConfigError, match="not a WebSocket address"):
        Ear().link(url)


@pytest.mark.parametrize(
    ("host", "text"), [("venue.invalid", "Name or service not known"), (f"{'x' * 64}.example", "too long")]
)
async def test_a_name_that_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch, host: str, text: str) -> None:
    """A name without an address, or one that cannot be asked for, is told and tried again."""

    def getaddrinfo(name: str, *_: object, **__: object) -> object:
        name.encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    ear = Ear()
    async with kept_up(ear.link(f"ws://{host}/ws")):
        await until(lambda: len(ear.closed) >= 2)
    assert text in ear.closed[0]


async def test_a_server_without_tls() -> None:
    """A wss:// address whose server speaks no TLS is told and tried again."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    ear = Ear()
    async with tcp_server(talk) as url, kept_up(ear.link(url.replace("ws://", "wss://"))):
        await until(lambda: len(ear.closed) >= 2)
    assert ear.opened == 0
    assert "SSL" in ear.closed[0]


def test_a_certificate_is_checked() -> None:
    """A link with TLS believes only a certificate that the machine trusts, for the host's own name."""
    context = Ear().link("wss://127.0.0.1/ws")._tls
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("years", [-10, 10])
async def test_a_certificate_whose_dates_our_clock_contradicts(tmp_path: Path, years: int) -> None:
    """Only a link that was told to goes on then, each time after one try with the dates; one of our days was wrong."""
    pytest.importorskip("cryptography", reason="the practice extra (cryptography) is not installed")
    from mmpi.practice.hyperliquid.tls import server_context

    context, ca_file = server_context(tmp_path / "tls", datetime.now(UTC) + years * timedelta(days=365))

    async def talk(peer: ServerConnection) -> None:
        await peer.send("x")

    async with serve(talk, "127.0.0.1", 0, ssl=context) as running:
        url = f"wss://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}/ws"
        strict, lenient = Ear(), Ear()
        plain = Link(url, strict.on_open, strict.on_frame, strict.closed.append, ca_file=str(ca_file))
        stop = Link(url, lenient.on_open, lenient.on_frame, lenient.closed.append, ca_file=str(ca_file), any_date=True)
        async with kept_up(plain), kept_up(stop):
            await until(lambda: len(lenient.frames) >= 2 and len(strict.closed) >= 3)
    assert strict.opened == 0
    wrong = "not yet valid" if years > 0 else "has expired"
    assert all(wrong in why for why in strict.closed)
    assert wrong in lenient.closed[0] and wrong not in lenient.closed[1] and wrong in lenient.closed[2]


async def test_an_old_certificate_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Whoever takes any date still takes no authority that it was not told to trust."""
    pytest.importorskip("cryptography", reason="the practice extra (cryptography) is not installed")
    from mmpi.practice.hyperliquid.tls import server_context

    context, _ = server_context(tmp_path / "theirs", datetime(2015, 1, 1, tzinfo=UTC))
    _, ca_file = server_context(tmp_path / "ours")
    ear = Ear()
    async with serve(lambda peer: peer.wait_closed(), "127.0.0.1", 0, ssl=context) as running:
        url = f"wss://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}/ws"
        link = Link(url, ear.on_open, ear.on_frame, ear.closed.append, ca_file=str(ca_file), any_date=True)
        async with kept_up(link):
            await until(lambda: len(ear.closed) >= 4)
    assert ear.opened == 0


def remembering(host: str, *addresses: str) -> Addresses:
    """Return addresses that remember these of a host."""
    known = Addresses()
    known._known[host] = addresses
    return known


@pytest.fixture
def no_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no name but the addresses themselves."""

    def getaddrinfo(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@contextmanager
def black_hole(address: str, port: int) -> Iterator[None]:
    """Have nobody answer at an address: its queue of connections is full."""
    with socket.socket() as hole, ExitStack() as queue:
        hole.bind((address, port))
        hole.listen(0)
        for _ in range(2):
            one = queue.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex((address, port))
        yield


@pytest.mark.usefixtures("no_resolver")
async def test_a_dead_first_address_costs_little_and_once() -> None:
    """No name is resolved and nobody answers at the first address remembered: the second within 1.5 s, then at once."""
    ear = Ear()
    async with server(lambda peer: peer.wait_closed()) as url:
        port = int(url.split(":")[2].split("/")[0])
        known = remembering("venue.example", "127.0.0.2", "127.0.0.1")
        link = Link(
            f"ws://venue.example:{port}/ws", ear.on_open, ear.on_frame, ear.closed.append, addresses=known
        )
        with black_hole("127.0.0.2", port):
            began = time.monotonic()
            async with kept_up(link):
                await until(lambda: link.open)
                assert 1.0 < time.monotonic() - began < 1.5
                began = time.monotonic()
                link.abort("again")
                await until(lambda: link.connects == 2)
                assert time.monotonic() - began < 0.5
    assert ear.closed[0] == "again"


@pytest.mark.usefixtures("no_resolver")
async def test_an_address_is_believed_only_for_its_name(tmp_path: Path) -> None:
    """A remembered address that belongs to somebody else by now fails for its name, and the next one is tried."""
    pytest.importorskip("cryptography", reason="the practice extra (cryptography) is not installed")
    from mmpi.practice.hyperliquid.tls import server_context

    context, ca_file = server_context(tmp_path / "tls")
    async with serve(lambda peer: peer.wait_closed(), "127.0.0.1", 0, ssl=context) as running:
        port = next(iter(running.sockets)).getsockname()[1]
        stranger, own = Ear(), Ear()
        wrong = Link(
            f"wss://venue.example:{port}/ws", stranger.on_open, stranger.on_frame, stranger.closed.append,
            ca_file=str(ca_file), addresses=remembering("venue.example", "127.0.0.1"),
        )  # fmt: skip
        right = Link(
            f"wss://localhost:{port}/ws", own.on_open, own.on_frame, own.closed.append,
            ca_file=str(ca_file), addresses=remembering("localhost", "127.0.0.3", "127.0.0.1"),
        )  # fmt: skip
        async with kept_up(wrong), kept_up(right):
            await until(lambda: right.open and len(stranger.closed) >= 3)
    assert stranger.opened == 0
    assert all("Hostname mismatch" in why for why in stranger.closed)


async def test_small_frames_are_not_held_back() -> None:
    """Nagle's delay is off: an order must not wait for the acknowledgement of the frame before it."""
    async with server(lambda peer: peer.wait_closed()) as url, kept_up(link := Ear().link(url)):
        await until(lambda: link.open)
        assert link._transport is not None
        assert link._transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_cancelling_ends_the_connection() -> None:
    """Nothing of a link is left when it is not kept up any more."""
    gone = asyncio.Event()

    async def talk(peer: ServerConnection) -> None:
        await peer.wait_closed()
        gone.set()

    ear = Ear()
    async with server(talk) as url, asyncio.timeout(5):
        async with kept_up(link := ear.link(url)):
            await until(lambda: link.open)
        await gone.wait()
    assert (link.open, len(ear.closed)) == (False, 1)
