"""Web: the page's server on a real port: what it serves, and everything that it refuses."""

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from page_feed import UPGRADE, Feed, frame, stalled, upgrading

from mmpi.channels import WebSettings
from mmpi.errors import ConfigError, RemoteError
from mmpi.telemetry import web, web_guard
from mmpi.telemetry.web import FILES, MAX_CLIENTS, MAX_UNDER_WAY, PAGE, Web
from mmpi.telemetry.web_guard import COMMANDS_BURST, HEADERS, MAX_BODY, MAX_CONNECTIONS, MAX_HEADER, REFUSALS, Rate

ENOUGH_S = 5.0


@asynccontextmanager
async def serving(feed: Feed, settings: WebSettings = WebSettings(port=0)) -> AsyncIterator[Web]:  # noqa: B008
    """Give a server of this feed."""
    server = Web(settings, feed, feed.counters)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@pytest.fixture
async def feed() -> Feed:
    """Return a box without a virtual panel."""
    return Feed()


@pytest.fixture
async def server(feed: Feed) -> AsyncIterator[Web]:
    """Give its server."""
    async with serving(feed) as made:
        yield made


class Answer:
    """One answer, as it came."""

    def __init__(self, text: bytes) -> None:
        head, _, self.body = text.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    def json(self) -> dict[str, Any]:
        """Return the body's JSON object."""
        return dict(json.loads(self.body))


async def raw(server: Web, data: bytes) -> bytes:
    """Send these bytes; return everything that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(data)
        await writer.drain()
        async with asyncio.timeout(ENOUGH_S):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def ask(
    server: Web,
    method: str = "GET",
    path: str = "/",
    headers: "Mapping[str, str | None] | None" = None,
    body: bytes = b"",
) -> Answer:
    """Ask as the page does; `headers` replace the page's own, None leaves one out."""
    own: dict[str, str | None] = {"Host": f"localhost:{server.port}", "Connection": "close"}
    if method == "POST":
        own |= {"Origin": f"http://localhost:{server.port}", "Content-Type": "application/json", "X-Mmpi": "1"}
        own |= {"X-Mmpi-Token": token_of(server), "Content-Length": str(len(body))}
    lines = [f"{name}: {value}" for name, value in {**own, **(headers or {})}.items() if value is not None]
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines])
    return Answer(await raw(server, head.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body))


async def command(server: Web, name: str, reason: str = "tea", **headers: "str | None") -> Answer:
    """Post a command as the page does."""
    return await ask(server, "POST", "/command", headers, json.dumps({"name": name, "reason": reason}).encode())


def token_of(server: Web) -> str:
    """Return the token that the page carries."""
    found = re.search(rb'name="mmpi-token" content="([^"]+)"', server._files["/"][0])
    assert found is not None
    return found[1].decode()


@asynccontextmanager
async def live(server: Web, **headers: str) -> AsyncIterator[ClientWebSocketResponse]:
    """Give a socket as the page has one."""
    own = {"Origin": f"http://localhost:{server.port}", "Host": f"localhost:{server.port}", **headers}
    async with (
        ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{server.port}/live", headers=own) as socket,
    ):
        yield socket


async def told(socket: ClientWebSocketResponse) -> dict[str, Any]:
    """Return the next message."""
    return dict(await socket.receive_json(timeout=ENOUGH_S))


def refused(feed: Feed) -> dict[str, int]:
    """Return what was counted, without zeros."""
    return {name.removeprefix("web_"): number for name, number in feed.counters.items() if number}


# The page -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES)
async def test_the_page_is_served_with_its_policy(server: Web, path: str) -> None:
    """Every file comes with its type, the strict policy and all other headers of protection."""
    answer = await ask(server, path=path)
    assert answer.status == 200
    assert answer.headers["content-type"].split(";")[0] == FILES[path][1]
    assert answer.body.startswith((PAGE / FILES[path][0]).read_bytes()[:40])
    policy = answer.headers["content-security-policy"]
    for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self'",
                 "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"):  # fmt: skip
        assert part in policy
    assert "unsafe" not in policy
    assert {name.lower() for name in HEADERS} <= answer.headers.keys()


