"""telemetry.webhook: alerts posted to real servers on the loopback address, good ones and bad ones."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from email.header import decode_header, make_header
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_builders import until

from mmpi.errors import ConfigError
from mmpi.telemetry.alerts import Alert
from mmpi.telemetry.webhook import MOST_BODY, MOST_TITLE, WAITING, Patience, Webhook, encoded, message

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
QUICK = Patience(request_s=5.0, first_s=0.01, most_s=0.04, give_up_s=30.0)
TOKEN = "tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2"

Writer = asyncio.StreamWriter
Answer = Callable[[bytes, Writer], Awaitable[None]]


def alert(**changes: object) -> Alert:
    """Return an alert of one instrument."""
    usual: dict[str, object] = {
        "name": "feed_down", "instrument": "BTC", "severity": "warning", "state": "firing",
        "text": "BTC: the last market data is 20 s old", "since": 1000.0, **changes,
    }  # fmt: skip
    return Alert(**usual)  # type: ignore[arg-type]


class Server:
    """A server that keeps what it was asked, and answers in turn what it is told to; the last answer stays."""

    def __init__(self, *answers: bytes | Answer) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.times: list[float] = []
        self.port = 0
        self._open: set[Writer] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        """Read one request and answer it."""
        self._open.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            self.requests.append(head + await reader.readexactly(length))
            self.times.append(time.monotonic())
            answer = self.answers[0]
            if len(self.answers) > 1:
                self.answers.pop(0)
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(self.requests[-1], writer)
        self._open.discard(writer)
        writer.close()

    def close(self) -> None:
        """Hang up on everybody."""
        for writer in self._open:
            writer.close()


@asynccontextmanager
async def serving(*answers: bytes | Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Give a server on a free port."""
    server = Server(*answers)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        server.close()
        listener.close()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def posting(
    server: Server | int, patience: Patience = QUICK, token: str = TOKEN, scheme: str = "http", host: str = "127.0.0.1"
) -> AsyncIterator[Webhook]:
    """Give a webhook that works, and see that nothing of it is left."""
    port = server.port if isinstance(server, Server) else server
    webhook = Webhook(f"{scheme}://{host}:{port}/box/alerts", token, "shelf", patience)
    task = asyncio.create_task(webhook.run())
    try:
        yield webhook
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await until(lambda: not threads())


def threads() -> list[threading.Thread]:
    """Return the threads that post."""
    return [thread for thread in threading.enumerate() if thread.name == "webhook"]


def headers_of(request: bytes) -> dict[str, str]:
    """Return a request's headers as they went over the wire; a second one of a name is an error."""
    lines = request.partition(b"\r\n\r\n")[0].decode("ascii").split("\r\n")[1:]
    pairs = [line.split(": ", 1) for line in lines]
    assert len({name.lower() for name, _ in pairs}) == len(pairs), lines
    return {name.lower(): value for name, value in pairs}


async def silence(_: bytes, writer: Writer) -> None:
    """Answer nothing, for as long as the other end waits."""
    with suppress(ConnectionError):
        while not writer.is_closing():
            await asyncio.sleep(0.01)


# What is posted ---------------------------------------------------------------------------------------------------


async def test_an_alert_is_posted_as_ntfy_takes_it() -> None:
    """Its text is the body; title, priority, tags and token are headers; nothing else is asked for, and once."""
    async with serving(OK) as server, posting(server) as webhook:
        webhook.post(alert())
        await until(lambda: webhook.sent == 1)
        assert len(server.requests) == 1
        assert server.requests[0].startswith(b"POST /box/alerts HTTP/1.1\r\n")
        assert server.requests[0].endswith(b"\r\n\r\nBTC: the last market data is 20 s old")
        told = headers_of(server.requests[0])
        assert (told["title"], told["priority"], told["tags"]) == ("shelf: feed down BTC", "3", "warning,feed_down")
        assert told["authorization"] == f"Bearer {TOKEN}"
        assert told["host"] == f"127.0.0.1:{server.port}"
        assert webhook.status() == {
            "server": f"127.0.0.1:{server.port}", "waiting": 0, "sent": 1, "dropped": 0, "given_up": 0, "error": "",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "title", "priority", "tags"),
    [
        ({"severity": "critical", "name": "kill", "instrument": ""}, "shelf: kill", "5", "rotating_light,kill"),
        ({"severity": "warning"}, "shelf: feed down BTC", "3", "warning,feed_down"),
        ({"state": "resolved"}, "shelf: feed down BTC is over", "2", "white_check_mark,feed_down"),
        ({"state": "resolved", "severity": "critical"}, "shelf: feed down BTC is over", "2",
         "white_check_mark,feed_down"),
    ],
)  # fmt: skip
def test_title_priority_and_tags(changes: dict[str, object], title: str, priority: str, tags: str) -> None:
    """A critical alert wakes its owner, a warning does not, and what is over is told quietly."""
    _, headers = message(alert(**changes), "shelf")
    assert (headers["Title"], headers["Priority"], headers["Tags"]) == (title, priority, tags)


