"""mmpi.practice.hyperliquid.control: what /control shows and changes, for whom, and that it meets no limit."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector, WSMsgType
from practice_builders import CLOID, MASTER, order, orders, status, trade
from practice_running import Running, running

GETS = ("orders", "placed", "fills", "state", "fault")


async def refused(run: Running, body: Any) -> str:
    """Return what POST /control/fault says to a set that it does not take."""
    async with run.session.post(run.url + "/control/fault", json=body) as response:
        assert response.status == 400
        return await response.text()


async def test_everything_is_shown(tmp_path: Path) -> None:
    """Orders, what was accepted, fills and standings of all accounts are there for whoever checks a client."""
    async with running(tmp_path) as run:
        resting = status(await run.act(orders(order(cloid=CLOID))))["resting"]["oid"]
        await run.act(orders(order("99980")))
        run.venue.on_market(trade("99989", "1"))
        assert [each["oid"] for each in await run.get("/control/orders")] == [resting + 1]
        assert [each["cloid"] for each in await run.get("/control/placed")] == [CLOID, None]
        (fill,) = await run.get("/control/fills")
        assert (fill["oid"], fill["px"], fill["account"]) == (resting, "99990.0", MASTER)
        assert list(await run.get("/control/state")) == [MASTER]
        assert await run.get("/control/fault") == {"seed": 0, "faults": []}


async def test_faults_are_replaced_while_it_runs(tmp_path: Path) -> None:
    """A new set takes the place of the old one, with counts from zero, and its seed stays unless another is given."""
    async with running(tmp_path, faults=["http_429:p=1"], fault_seed=5) as run:
        async with run.session.post(run.url + "/info", json={"type": "meta"}) as response:
            assert response.status == 429
        assert await run.get("/control/fault") == {"seed": 5, "faults": [{"fault": "http_429:p=1", "fired": 1}]}
        shown = await run.post("/control/fault", {"faults": ["late", "http_429:p=0"]})
        assert shown == {"seed": 5, "faults": [{"fault": "late", "fired": 0}, {"fault": "http_429:p=0", "fired": 0}]}
        assert "universe" in await run.post("/info", {"type": "meta"})
        assert await run.post("/control/fault", {"faults": [], "seed": 9}) == {"seed": 9, "faults": []}


async def test_random_is_shown_spelt_out(tmp_path: Path) -> None:
    """What `random` has drawn can be read, fault by fault."""
    async with running(tmp_path) as run:
        shown = await run.post("/control/fault", {"faults": ["random:seed=4,until=60"]})
        assert len(shown["faults"]) == 16
        assert all(each["fault"].endswith(",until=60") for each in shown["faults"])


async def test_a_bad_set_changes_nothing(tmp_path: Path) -> None:
    """What cannot be read is refused with its reason, and the faults in force stay."""
    async with running(tmp_path, faults=["late"]) as run:
        assert (await refused(run, {"faults": ["drop", "late:ms=0"]})).startswith(
            "--fault 'late:ms=0': ms=0; allowed: a number from 1 to 60000"
        )
        for body in ({"fault": ["drop"]}, {"faults": "drop"}, [], {"faults": ["drop"], "seed": "x"}):
            assert (await refused(run, body)).startswith('not {"faults": ["NAME:key=value,...", ...]}')
        assert await run.fired() == {"late": 0}


async def test_all_sockets_are_closed_at_once(tmp_path: Path) -> None:
    """/control/close cuts whoever is there and says how many; new connections are welcome."""
    async with running(tmp_path) as run:
        sockets = [await run.socket(), await run.socket()]
        assert await run.post("/control/close", {}) == {"closed": 2}
        for socket in sockets:
            assert (await socket.receive(timeout=5)).type in (WSMsgType.CLOSED, WSMsgType.ERROR, WSMsgType.CLOSE)
        await run.socket()
        assert await run.post("/control/close", {}) == {"closed": 1}


async def test_other_machines_are_refused(tmp_path: Path) -> None:
    """Whoever comes from another address than this machine's own gets nothing and changes nothing."""
    async with running(tmp_path) as run, ClientSession(connector=TCPConnector(local_addr=("127.0.0.2", 0))) as other:
        for name in GETS:
            async with other.get(f"{run.url}/control/{name}") as response:
                assert (response.status, await response.text()) == (403, "/control is for this machine only")
        for name in ("fault", "close"):
            async with other.post(f"{run.url}/control/{name}", json={"faults": ["drop"]}) as response:
                assert response.status == 403
        assert await run.fired() == {}


async def test_control_meets_neither_limits_nor_faults(tmp_path: Path) -> None:
    """With every request refused and no weight left, /control answers at once."""
    faults = ["http_5xx:p=1", "ack_lost:p=1", "late:p=1,ms=60000"]
    async with running(tmp_path, 1000.0, faults=faults, weight=1) as run:
        async with asyncio.timeout(0.5):
            for _ in range(5):
                for name in GETS:
                    await run.get(f"/control/{name}")
        assert set((await run.fired()).values()) == {0}


@pytest.mark.parametrize("path", [f"/control/{name}" for name in GETS])
async def test_it_is_there_over_tls(tmp_path: Path, path: str) -> None:
    """The endpoints are on the same port, encrypted like everything else."""
    pytest.importorskip("cryptography", reason="the practice extra (cryptography) is not installed")
    async with running(tmp_path, tls=True) as run:
        assert run.url.startswith("https://")
        assert await run.get(path) is not None
