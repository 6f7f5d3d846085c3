"""mmpi.practice.hyperliquid.server on real loopback sockets: delay, order, slow clients, and the command itself."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse
from practice_builders import (
    CLOID,
    GUARDIAN,
    MASTER,
    STRANGER,
    book,
    cancel,
    cancel_by_cloid,
    order,
    orders,
    signed,
    status,
    trade,
    venue,
)

from mmpi.errors import ConfigError
from mmpi.practice.hyperliquid import server as server_module
from mmpi.practice.hyperliquid.server import PracticeServer, run_practice
from mmpi.practice.hyperliquid.signatures import address_of
from mmpi.practice.hyperliquid.streams import Hub
from mmpi.practice.hyperliquid.venue import Venue
from mmpi.practice.keys import make_keys

ROOT = Path(__file__).resolve().parents[1]
COMMAND = """
import sys
from pathlib import Path
from mmpi.errors import MmpiError
from mmpi.practice.hyperliquid.server import run_practice
try:
    run_practice(int(sys.argv[1]), 1.0, 7, None, False, registry=Path(sys.argv[2]))
except MmpiError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


class Running:
    """A server on a free port, and a client session for it."""

    def __init__(self, server: PracticeServer, built: Venue, port: int, session: ClientSession) -> None:
        self.server, self.venue, self.session = server, built, session
        self.url = f"http://127.0.0.1:{port}"
        self.sockets: list[ClientWebSocketResponse] = []

    async def post(self, path: str, body: object) -> Any:
        """Return the JSON answer to a POST."""
        async with self.session.post(self.url + path, json=body) as response:
            return await response.json()

    async def act(self, action: dict[str, Any], **how: Any) -> Any:
        """Return the answer to an action signed now."""
        return await self.post("/exchange", signed(action, nonce=next(NONCES), **how))

    async def live(self) -> list[dict[str, Any]]:
        """Return what /control/orders lists."""
        async with self.session.get(self.url + "/control/orders") as response:
            listed: list[dict[str, Any]] = await response.json()
            return listed

    async def socket(self, *subscriptions: dict[str, str]) -> ClientWebSocketResponse:
        """Return a connection that was greeted, with its subscriptions asked for."""
        socket = await self.session.ws_connect(self.url + "/ws")
        self.sockets.append(socket)
        assert await socket.receive_str(timeout=5) == "Websocket connection established."
        for subscription in subscriptions:
            await socket.send_json({"method": "subscribe", "subscription": subscription})
            assert (await socket.receive_json(timeout=5))["channel"] == "subscriptionResponse"
        return socket


def _nonces() -> Any:
    nonce = time.time_ns() // 1_000_000
    while True:
        nonce += 1
        yield nonce


NONCES = _nonces()


@asynccontextmanager
async def running(path: Path, latency_ms: float = 0.0) -> AsyncIterator[Running]:
    """Give a server with one BTC book and no further market."""
    hub = Hub()
    built = venue(path, hub)
    server = PracticeServer(built, hub, latency_ms)
    port = await server.start("127.0.0.1", 0)
    try:
        async with ClientSession() as session:
            run = Running(server, built, port, session)
            yield run
            for socket in run.sockets:
                await socket.close()
    finally:
        await server.close()


async def test_orders_over_rest(tmp_path: Path) -> None:
    """Two agents of one account place, see and cancel the same orders; /control/orders lists them at once."""
    async with running(tmp_path) as run:
        oid = status(await run.act(orders(order(cloid=CLOID))))["resting"]["oid"]
        other = status(await run.act(orders(order("99980")), key=GUARDIAN))["resting"]["oid"]
        listed = await run.post("/info", {"type": "openOrders", "user": MASTER})
        assert [each["oid"] for each in listed] == [each["oid"] for each in await run.live()] == [oid, other]
        assert status(await run.act(cancel(other))) == "success"
        assert status(await run.act(cancel_by_cloid(CLOID), key=GUARDIAN)) == "success"
        assert await run.live() == []


@pytest.mark.parametrize(("path", "body"), [("/info", {"type": "x"}), ("/exchange", {"action": {}}), ("/info", [1])])
async def test_a_body_of_another_form_is_http_422(tmp_path: Path, path: str, body: object) -> None:
    """What cannot be read is answered with the venue's status and sentence."""
    async with running(tmp_path) as run, run.session.post(run.url + path, json=body) as response:
        assert (response.status, await response.text()) == (
            422,
            "Failed to deserialize the JSON body into the target type",
        )