class _Tags(HTMLParser):
    """Collects what the policy would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: "list[tuple[str, str | None]]") -> None:
        names = dict(attrs)
        self._script = tag == "script"
        self.bad += [f"{tag} {name}" for name in names if name == "style" or name.startswith("on")]
        self.bad += [f"{tag} {value}" for name, value in attrs if name in ("src", "href") and "//" in (value or "")]
        if tag == "style" or (tag == "script" and "src" not in names):
            self.bad.append(tag)


def test_the_page_needs_nobody_else_and_no_inline_code() -> None:
    """No inline script or style, no other host, and no data is ever put into the page as markup."""
    tags = _Tags()
    tags.feed((PAGE / "index.html").read_text("utf-8"))
    assert tags.bad == []
    script = (PAGE / "page.js").read_text("utf-8")
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "import("):
        assert word not in script
    for name in ("page.js", "page.css", "index.html"):
        urls = re.findall(r"https?://[^\s\"'`)]+", (PAGE / name).read_text("utf-8"))
        assert set(urls) <= {"http://www.w3.org/2000/svg"}


async def test_each_run_has_a_token_of_its_own(server: Web, feed: Feed) -> None:
    """It is in the page, is long, and another server's differs."""
    page = (await ask(server)).body.decode()
    assert f'content="{token_of(server)}"' in page
    assert len(token_of(server)) >= 40
    assert token_of(Web(WebSettings(port=0), feed)) != token_of(server)


async def test_the_state_can_be_read_without_the_page(server: Web, feed: Feed) -> None:
    """/status.json is the newest state."""
    answer = await ask(server, path="/status.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["box"]["sequence"] == feed.snapshot.sequence


async def test_metrics_are_there_if_they_are_wanted(server: Web, feed: Feed) -> None:
    """/metrics is what the source renders, with its type; by web.metrics = false there is none."""
    answer = await ask(server, path="/metrics")
    assert (answer.status, answer.body) == (200, b"mmpi_up 1\n")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    async with serving(feed, WebSettings(port=0, metrics=False)) as without:
        assert (await ask(without, path="/metrics")).status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nothing"), ("GET", "/page.js/"), ("GET", "/../pyproject.toml"), ("GET", "/page/index.html"),
     ("GET", "//"), ("GET", "/command"), ("HEAD", "/"), ("PUT", "/command"), ("DELETE", "/"), ("OPTIONS", "/command"),
     ("GET", "/%2e%2e")],
)  # fmt: skip
async def test_there_is_nothing_else(server: Web, feed: Feed, method: str, path: str) -> None:
    """Other paths and methods are not found, and no file but the five is ever looked for."""
    assert (await ask(server, method, path)).status == 404
    assert refused(feed) == {"not_found": 1}


async def test_it_listens_on_the_loopback_address_only(server: Web) -> None:
    """No other address of this machine answers."""
    assert server._runner is not None
    assert [address[0] for address in server._runner.addresses] == ["127.0.0.1"]


async def test_a_port_that_is_taken_is_said(server: Web, feed: Feed) -> None:
    """One clear error, and the first server goes on."""
    with pytest.raises(ConfigError, match=rf"web.port = {server.port}: .*in use"):
        await Web(WebSettings(port=server.port), feed).start()
    assert (await ask(server)).status == 200


async def test_it_serves_until_it_is_cancelled(feed: Feed) -> None:
    """run() listens, and cancelled it frees the port."""
    server = Web(WebSettings(port=0), feed)
    running = asyncio.create_task(server.run())
    while not server.port or server._runner is None:
        await asyncio.sleep(0.01)
    assert (await ask(server)).status == 200
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", server.port))


# Who may ask --------------------------------------------------------------------------------------------------------