async def test_a_webhook_without_a_token_sends_none() -> None:
    """There is no empty Authorization header."""
    async with serving(OK) as server, posting(server, token="") as webhook:
        webhook.post(alert())
        await until(lambda: webhook.sent == 1)
        assert "authorization" not in headers_of(server.requests[0])


async def test_texts_and_titles_of_all_letters_arrive_whole() -> None:
    """A body is UTF-8, a title that is not ASCII is made of encoded words (RFC 2047), as ntfy reads them."""
    async with serving(OK) as server, posting(server) as webhook:
        webhook.post(alert(instrument="Zürich-日本-☃", text="Überhitzt: 83 °C ☃"))
        await until(lambda: webhook.sent == 1)
        assert server.requests[0].partition(b"\r\n\r\n")[2].decode() == "Überhitzt: 83 °C ☃"
        title = headers_of(server.requests[0])["title"]
        assert title.startswith("=?UTF-8?B?")
        assert str(make_header(decode_header(title))) == "shelf: feed down Zürich-日本-☃"


async def test_no_text_makes_a_header() -> None:
    """Line ends in names, instruments, devices and texts stay inside of their header or body."""
    evil = "BTC\r\nX-Evil: 1\r\n\r\nbody\n\x0b\x1c\x85\u2028X-Evil: 2"
    async with serving(OK) as server:
        webhook = Webhook(f"http://127.0.0.1:{server.port}/", TOKEN, evil, QUICK)
        task = asyncio.create_task(webhook.run())
        webhook.post(alert(name=evil, instrument=evil, text=evil))
        await until(lambda: webhook.sent == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: not threads())
        told = headers_of(server.requests[0])
        assert set(told) == {
            "host", "accept-encoding", "content-length", "title", "priority", "tags", "content-type", "user-agent",
            "connection", "authorization",
        }  # fmt: skip
        assert int(told["content-length"]) == len(evil.encode())
        assert server.requests[0].endswith(evil.encode())


@given(st.text(max_size=200))
def test_an_encoded_header_is_one_line_and_says_the_same(text: str) -> None:
    """Whatever the text: printable ASCII, words of at most 75 characters, and the letters that can be printed."""
    value = encoded(text)
    assert value.isascii() and (value == "" or value.isprintable())
    line = " ".join(text.split())[:MOST_TITLE]
    meant = "".join(letter if letter.isprintable() else "?" for letter in line)
    if value.startswith("=?"):
        assert all(len(word) <= 75 for word in value.split())
        assert str(make_header(decode_header(value))) == meant
    else:
        assert value == meant


def test_a_long_text_is_cut_between_letters() -> None:
    """A body has MOST_BODY bytes at most, and is whole UTF-8."""
    body, _ = message(alert(text="☃" * MOST_BODY), "shelf")
    assert MOST_BODY - 3 < len(body) <= MOST_BODY
    assert set(body.decode()) == {"☃"}


# Servers that fail ------------------------------------------------------------------------------------------------


async def test_a_server_that_fails_is_asked_again_more_and_more_rarely() -> None:
    """After each failure at least half of the next pause is waited, twice as long as before up to the longest."""
    patience = Patience(request_s=5.0, first_s=0.04, most_s=0.16, give_up_s=30.0)
    async with serving(BUSY, BUSY, BUSY, BUSY, OK) as server, posting(server, patience) as webhook:
        webhook.post(alert())
        await until(lambda: webhook.error == "HTTP 503")
        await until(lambda: webhook.sent == 1)
        assert (len(server.requests), webhook.error, webhook.given_up) == (5, "", 0)
        gaps = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
        assert all(gap >= least for gap, least in zip(gaps, (0.02, 0.04, 0.08, 0.08), strict=True)), gaps
        assert len(set(server.requests)) == 1