async def test_orders_over_the_socket(tmp_path: Path) -> None:
    """A posted action is answered by its id, and its updates reach every connection of the account."""
    async with running(tmp_path) as run:
        quoter = await run.socket()
        guardian = await run.socket({"type": "orderUpdates", "user": MASTER})
        body = signed(orders(order()), nonce=next(NONCES))
        await quoter.send_json({"method": "post", "id": 5, "request": {"type": "action", "payload": body}})
        answer = await quoter.receive_json(timeout=5)
        (update,) = (await guardian.receive_json(timeout=5))["data"]
        assert (answer["channel"], answer["data"]["id"], answer["data"]["response"]["type"]) == ("post", 5, "action")
        oid = status(answer["data"]["response"]["payload"])["resting"]["oid"]
        assert (update["order"]["oid"], update["status"]) == (oid, "open")
        ask = {"type": "openOrders", "user": MASTER}
        await quoter.send_json({"method": "post", "id": 6, "request": {"type": "info", "payload": ask}})
        payload = (await quoter.receive_json(timeout=5))["data"]["response"]["payload"]
        assert payload == {"type": "openOrders", "data": await run.post("/info", ask)}
        await quoter.send_json({"method": "post", "id": 7, "request": {"type": "info", "payload": {"type": "x"}}})
        assert (await quoter.receive_json(timeout=5))["data"]["response"]["type"] == "error"


async def test_fills_over_the_socket(tmp_path: Path) -> None:
    """userFills opens with a snapshot and goes on with fills as the market makes them."""
    async with running(tmp_path) as run:
        socket = await run.socket({"type": "userFills", "user": MASTER})
        assert (await socket.receive_json(timeout=5))["data"]["isSnapshot"] is True
        await run.act(orders(order(size="0.01")))
        run.venue.on_market(trade("99989", "1"))
        (fill,) = (await socket.receive_json(timeout=5))["data"]["fills"]
        assert (fill["px"], fill["sz"], fill["crossed"]) == ("99990.0", "0.01", False)


async def test_a_round_trip_takes_the_latency(tmp_path: Path) -> None:
    """Over REST and over the socket an answer comes one latency after the question; the control list is not delayed."""
    async with running(tmp_path, latency_ms=100.0) as run:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await run.post("/info", {"type": "meta"})
        rest = loop.time() - start
        socket = await run.socket()
        start = loop.time()
        await socket.send_json({"method": "ping"})
        await socket.receive_json(timeout=5)
        over_socket = loop.time() - start
        start = loop.time()
        await run.live()
        control = loop.time() - start
        assert 0.1 <= rest < 0.2
        assert 0.1 <= over_socket < 0.2
        assert control < 0.05


async def test_the_state_changes_half_way(tmp_path: Path) -> None:
    """An order is live at the venue after half the latency, before its sender knows."""
    async with running(tmp_path, latency_ms=200.0) as run:
        placing = asyncio.create_task(run.act(orders(order())))
        await asyncio.sleep(0.05)
        early = await run.live()
        await asyncio.sleep(0.1)
        half_way, answered = await run.live(), placing.done()
        assert (len(early), len(half_way), answered) == (0, 1, False)
        assert "resting" in status(await placing)


async def test_messages_of_one_connection_keep_their_order(tmp_path: Path) -> None:
    """Many posts sent at once are answered in the order sent, all after one latency."""
    async with running(tmp_path, latency_ms=50.0) as run:
        socket = await run.socket()
        start = asyncio.get_running_loop().time()
        for i in range(50):
            ask = {"type": "info", "payload": {"type": "meta"}}
            await socket.send_json({"method": "post", "id": i, "request": ask})
        ids = [(await socket.receive_json(timeout=5))["data"]["id"] for _ in range(50)]
        assert ids == list(range(50))
        assert asyncio.get_running_loop().time() - start < 0.5, "not one latency each"


async def test_what_was_sent_before_leaving_still_arrives(tmp_path: Path) -> None:
    """An order on its way is placed though its sender is gone when it arrives."""
    async with running(tmp_path, latency_ms=100.0) as run:
        socket = await run.socket()
        body = signed(orders(order()), nonce=next(NONCES))
        await socket.send_json({"method": "post", "id": 1, "request": {"type": "action", "payload": body}})
        await socket.close()
        await asyncio.sleep(0.1)
        assert len(await run.live()) == 1