STRANGERS = {
    "another name": ("host", {"Host": "evil.example:{port}"}),
    "a name that ends alike": ("host", {"Host": "evil-localhost:{port}"}),
    "another port": ("host", {"Host": "localhost:1"}),
    "no port": ("host", {"Host": "localhost"}),
    "an address of the network": ("host", {"Host": "192.168.1.9:{port}"}),
    "no name": ("host", {"Host": ""}),
    "another site": ("site", {"Sec-Fetch-Site": "cross-site"}),
    "another port of this machine": ("site", {"Sec-Fetch-Site": "same-site"}),
    "another origin": ("origin", {"Origin": "http://evil.example"}),
    "an origin of another port": ("origin", {"Origin": "http://localhost:1"}),
    "an origin that is hidden": ("origin", {"Origin": "null"}),
    "an encrypted origin": ("origin", {"Origin": "https://localhost:{port}"}),
    "the same machine by another name": ("origin", {"Origin": "http://127.0.0.1:{port}"}),
}


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize("what", ["page", "state", "command", "socket"])
async def test_strangers_are_refused(server: Web, feed: Feed, who: str, what: str) -> None:
    """Whatever it asks for, a request that is not of our own page is refused and counted, and nothing is done."""
    why, changes = STRANGERS[who]
    headers = {name: value.format(port=server.port) for name, value in changes.items()}
    if what == "command":
        answer = await ask(server, "POST", "/command", headers, b'{"name": "kill"}')
    elif what == "socket":
        own = {"Origin": f"http://localhost:{server.port}"}
        answer = await ask(server, path="/live", headers={**UPGRADE, **own, **headers})
    else:
        answer = await ask(server, path="/" if what == "page" else "/status.json", headers=headers)
    assert answer.status == 403
    assert answer.json()["refused"] == why
    assert token_of(server).encode() not in answer.body
    assert "content-security-policy" in answer.headers
    assert refused(feed) == {why: 1}
    assert (feed.asked, server.clients) == ([], 0)


async def test_two_names_are_none(server: Web, feed: Feed) -> None:
    """A request with two Host headers, or none, is refused."""
    for lines in (b"Host: localhost:%d\r\nHost: evil.example\r\n" % server.port, b""):
        text = await raw(server, b"GET / HTTP/1.1\r\n" + lines + b"Connection: close\r\n\r\n")
        assert Answer(text).status in (400, 403)
    assert sum(refused(feed).values()) == 2


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
async def test_the_names_of_this_machine_are_good(server: Web, feed: Feed, name: str) -> None:
    """The page, its socket and its commands work under each of them."""
    host = f"{name}:{server.port}"
    assert (await ask(server, headers={"Host": host, "Sec-Fetch-Site": "none"})).status == 200
    own = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    answer = await command(server, "pause", **own)
    assert answer.status == 200
    async with live(server, Host=host, Origin=f"http://{host}") as out:
        assert (await told(out))["kind"] == "history"
    assert refused(feed) == {}


UNFIT = {
    "no origin": ("origin", {"Origin": None}),
    "a form's type": ("type", {"Content-Type": "application/x-www-form-urlencoded"}),
    "plain text": ("type", {"Content-Type": "text/plain"}),
    "no type": ("type", {"Content-Type": None}),
    "no own header": ("header", {"X-Mmpi": None}),
    "another own header": ("header", {"X-Mmpi": "2"}),
    "no token": ("token", {"X-Mmpi-Token": None}),
    "another token": ("token", {"X-Mmpi-Token": "x" * 43}),
    "a token that is no text": ("token", {"X-Mmpi-Token": "\udcff\udcfe"}),
    "a long body": ("body", {"Content-Length": str(MAX_BODY + 1)}),
}


@pytest.mark.parametrize("what", UNFIT)
async def test_a_command_must_come_from_the_page(server: Web, feed: Feed, what: str) -> None:
    """Without the page's origin, type, header and token nothing is done, not even a kill."""
    why, headers = UNFIT[what]
    answer = await command(server, "kill", **headers)
    assert answer.status == REFUSALS[why][0]
    assert answer.json()["refused"] == why
    assert (refused(feed), feed.asked) == ({why: 1}, [])


BODIES = {
    "no JSON": b"kill",
    "half of it": b'{"name": "kill"',
    "no object": b'["kill"]',
    "no name": b"{}",
    "a name that is none": b'{"name": 1}',
    "no such command": b'{"name": "buy"}',
    "a command that only hands give": b'{"name": "arm"}',
    "a field too many": b'{"name": "kill", "size": 3}',
    "no text": b'{"name": "\xff\xfe"}',
    "deep": b'{"name": ' + b"[" * 900,
    "a button that is not there": b'{"name": "arm_down"}',
}


@pytest.mark.parametrize("what", BODIES)
async def test_a_body_that_is_no_command_is_refused(server: Web, feed: Feed, what: str) -> None:
    """One clear answer, one count, nothing done."""
    answer = await ask(server, "POST", "/command", body=BODIES[what])
    assert (answer.status, answer.json()["refused"]) == (400, "command")
    assert (refused(feed), feed.asked) == ({"command": 1}, [])


