"""mmpi.runtime.ipc on real Unix sockets: conversations, and peers that flood, stall or talk nonsense."""

import asyncio
import os
import socket
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_builders import until

from mmpi.errors import ConfigError, RefusedError, RemoteError
from mmpi.runtime import ipc, peers
from mmpi.runtime.ipc import MAX_AT_WORK, MAX_CLIENTS, Answer, ControlServer, Pace, Peer, call

ECHO = b'{"n":0}\n'


async def echo(request: dict[str, Any], peer: Peer, answer: Answer) -> None:
    """Answer `parts` times, the last one final; sleep first if asked to."""
    await asyncio.sleep(request.get("sleep", 0))
    parts = request.get("parts", 1)
    for part in range(1, parts + 1):
        who, last = {"pid": peer.pid, "hands": peer.hands}, {"final": part == parts}
        await answer({"part": part, **who, **last, "fill": "x" * request.get("fill", 0)})


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[ControlServer]:
    """Give a server that echoes."""
    server = ControlServer(folder / "guardian.sock", echo)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def ask(server: ControlServer, request: dict[str, Any], timeout_s: float = 5.0) -> list[dict[str, Any]]:
    """Return all answers to a request."""
    return [answer async for answer in call(server.path, request, timeout_s)]


async def opened(server: ControlServer, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection that has sent this."""
    reader, writer = await asyncio.open_unix_connection(sock=await ipc._connected(server.path, 5.0))
    writer.write(data)
    return reader, writer


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Return what a connection still had to say before the server closed it."""
    try:
        async with asyncio.timeout(5):
            return await reader.read(-1)
    except ConnectionResetError:
        return b""


async def test_a_conversation(tmp_path: Path) -> None:
    """A request gets its answers in order, the last one is final, and the peer's process id is the kernel's word."""
    async with serving(tmp_path) as server:
        answers = await ask(server, {"parts": 3})
        assert [(each["part"], each["final"], each["pid"]) for each in answers] == [
            (1, False, os.getpid()), (2, False, os.getpid()), (3, True, os.getpid()),
        ]  # fmt: skip


async def test_many_requests_on_one_connection(tmp_path: Path) -> None:
    """Requests that come together are answered one after the other."""
    async with serving(tmp_path) as server:
        reader, writer = await opened(server, b'{"parts":2}\n{"parts":1}\n')
        parts = [(await reader.readline()).split(b",")[0] for _ in range(3)]
        writer.close()
        assert parts == [b'{"part":1', b'{"part":2', b'{"part":1']


async def test_the_socket_is_private_and_goes_away(tmp_path: Path) -> None:
    """Others than user and group cannot connect, and nothing is left after the end."""
    async with serving(tmp_path) as server:
        assert stat.S_IMODE(server.path.stat().st_mode) == 0o660
    assert not server.path.exists()


async def test_a_second_server_is_refused(tmp_path: Path) -> None:
    """While one listens no other takes its place, and the first goes on."""
    async with serving(tmp_path) as server:
        with pytest.raises(RefusedError, match="another guardian is listening"):
            await ControlServer(server.path, echo).start()
        assert await ask(server, {})


async def test_a_server_that_is_too_busy_is_not_replaced(tmp_path: Path) -> None:
    """A socket whose queue is full belongs to somebody alive."""
    path = tmp_path / "guardian.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(path))
        busy.listen(0)
        first.connect(str(path))
        with pytest.raises(RefusedError, match="another guardian is listening"):
            await ControlServer(path, echo).start()
        assert path.exists()


async def test_a_dead_servers_socket_is_replaced(tmp_path: Path) -> None:
    """What a killed guardian left behind does not keep the next one out."""
    path = tmp_path / "guardian.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(tmp_path) as server:
        assert await ask(server, {})


async def test_another_file_is_not_replaced(tmp_path: Path) -> None:
    """A file that is no socket is left alone."""
    (tmp_path / "guardian.sock").write_text("precious")
    with pytest.raises(RefusedError, match="exists and is not a socket"):
        async with serving(tmp_path):
            pass
    assert (tmp_path / "guardian.sock").read_text() == "precious"


async def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    """A runtime folder whose socket's name the kernel cannot take is one clear error."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    with pytest.raises(ConfigError, match=r"guardian\.sock: no socket can be opened here: AF_UNIX path too long"):
        async with serving(folder):
            pass


async def test_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of another user gets no answer."""
    monkeypatch.setattr(peers, "credentials", lambda _: (1, os.getuid() + 12345))
    async with serving(tmp_path) as server:
        with pytest.raises(RemoteError, match="closed the connection without an answer|reset by peer"):
            await ask(server, {})
        assert server.refused == 1


@pytest.mark.parametrize(
    "data", [b"kill\n", b"[1]\n", b"\n", b'{"cmd":\n', b"\xff\xfe\n", b"7\n", b"[" * 5000 + b"\n", b"x" * 2**20 + b"\n"]
)
async def test_nonsense_costs_its_own_connection(tmp_path: Path, data: bytes) -> None:
    """What is no JSON object, or a line of a megabyte, is closed and counted; others are served."""
    async with serving(tmp_path) as server:
        reader, writer = await opened(server, data + ECHO)
        assert await ended(reader) == b""
        writer.close()
        assert server.refused == 1
        assert await ask(server, {})


async def test_half_a_line_and_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that does not come whole in time is closed; until then the others are served."""
    monkeypatch.setattr(ipc, "IDLE_S", 0.05)
    async with serving(tmp_path) as server:
        reader, writer = await opened(server, b'{"cmd"')
        assert await ask(server, {})
        assert await ended(reader) == b""
        writer.close()
        assert server.refused == 1


async def test_a_handler_at_work_is_not_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for asking does not run while an answer is being prepared."""
    monkeypatch.setattr(ipc, "IDLE_S", 0.02)
    async with serving(tmp_path) as server:
        assert (await ask(server, {"sleep": 0.06}))[-1]["final"]


async def test_silent_connections_make_room(tmp_path: Path) -> None:
    """However many connections say nothing, who asks is served: the one that was silent longest is closed."""
    async with serving(tmp_path) as server:
        silent = [await opened(server) for _ in range(MAX_CLIENTS + 8)]
        await until(lambda: server.refused == 0 and len(server._conversations) >= MAX_CLIENTS)
        assert await ask(server, {})
        assert await ended(silent[0][0]) == b""
        for _, writer in silent:
            writer.close()


async def test_busy_connections_do_not(tmp_path: Path) -> None:
    """Conversations that are being answered are not closed for a newcomer."""
    async with serving(tmp_path) as server:
        busy = [asyncio.create_task(ask(server, {"sleep": 0.1})) for _ in range(MAX_AT_WORK)]
        await until(lambda: server._at_work == MAX_AT_WORK)
        with pytest.raises(RemoteError):
            await ask(server, {})
        assert all(answers[-1]["final"] for answers in await asyncio.gather(*busy))


async def test_urgent_requests_have_room_of_their_own(tmp_path: Path) -> None:
    """Where all places are taken by conversations, a press is served, an ordinary question is not."""
    async with serving(tmp_path) as server:
        busy = [asyncio.create_task(ask(server, {"sleep": 0.3})) for _ in range(MAX_AT_WORK)]
        await until(lambda: server._at_work == MAX_AT_WORK)
        assert (await ask(server, {"cmd": "press"}))[-1]["final"]
        assert not any(task.done() for task in busy)
        with pytest.raises(RemoteError):
            await ask(server, {"cmd": "status"})
        assert all(answers[-1]["final"] for answers in await asyncio.gather(*busy))


async def test_more_presses_than_places_wait_in_line(tmp_path: Path) -> None:
    """However many press at once, each is answered."""
    async with serving(tmp_path) as server:
        count = MAX_CLIENTS + 30
        pressed = [ask(server, {"cmd": "press", "sleep": 0.05}) for _ in range(count)]
        assert all(answers[-1]["final"] for answers in await asyncio.gather(*pressed))
        assert server.refused == 0


async def test_a_press_does_not_wait_for_its_turn(tmp_path: Path) -> None:
    """Turns that are taken for a long time make a question wait, and a press not."""
    async with serving(tmp_path) as server:
        for _ in range(1000):
            server._requests.reserve(asyncio.get_running_loop().time())
        assert await ask(server, {"cmd": "kill"}, 0.5)
        with pytest.raises(RemoteError, match=r"did not answer within 0\.05 s"):
            await ask(server, {"cmd": "status"}, 0.05)


@given(
    st.lists(st.floats(min_value=0, max_value=0.5), min_size=1, max_size=200),
    st.floats(min_value=1, max_value=1000),
    st.integers(min_value=1, max_value=50),
)
def test_pace(pauses: list[float], per_s: float, burst: int) -> None:
    """Turns come in order, never more than a burst and the rate's share in any time, and at once after a long rest."""
    pace, now, turns = Pace(per_s, burst), 1000.0, []
    for pause in pauses:
        now += pause
        turns.append(now + pace.reserve(now))
    assert turns == sorted(turns)
    for first, begin in enumerate(turns):
        for last in range(first, len(turns)):
            assert last - first + 1 <= burst + 1 + (turns[last] - begin) * per_s + 1e-3
    assert pace.reserve(now + 1e6) == 0


async def test_a_handler_that_fails_costs_its_connection(tmp_path: Path) -> None:
    """A failure in serving is told to the loop's own handler, and others are served."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def serve(request: dict[str, Any], peer: Peer, answer: Answer) -> None:
        await echo({"parts": 1 // request["n"]}, peer, answer)

    server = ControlServer(tmp_path / "guardian.sock", serve)
    await server.start()
    with pytest.raises(RemoteError, match="closed the connection"):
        await ask(server, {"n": 0})
    assert await ask(server, {"n": 1})
    await server.close()
    assert [type(each["exception"]) for each in complaints] == [ZeroDivisionError]


async def test_a_full_queue_is_waited_in(tmp_path: Path) -> None:
    """A client that finds the kernel's queue full waits in it, and gives up when its time is over."""
    path = tmp_path / "guardian.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(path))
        busy.listen(0)
        first.connect(str(path))
        with pytest.raises(RemoteError, match=r"did not answer within 0\.1 s"):
            await anext(call(path, {}, 0.1))

        def serve() -> None:
            asked = b""
            while not asked:
                # Those that gave up are in the queue, too.
                with busy.accept()[0] as link:
                    asked = link.recv(100)
                    if asked:
                        link.sendall(b'{"final":true}\n')

        asking = asyncio.create_task(anext(call(path, {}, 5.0)))
        await asyncio.sleep(0)
        first.close()
        await asyncio.to_thread(serve)
        assert (await asking)["final"]


async def test_a_flood_does_not_delay_others(tmp_path: Path) -> None:
    """While a peer asks as fast as it can, another's question is answered at once, and so is the loop's own work."""
    async with serving(tmp_path) as server:
        reader, writer = await opened(server, ECHO * 50_000)
        drain = asyncio.create_task(reader.read(-1))
        longest, asked = 0.0, []
        for _ in range(5):
            begun = time.monotonic()
            await ask(server, {})
            asked.append(time.monotonic() - begun)
            for _ in range(20):
                begun = time.monotonic()
                await asyncio.sleep(0)
                longest = max(longest, time.monotonic() - begun)
        assert not drain.done()
        writer.close()
        await asyncio.gather(drain, return_exceptions=True)
        assert sorted(asked)[2] < 0.1
        assert longest < 0.2


async def test_who_does_not_read_answers_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that asks and never reads costs its connection once the socket is full."""
    monkeypatch.setattr(ipc, "WRITE_S", 0.05)
    async with serving(tmp_path) as server:
        _, writer = await opened(server, b'{"parts":1000,"fill":10000}\n')
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: server.refused == 1)
        assert await ask(server, {})
        writer.transport.abort()


async def test_nobody_there(tmp_path: Path) -> None:
    """Without a guardian the error says how to start one."""
    with pytest.raises(RemoteError, match="no guardian is listening; start one with: mmpi guardian"):
        await anext(call(tmp_path / "guardian.sock", {}, 1.0))


async def test_no_answer_in_time(tmp_path: Path) -> None:
    """A guardian that hangs is told apart from none."""
    async with serving(tmp_path) as server:
        with pytest.raises(RemoteError, match=r"did not answer within 0\.05 s"):
            await ask(server, {"sleep": 1}, 0.05)


@pytest.mark.parametrize("answer", [b"not json\n", b"[1]\n", b"x" * 2**20])
async def test_an_unreadable_answer(tmp_path: Path, answer: bytes) -> None:
    """An answer that cannot be read is the other side's failure, not a crash of ours."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    path = tmp_path / "s"
    async with await asyncio.start_unix_server(talk, path):
        with pytest.raises(RemoteError, match="cannot be read"):
            await anext(call(path, {}, 1.0))


async def test_the_time_allowed_is_the_guardians(tmp_path: Path) -> None:
    """What the caller does between two answers is not cut short by the time that the guardian has."""
    async with serving(tmp_path) as server:
        parts = []
        async for answer in call(server.path, {"parts": 2}, 0.05):
            await asyncio.sleep(0.03)
            parts.append(answer["part"])
        assert parts == [1, 2]
        async for _ in call(server.path, {}, 0.02):
            await asyncio.sleep(0.05)


def test_the_end_of_the_process_is_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is still at work when the server's process ends leaves no traceback behind."""
    complaints: list[dict[str, Any]] = []

    async def scene() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with serving(tmp_path) as server:
            reader, writer = await opened(server, b'{"sleep":60}\n')
            await until(lambda: len(server._conversations) == 1 and not server._idle)
            writer.close()
        del reader

    asyncio.run(scene())
    assert complaints == []
    assert "Traceback" not in capsys.readouterr().err