async def test_alerts_come_in_their_order() -> None:
    """What is over is not told before it began, whatever fails in between."""
    async with serving(BUSY, OK, BUSY, BUSY, OK) as server, posting(server) as webhook:
        for text in ("one", "two", "three"):
            webhook.post(alert(text=text))
        await until(lambda: webhook.sent == 3)
        bodies = [request.partition(b"\r\n\r\n")[2] for request in server.requests]
        assert bodies == [b"one", b"one", b"two", b"two", b"two", b"three"]


async def test_a_server_that_hangs_costs_its_time_and_nobody_elses() -> None:
    """The request ends after its time with the thread it had, the loop goes on all the while, and it is asked again."""
    patience = Patience(request_s=0.3, first_s=0.01, most_s=0.01, give_up_s=30.0)
    async with serving(silence, silence, OK) as server, posting(server, patience) as webhook:
        turns = 0
        webhook.post(alert())
        while not webhook.sent:
            turns += 1
            assert len(threads()) <= 1
            await asyncio.sleep(0.005)
        assert len(server.requests) == 3
        assert server.times[2] - server.times[1] >= 0.25
        assert turns > 20


async def test_a_server_that_drips_does_not_outlast_its_time() -> None:
    """An answer that comes letter by letter, each in time, is broken off all the same, and its thread ends."""

    async def drip(_: bytes, writer: Writer) -> None:
        with suppress(ConnectionError):
            for letter in b"HTTP/1.1 200 OK\r\n" + b"X-More: nothing\r\n" * 1000:
                writer.write(bytes([letter]))
                await writer.drain()
                await asyncio.sleep(0.02)

    patience = Patience(request_s=0.3, first_s=60.0, most_s=60.0)
    async with serving(drip) as server, posting(server, patience) as webhook:
        webhook.post(alert())
        await until(lambda: webhook.error == "no answer within 0.3 s")
        await until(lambda: not threads(), 2.0)
        assert webhook.sent == 0