async def test_a_body_in_chunks_is_measured_as_it_comes(server: Web, feed: Feed) -> None:
    """One that does not say how long it is gets no further than the limit."""
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    head = {"Content-Length": None, "Transfer-Encoding": "chunked"}
    answer = await ask(server, "POST", "/command", head, chunk * 50 + b"0\r\n\r\n")
    assert (answer.status, refused(feed), feed.asked) == (413, {"body": 1}, [])


# What is no request -------------------------------------------------------------------------------------------------

NONSENSE = {
    "noise": bytes(range(256)) * 20 + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 200 + b"\r\n\r\n",
    "a long line": b"GET /" + b"a" * (2 * MAX_HEADER) + b" HTTP/1.1\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nA: " + b"a" * (2 * MAX_HEADER) + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + b"".join(b"A%d: a\r\n" % n for n in range(500)) + b"\r\n",
    "two lengths": b"POST /command HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a bad length": b"POST /command HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "an odd version": b"GET / HTTP/9.9\r\n\r\n",
}


@pytest.mark.parametrize("what", NONSENSE)
async def test_what_is_no_request_is_refused_and_counted(
    server: Web, feed: Feed, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection ends with a refusal, nothing of it is logged, and the next request is answered."""
    answer = Answer(await raw(server, NONSENSE[what]))
    assert answer.status == 400
    assert b"aaaa" not in answer.body
    assert refused(feed) == {"malformed": 1}
    assert caplog.records == []
    assert (await ask(server)).status == 200


async def test_a_head_that_never_ends_is_cut_off(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends a byte now and then has a fixed time for the whole head (slow-loris)."""
    monkeypatch.setattr(web_guard, "HEAD_S", 0.4)
    async with serving(feed) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        began = time.monotonic()

        async def dribble() -> None:
            for letter in b"GET / HTTP/1.1\r\nHost: localhost" * 10:
                writer.write(bytes([letter]))
                await asyncio.sleep(0.02)

        dribbling = asyncio.create_task(dribble())
        async with asyncio.timeout(ENOUGH_S):
            assert await reader.read() == b""
        assert time.monotonic() - began < 2
        dribbling.cancel()
        await asyncio.gather(dribbling, return_exceptions=True)
        writer.close()
    assert refused(feed) == {"unfinished": 1}


async def test_a_body_that_does_not_come_is_given_up(server: Web, feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head said 20 bytes, and half of them came."""
    monkeypatch.setattr(web_guard, "BODY_S", 0.2)
    answer = await ask(server, "POST", "/command", {"Content-Length": "20"}, b'{"name": "')
    assert (answer.status, refused(feed), feed.asked) == (408, {"slow": 1}, [])


async def test_idle_connections_lock_nobody_out(server: Web, feed: Feed) -> None:
    """Three times as many as there is room for: the oldest are cut off, sockets stay, a kill goes through."""
    async with live(server) as out:
        await told(out)
        writers = [(await asyncio.open_connection("127.0.0.1", server.port))[1] for _ in range(3 * MAX_CONNECTIONS)]
        assert (await command(server, "kill")).status == 200
        first = (await told(out))["box"]["sequence"]
        assert (await told(out))["box"]["sequence"] > first
        for writer in writers:
            writer.close()
    assert feed.asked == [("kill", "tea")]
    assert refused(feed)["connections"] >= 2 * MAX_CONNECTIONS


async def test_a_client_that_takes_no_answer_is_cut_off(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that nobody reads holds a connection for a fixed time only."""
    monkeypatch.setattr(web, "ANSWER_S", 0.3)
    monkeypatch.setattr(Feed, "metrics", lambda _: (b"#" * 20_000_000, "text/plain"))
    async with serving(feed) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % server.port)
        began = time.monotonic()
        while not refused(feed) and time.monotonic() - began < ENOUGH_S:
            await asyncio.sleep(0.02)
        assert refused(feed) == {"slow": 1}
        writer.close()
        del reader


# Commands -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kill", "pause", "resume", "flatten"])
async def test_commands_are_handed_on(server: Web, feed: Feed, name: str) -> None:
    """Name and reason reach the source, and what it says comes back."""
    answer = await command(server, name, "I\tsaid\x00so\n")
    assert answer.status == 200
    assert answer.json()["final"] is True
    assert feed.asked == [(name, "I said so")]


async def test_a_virtual_panel_has_buttons() -> None:
    """In the demo the page holds and lets go of both buttons, beside the commands."""
    feed = Feed(panel=True)
    async with serving(feed) as server:
        for name in ("arm_down", "arm_up", "red_down", "red_up", "kill"):
            assert (await command(server, name)).status == 200
    assert [name for name, _ in feed.asked] == ["arm_down", "arm_up", "red_down", "red_up", "kill"]


async def test_a_failure_of_the_box_is_told(server: Web, feed: Feed) -> None:
    """The source's error comes back in its words; a fault of ours is counted, and the server goes on."""
    feed.fault = RemoteError("the guardian does not answer")
    answer = await command(server, "kill")
    assert (answer.status, answer.json()) == (502, {"error": "the guardian does not answer"})
    feed.fault = ZeroDivisionError("of a secret")
    answer = await command(server, "kill")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert (await ask(server, path="/status.json")).status == 500
    feed.fault = None
    assert (await command(server, "kill")).status == 200
    assert refused(feed) == {"error": 2}


async def test_a_flood_of_commands_is_refused_but_never_a_kill(server: Web, feed: Feed) -> None:
    """After the burst pauses are refused; every kill of a hundred is obeyed, before and after."""
    answers = [(await command(server, "pause")).status for _ in range(30)]
    assert answers[: int(COMMANDS_BURST)] == [200] * int(COMMANDS_BURST)
    assert answers.count(429) >= 15
    kills = [(await command(server, "kill")).status for _ in range(100)]
    assert kills == [200] * 100
    assert refused(feed)["rate"] == answers.count(429)


async def test_kills_join_the_one_that_is_under_way(server: Web, feed: Feed) -> None:
    """Thirty at a time are one kill with thirty answers; the next one after it is a new one."""
    feed.hold.clear()
    kills = [asyncio.create_task(command(server, "kill")) for _ in range(30)]
    while feed.counters["web_joined"] < 29 or not feed.asked:
        await asyncio.sleep(0.01)
    assert len(feed.asked) == 1
    feed.hold.set()
    answers = [await kill for kill in kills]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    await command(server, "kill")
    assert len(feed.asked) == 2


async def test_a_kill_goes_on_when_its_page_is_gone(server: Web, feed: Feed) -> None:
    """Who asked may leave; what was asked for is done."""
    feed.hold.clear()
    asking = asyncio.create_task(command(server, "kill"))
    while not feed.asked:
        await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    feed.hold.set()
    while feed.sign != "latched":
        await asyncio.sleep(0.01)


async def test_a_kill_that_hangs_is_not_the_last(server: Web, feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that gets no answer is given up and said to be unknown, so that the next one begins anew."""
    monkeypatch.setattr(web, "KILL_S", 0.2)
    feed.hold.clear()
    answer = await command(server, "kill")
    assert answer.status == 504
    assert "not known" in answer.json()["error"]
    feed.hold.set()
    assert (await command(server, "kill")).status == 200
    assert len(feed.asked) == 2


async def test_commands_that_hang_leave_room_for_a_kill(server: Web, feed: Feed) -> None:
    """So many may be under way; the next is refused, a kill is not."""
    feed.hold.clear()
    hanging = [asyncio.create_task(command(server, "flatten")) for _ in range(MAX_UNDER_WAY)]
    while len(feed.asked) < MAX_UNDER_WAY:
        await asyncio.sleep(0.01)
    assert (await command(server, "pause")).json()["refused"] == "busy"
    killing = asyncio.create_task(command(server, "kill"))
    while ("kill", "tea") not in feed.asked:
        await asyncio.sleep(0.01)
    feed.hold.set()
    assert [(await each).status for each in (*hanging, killing)] == [200] * (MAX_UNDER_WAY + 1)


def test_permits_fill_up_by_themselves() -> None:
    """A burst, then so many a second, and never more than the burst."""
    rate = Rate(5.0, 10.0)
    assert [rate.take(100.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert [rate.take(100.4) for _ in range(3)] == [True, True, False]
    assert sum(rate.take(1_000.0) for _ in range(20)) == 10


# The socket ---------------------------------------------------------------------------------------------------------


async def test_the_past_comes_first_and_then_the_news(server: Web, feed: Feed) -> None:
    """A client gets the history, the state of the moment, and four states a second from then on."""
    async with live(server) as out:
        assert (await told(out))["kind"] == "history"
        first = await told(out)
        assert first["kind"] == "state"
        began, sequences = time.monotonic(), [first["box"]["sequence"]]
        for _ in range(4):
            sequences.append((await told(out))["box"]["sequence"])
        assert sequences == sorted(set(sequences))
        assert time.monotonic() - began < 2.5
    assert refused(feed) == {}


async def test_a_state_is_made_once_for_all(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many clients there are, each state is asked for once."""
    calls: list[int] = []
    state = Feed.state
    monkeypatch.setattr(Feed, "state", lambda self: (calls.append(self._sequence), state(self))[1])
    async with serving(feed) as server, live(server) as one, live(server) as two, live(server) as three:
        calls.clear()
        for out in (one, two, three):
            for _ in range(4):
                await told(out)
    assert len(calls) == len(set(calls))
    assert calls


async def test_there_is_room_for_so_many_pages(server: Web, feed: Feed) -> None:
    """One more is refused, until one leaves."""
    async with ClientSession() as session:
        url = f"http://localhost:{server.port}/live"
        origin = {"Origin": f"http://localhost:{server.port}"}
        outs = [await session.ws_connect(url, headers=origin) for _ in range(MAX_CLIENTS)]
        assert server.clients == MAX_CLIENTS
        with pytest.raises(WSServerHandshakeError) as caught:
            await session.ws_connect(url, headers=origin)
        assert caught.value.status == 503
        await outs.pop().close()
        while server.clients == MAX_CLIENTS:
            await asyncio.sleep(0.01)
        outs.append(await session.ws_connect(url, headers=origin))
        for out in outs:
            assert (await told(out))["kind"] == "history"
            assert (await told(out))["kind"] == "state"
            await out.close()
    assert refused(feed)["clients"] == 1


async def test_a_client_that_talks_is_shown_out(server: Web, feed: Feed) -> None:
    """The socket only tells: text, bytes, a long message and one that is no text end it, and are counted."""
    said: list[tuple[str | bytes, int]] = [("kill", 1008), (b"kill", 1008), ("x" * (MAX_BODY + 1), 1009)]
    for text, code in said:
        async with live(server) as out:
            await (out.send_str(text) if isinstance(text, str) else out.send_bytes(text))
            async with asyncio.timeout(ENOUGH_S):
                while (await out.receive()).type is WSMsgType.TEXT:
                    pass
            assert out.close_code == code
    assert refused(feed) == {"message": len(said)}
    assert feed.asked == []


FRAMES = {
    "without a mask": b"\x81\x04kill",
    "a reserved bit": b"\xf1\x84\x00\x00\x00\x00kill",
    "no such kind": b"\x83\x80\x00\x00\x00\x00",
    "a huge length": b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00",
    "a ping of a megabyte": b"\x89\xff\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00",
    "no text": b"\x81\x82\x00\x00\x00\x00\xff\xfe",
    "noise": bytes(range(255, 128, -1)),
}


@pytest.mark.parametrize("what", FRAMES)
async def test_frames_that_are_none_end_the_socket(server: Web, feed: Feed, what: str) -> None:
    """The connection is closed, nothing is done, and other clients go on."""
    async with live(server) as good:
        await told(good)
        answer = await raw(server, upgrading(server.port) + FRAMES[what])
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert (await told(good))["kind"] == "state"
    assert feed.asked == []
    assert refused(feed).keys() <= {"message", "states_skipped"}


@pytest.mark.parametrize(
    "headers",
    [{}, {"Upgrade": "websocket"}, {"Upgrade": "websocket", "Connection": "Upgrade"},
     {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "short"}],
)  # fmt: skip
async def test_half_an_upgrade_is_refused(server: Web, feed: Feed, headers: dict[str, str]) -> None:
    """/live is a WebSocket, and what does not ask for one properly gets none."""
    answer = await ask(server, path="/live", headers={"Origin": f"http://localhost:{server.port}", **headers})
    assert (answer.status, refused(feed), server.clients) == (400, {"upgrade": 1}, 0)


class Torrent(Feed):
    """A feed with far more to say than anybody can take, so that a client that does not read stalls soon."""

    async def wait(self) -> None:
        """Return at once, with news."""
        await asyncio.sleep(0.002)
        self.news()

    def state(self) -> bytes:
        """Return a state with a long tail of blanks."""
        return super().state() + b" " * 20_000


async def test_a_slow_client_makes_nobody_wait() -> None:
    """Beside one that does not read others get every state in time, and no more than a bounded heap waits for it."""
    feed = Torrent()
    async with serving(feed) as server:
        _, writer = await stalled(server.port)
        async with live(server) as out:
            for _ in range(100):
                await told(out)
            assert feed.counters["web_states_skipped"] > 20
            assert server._runner is not None
            assert server._runner.server is not None
            transports = [each.transport for each in server._runner.server.connections]
            assert max(each.get_write_buffer_size() for each in transports if each is not None) < 150_000
            assert (await told(out))["box"]["sequence"] >= feed.snapshot.sequence - 20
        writer.close()


async def test_a_sleeper_that_wakes_hears_the_newest() -> None:
    """What was said meanwhile is skipped, but for the little that was in the pipe; each message is one whole state."""
    feed = Torrent()
    async with serving(feed) as server:
        reader, writer = await stalled(server.port)
        async with asyncio.timeout(ENOUGH_S):
            while feed.counters["web_states_skipped"] < 100:
                await asyncio.sleep(0.02)
            woke = feed.snapshot.sequence
            messages = [json.loads(await frame(reader)) for _ in range(16)]
        sequences = [each["box"]["sequence"] for each in messages if each["kind"] == "state"]
        assert messages[0]["kind"] == "history"
        assert sequences == sorted(set(sequences))
        assert sequences[-1] >= woke
        writer.close()


async def test_a_client_that_stands_still_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fixed time without taking anything it loses its place."""
    monkeypatch.setattr(web, "ANSWER_S", 0.3)
    async with serving(Torrent()) as server:
        _, writer = await stalled(server.port)
        assert server.clients == 1
        async with asyncio.timeout(ENOUGH_S):
            while server.clients:
                await asyncio.sleep(0.02)
        writer.close()


async def test_a_fault_of_the_source_is_not_the_end(server: Web, feed: Feed) -> None:
    """A state that cannot be made is counted, and the next one is told."""
    async with live(server) as out:
        await told(out)
        feed.fault = ZeroDivisionError("once")
        async with asyncio.timeout(ENOUGH_S):
            while not feed.counters["web_error"]:
                await asyncio.sleep(0.02)
        feed.fault = None
        before = feed.snapshot.sequence
        async with asyncio.timeout(ENOUGH_S):
            while (await told(out))["box"]["sequence"] <= before:
                pass


async def test_a_past_that_cannot_be_told_ends_one_socket(
    server: Web, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted, the socket is closed, and the next one is served."""
    with monkeypatch.context() as patch:
        patch.setattr(Feed, "history", lambda _: 1 / 0)
        async with live(server) as out:
            assert (await out.receive(timeout=ENOUGH_S)).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
    assert refused(feed) == {"error": 1}
    async with live(server) as out:
        assert (await told(out))["kind"] == "history"
    assert server.clients <= 1


async def test_closing_ends_everything(feed: Feed) -> None:
    """Sockets, a kill under way and the port: nothing of a server is left, and closing takes no second."""
    server = Web(WebSettings(port=0), feed)
    await server.start()
    before = asyncio.all_tasks()
    feed.hold.clear()
    killing = asyncio.create_task(command(server, "kill"))
    async with live(server) as out:
        await told(out)
        while not feed.asked:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        await server.close()
        assert time.monotonic() - began < 1.5
        while not out.closed:
            await out.receive(timeout=ENOUGH_S)
    await asyncio.gather(killing, return_exceptions=True)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - before == set()
    assert server.clients == 0


def test_everything_that_is_counted_is_named() -> None:
    """Reasons are a fixed set: what the code refuses for is in the table, and all of the table is used."""
    text = "".join((PAGE.parent / name).read_text("utf-8") for name in ("web.py", "web_guard.py"))
    named = set(re.findall(r'refuse\("(\w+)"|return "(\w+)"$|"web_(\w+)"', text, re.MULTILINE))
    used = {name for group in named for name in group if name}
    assert used - {"states_skipped", "joined"} <= REFUSALS.keys() | {"body"}