async def test_a_client_that_does_not_read_is_dropped(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A full queue ends its connection, is counted and said, and does not disturb the others."""
    async with running(tmp_path) as run:
        await run.socket({"type": "l2Book", "coin": "BTC"})
        good = await run.socket({"type": "bbo", "coin": "BTC"})
        for _ in range(server_module.MAX_QUEUED + 10):
            run.venue.on_market(book())
        await asyncio.sleep(0)
        assert run.server.dropped == 1
        await good.send_json({"method": "ping"})
        assert (await good.receive_json(timeout=5))["channel"] == "pong"
        assert "too slow" in capfd.readouterr().err


async def test_the_market_is_paced_and_stamped(tmp_path: Path) -> None:
    """Events come at the generator's intervals with the wall clock's time, starting at once."""
    async with running(tmp_path) as run:
        socket = await run.socket({"type": "trades", "coin": "BTC"})
        start = time.time()
        step = 50_000_000
        await run.server.play(iter([trade("100000", ts=i * step) for i in range(1, 5)]))
        stamps = [(await socket.receive_json(timeout=5))["data"][0]["time"] / 1000 - start for _ in range(4)]
        assert stamps == pytest.approx([0.0, 0.05, 0.1, 0.15], abs=0.04)


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """The error says which port is taken and which option chooses another."""
    async with running(tmp_path) as run:
        port = int(run.url.rpartition(":")[2])
        second = PracticeServer(run.venue, Hub(), 0.0)
        text = f"^port {port} on 127.0.0.1 is already in use; choose another with --port$"
        with pytest.raises(ConfigError, match=text):
            await second.start("127.0.0.1", port)


@pytest.mark.parametrize(
    ("port", "latency_ms", "secrets", "text"),
    [
        (0, -1.0, None, "--latency-ms -1 is not between"),
        (0, float("nan"), None, "--latency-ms nan is not between"),
        (70_000, 1.0, None, "--port 70000 is not between"),
        (0, 1.0, "nowhere", "agents.json: no such file; make one with: mmpi practice keys --out"),
    ],
)
def test_bad_options_are_named(tmp_path: Path, port: int, latency_ms: float, secrets: str | None, text: str) -> None:
    """Each option out of range has one error with its name, before anything is opened."""
    with pytest.raises(ConfigError, match=text):
        folder = tmp_path / secrets if secrets else None
        run_practice(port, latency_ms, 7, folder, False, registry=tmp_path / "registry")


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    """As a process it says where it listens, finds an account made after its start, and ends on SIGTERM."""
    command = [sys.executable, "-c", COMMAND]
    registry = tmp_path / "registry"
    process = subprocess.Popen([*command, "0", str(registry)], stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert line.startswith("practice hyperliquid listening on http://127.0.0.1:")
        assert line.endswith("(testnet signatures, latency 1 ms)\n")
        url = line.split()[4]
        made = make_keys(tmp_path / "keys", registry)
        key = bytes.fromhex((tmp_path / "keys" / "quoter.key").read_text().strip()[2:])
        asyncio.run(_trade_with_a_process(url, key, made.account))
        taken = url.rpartition(":")[2]
        second = subprocess.run([*command, taken, str(registry)], capture_output=True, text=True, cwd=ROOT, check=False)
        assert second.stderr.startswith(f"ConfigError: port {taken} on 127.0.0.1 is already in use")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


async def _trade_with_a_process(url: str, key: bytes, account: str) -> None:
    async with ClientSession() as session:

        async def post(path: str, body: object) -> Any:
            async with session.post(url + path, data=json.dumps(body)) as response:
                return await response.json()

        role = {"type": "userRole", "user": address_of(key)}
        assert await post("/info", role) == {"role": "agent", "data": {"user": account}}
        assert (await post("/info", role | {"user": address_of(STRANGER)})) == {"role": "missing"}
        mids = await post("/info", {"type": "allMids"})
        far = f"{float(mids['BTC']) * 0.9:.0f}"
        answer = await post("/exchange", signed(orders(order(far)), key, nonce=next(NONCES)))
        assert "resting" in status(answer)
        async with session.get(url + "/control/orders") as response:
            assert [live["account"] for live in await response.json()] == [account]