async def test_what_nobody_takes_is_given_up() -> None:
    """A port where nobody listens: an alert is given up when its time is over, and counted; the next one is tried."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    patience = Patience(request_s=1.0, first_s=0.01, most_s=0.02, give_up_s=0.1)
    async with posting(port, patience) as webhook:
        webhook.post(alert())
        await until(lambda: webhook.given_up == 1)
        assert (webhook.sent, webhook.error) == (0, "Connection refused")
        webhook.post(alert())
        await until(lambda: webhook.given_up == 2)
        assert webhook.status()["waiting"] == 0


async def test_redirects_are_not_followed() -> None:
    """Text and token go where the owner said, and nowhere else; a redirect is a failure that is told."""
    async with serving(OK) as other:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:{other.port}/\r\nContent-Length: 0\r\n\r\n".encode()
        async with serving(moved, moved, OK) as server, posting(server) as webhook:
            webhook.post(alert())
            await until(lambda: webhook.error == "HTTP 307")
            await until(lambda: webhook.sent == 1)
            assert len(server.requests) == 3
        assert other.requests == []


async def test_a_message_that_is_refused_as_such_is_no_dam() -> None:
    """What another try would not change is given up at once, and the next alert passes."""
    large = b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\n\r\n"
    async with serving(large, OK) as server, posting(server) as webhook:
        webhook.post(alert(text="one"))
        webhook.post(alert(text="two"))
        await until(lambda: webhook.sent == 1)
        assert (len(server.requests), webhook.given_up) == (2, 1)
        assert server.requests[1].endswith(b"two")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1", b"\x00\xff" * 200, b"HTTP/1.1 2xx\r\n\r\n", b"SSH-2.0-x\r\n"])
async def test_what_is_no_answer_is_a_failure(answer: bytes) -> None:
    """A server that speaks something else, or hangs up, is asked again."""
    async with serving(answer, OK) as server, posting(server) as webhook:
        webhook.post(alert())
        await until(lambda: webhook.sent == 1)
        assert len(server.requests) == 2


async def test_the_token_is_never_told(capfd: pytest.CaptureFixture[str]) -> None:
    """Not even where the server says it back in place of an answer: in no status and on no line of stderr."""

    async def reflect(request: bytes, writer: Writer) -> None:
        line = next(line for line in request.split(b"\r\n") if line.startswith(b"Authorization"))
        kinds = (line, b"HTTP/1.1 " + line, b"HTTP/1.1 401 " + line, b"HTTP/9 200 " + line)
        writer.write(kinds[len(seen) % 4] + b"\r\n" + line + b"\r\n\r\n" + line)
        seen.append(line)
        await writer.drain()

    seen: list[bytes] = []
    patience = Patience(request_s=5.0, first_s=0.01, most_s=0.01, give_up_s=1.0)
    told = set()
    async with serving(reflect) as server, posting(server, patience) as webhook:
        webhook.post(alert())
        while not webhook.given_up:
            told.add(str(webhook.status()))
            await asyncio.sleep(0.005)
    assert len(seen) > 4 and all(TOKEN.encode() in line for line in seen)
    said = capfd.readouterr()
    assert "HTTP 401" in said.err and "gave up the alert feed_down" in said.err
    assert TOKEN not in said.err + said.out + "".join(told)
    assert "box/alerts" not in said.err, "a topic is as good as a password"


# The queue --------------------------------------------------------------------------------------------------------


async def test_the_oldest_that_waits_makes_room() -> None:
    """However many come while nobody takes them, WAITING are kept, the newest, and the others are counted."""
    async with serving(OK) as server:
        webhook = Webhook(f"http://127.0.0.1:{server.port}/", patience=QUICK)
        for number in range(WAITING + 6):
            webhook.post(alert(text=str(number)))
        assert (webhook.dropped, webhook.status()["waiting"]) == (6, WAITING)
        assert threads() == []
        task = asyncio.create_task(webhook.run())
        await until(lambda: webhook.sent == WAITING)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: not threads())
        assert [request.partition(b"\r\n\r\n")[2] for request in server.requests] == [
            str(number).encode() for number in range(6, WAITING + 6)
        ]


async def test_a_run_that_is_broken_off_loses_nothing() -> None:
    """The alert that was under way is posted by the next run."""
    async with serving(silence, OK) as server:
        webhook = Webhook(f"http://127.0.0.1:{server.port}/", patience=QUICK)
        webhook.post(alert(text="one"))
        task = asyncio.create_task(webhook.run())
        await until(lambda: len(server.requests) == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: not threads(), 2.0)
        async with asyncio.timeout(10):
            again = asyncio.create_task(webhook.run())
            await until(lambda: webhook.sent == 1)
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)
        await until(lambda: not threads())
        assert server.requests[1].endswith(b"one")


async def test_a_name_that_is_looked_up_for_ever_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up cannot be broken off: the loop goes on, there is no second thread, and alerts are given up in time."""
    release = threading.Event()
    lookups: list[str] = []

    def hang(host: str, *_: object, **__: object) -> list[object]:
        lookups.append(host)
        release.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    patience = Patience(request_s=0.1, first_s=0.01, most_s=0.02, give_up_s=0.3)
    async with posting(9, patience, host="ntfy.invalid") as webhook:
        webhook.post(alert())
        turns = 0
        while not webhook.given_up:
            turns += 1
            assert len(threads()) <= 1
            await asyncio.sleep(0.005)
        assert (lookups, webhook.error) == (["ntfy.invalid"], "the last request still hangs")
        assert turns > 10
        release.set()
        await until(lambda: not threads())
        webhook.post(alert())
        await until(lambda: len(lookups) > 1)
        await until(lambda: webhook.error == "Temporary failure in name resolution")


async def test_the_second_address_of_a_name_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name whose first address does not answer at all is reached by its second, within one request."""
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    crowd = [socket.socket() for _ in range(4)]
    for each in crowd:
        # A full backlog: the kernel drops who comes now, as a black hole does.
        each.setblocking(False)
        each.connect_ex(full.getsockname())
    try:
        async with serving(OK) as server:
            found = [
                (socket.AF_INET, socket.SOCK_STREAM, 0, "", address)
                for address in (full.getsockname(), ("127.0.0.1", server.port))
            ]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
            patience = Patience(request_s=2.0, first_s=60.0, most_s=60.0)
            async with posting(server, patience, host="two.invalid") as webhook:
                began = time.monotonic()
                webhook.post(alert())
                await until(lambda: webhook.sent == 1)
                assert time.monotonic() - began >= 0.9, "the first address was tried, for its half of the time"
                assert headers_of(server.requests[0])["host"] == f"two.invalid:{server.port}"
    finally:
        for each in (*crowd, full):
            each.close()


# TLS --------------------------------------------------------------------------------------------------------------


async def test_a_certificate_must_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By TLS nothing is sent to who cannot show a certificate that the system trusts, for that very name."""
    pytest.importorskip("cryptography", reason="the practice extra (cryptography) is not installed")
    from mmpi.practice.hyperliquid.tls import server_context

    context, ca_file = server_context(tmp_path / "tls")
    async with serving(OK, tls=context) as server:
        async with posting(server, scheme="https") as webhook:
            webhook.post(alert())
            await until(lambda: webhook.error.startswith("TLS: "))
            assert "certificate" in webhook.error
        assert server.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
        async with posting(server, scheme="https", host="localhost") as webhook:
            webhook.post(alert())
            await until(lambda: webhook.sent == 1)
        assert headers_of(server.requests[0])["authorization"] == f"Bearer {TOKEN}"


async def test_a_certificate_for_another_name_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trusted authority is not enough."""
    pytest.importorskip("cryptography", reason="the practice extra (cryptography) is not installed")
    from mmpi.practice.hyperliquid.tls import server_context

    context, ca_file = server_context(tmp_path / "tls")
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    async with serving(OK, tls=context) as server:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        async with posting(server, scheme="https", host="ntfy.invalid") as webhook:
            webhook.post(alert())
            await until(lambda: webhook.error.startswith("TLS: "))
            assert "ntfy.invalid" in webhook.error
        assert server.requests == []


async def test_a_hand_shake_that_hangs_is_broken_off() -> None:
    """A server that takes a connection and says nothing of TLS costs its time, and no thread is left."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        patience = Patience(request_s=0.3, first_s=60.0, most_s=60.0)
        async with posting(mute.getsockname()[1], patience, scheme="https") as webhook:
            webhook.post(alert())
            await until(lambda: bool(webhook.error))
            assert webhook.error in ("no answer within 0.3 s", "no answer in time")
            await until(lambda: not threads(), 2.0)


# Bad settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["", "ntfy.example/topic", "ftp://ntfy.example", "https://", "https://me:pw@ntfy.example/"])
def test_what_is_no_address_is_refused(url: str) -> None:
    """One clear error, without a password that may be in it."""
    with pytest.raises(ConfigError, match=r"alerts\.webhook_url") as error:
        Webhook(url)
    assert "pw" not in str(error.value).replace("password", "")


@pytest.mark.parametrize("token", ["two words", "line\nend", "line\r\nX-Evil: 1", "schlüssel", "nul\0"])
def test_what_is_no_token_is_refused_unseen(token: str) -> None:
    """One clear error, which does not show it."""
    with pytest.raises(ConfigError, match=r"webhook\.token.*not shown") as error:
        Webhook("https://ntfy.example/topic", token)
    assert token not in str(error.value)


@pytest.mark.parametrize(
    ("url", "line", "host"),
    [
        ("http://127.0.0.1:{port}", b"POST / HTTP/1.1", "127.0.0.1:{port}"),
        ("http://localhost:{port}/ö/a%20b", b"POST /%C3%B6/a%20b HTTP/1.1", "localhost:{port}"),
    ],
)
async def test_an_address_is_asked_for_as_it_is_meant(url: str, line: bytes, host: str) -> None:
    """Without a path it is the root; letters of a path that HTTP does not have are written as it wants them."""
    async with serving(OK) as server:
        webhook = Webhook(url.format(port=server.port), patience=QUICK)
        task = asyncio.create_task(webhook.run())
        webhook.post(alert())
        await until(lambda: webhook.sent == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: not threads())
        assert server.requests[0].split(b"\r\n")[0] == line
        assert headers_of(server.requests[0])["host"] == host.format(port=server.port)
