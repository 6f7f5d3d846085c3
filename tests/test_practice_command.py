"""mmpi practice as people type it: options, recorded markets, and the server as a process."""

import asyncio
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from practice_builders import STRANGER, order, orders, signed, status

from mmpi.cli import main
from mmpi.commands.practice import recorded
from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, Trade
from mmpi.instrument import SECOND
from mmpi.practice.hyperliquid.process import PracticeOptions, generated, run_practice
from mmpi.practice.hyperliquid.signatures import address_of
from mmpi.practice.keys import make_keys

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
MARKET = ROOT.parent / "shared" / "data" / "market"
NONCES = iter(range(time.time_ns() // 1_000_000, 2**62))


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def wire_book(coin: str, bid: float, at_ms: int) -> str:
    """Return one raw line with a book of one level a side."""
    levels = [[{"px": str(price), "sz": "1.0", "n": 1}] for price in (bid, bid + 1)]
    return json.dumps({"channel": "l2Book", "data": {"coin": coin, "time": at_ms, "levels": levels}})


def wire_trade(coin: str, price: float, at_ms: int) -> str:
    """Return one raw line with a trade."""
    each = {"coin": coin, "side": "A", "px": str(price), "sz": "0.1", "time": at_ms, "hash": "0x0", "tid": at_ms}
    return json.dumps({"channel": "trades", "data": [each]})


def lines(path: Path, *texts: str) -> str:
    """Write a file of raw lines and return its path."""
    path.write_text("".join(text + "\n" for text in texts))
    return str(path)


# Options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "70000"], "--port 70000 is not between 0 and 65535"),
        (["--fault", "flood"], "--fault 'flood': no fault 'flood'; allowed: drop, "),
        (["--fault", "drop", "--fault", "late:ms=0"], "--fault 'late:ms=0': ms=0; allowed: a number from 1 to 60000"),
        (["--tls-dir", "x"], "--tls-dir x: allowed only with --tls"),
        (["--seed", "3", "--data", "x"], "--seed 3: allowed only without --data"),
        (["--instrument", "BTC"], "--instrument BTC: allowed only with --data"),
        (["--data", ""], "--data '': empty; allowed: a recorded set or file"),
        (["--data", "nowhere"], "nowhere: no data set; looked for "),
        (["--secrets", "nowhere"], "nowhere/agents.json: no such file; make one with: mmpi practice keys --out "),
    ],
)
def test_bad_options_are_named(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each has one line with its flag, its value and what is allowed, exit code 2, and no port is opened."""
    assert main(["practice", "hyperliquid", "--port", "0", *words]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"mmpi practice: {said}")
    assert (out, err.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--weight", "-1"], "argument --weight: -1 is not a whole number from 0 on"),
        (["--port", "x"], "argument --port: 'x' is not a whole number from 0 to 65535"),
        (["--budget", "1.5"], "argument --budget: '1.5' is not a whole number from 0 on"),
        (["--volume-gate", "x"], "argument --volume-gate: 'x' is not a whole number from 0 on"),
        (["--fault-seed", "-2"], "argument --fault-seed: -2 is not a whole number from 0 on"),
        (["--latency-ms", "-1"], "argument --latency-ms: -1 is not between 0 and 10000"),
        (["--seconds", "0"], "argument --seconds: 0 is not a number above 0"),
    ],
)
def test_bad_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers out of range are refused where they are read."""
    with pytest.raises(SystemExit) as ended:
        main(["practice", "hyperliquid", *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("latency_ms", [-1.0, float("nan"), 10_001.0])
def test_bad_latency(tmp_path: Path, latency_ms: float) -> None:
    """Whoever starts it from code is told the same."""
    options = PracticeOptions(registry=tmp_path / "registry", latency_ms=latency_ms)
    with pytest.raises(ConfigError, match=rf"^--latency-ms {latency_ms:g} is not between 0 and 10000$"):
        run_practice(options, generated(7))


def test_it_ends_by_itself_and_reports(capsys: pytest.CaptureFixture[str]) -> None:
    """After --seconds it ends with 0, and --json is one object on one line."""
    words = ["--port", "0", "--seconds", "0.1", "--json", "--fault", "random:seed=2", "--fault-seed", "3"]
    assert main(["practice", "hyperliquid", *words]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert out.count("\n") == 1
    assert report["url"] in err
    assert (report["market"], report["fault_seed"], len(report["faults"])) == ("the generated market, seed 7", 3, 16)
    assert report["seconds"] >= 0.1
    assert "has faults, seed 3: random:seed=2 (/control/fault shows and changes them)" in err


def test_a_vault_is_made_where_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`practice keys --vault` makes a vault too, and tells its address; without it none is told."""
    assert main(["practice", "keys", "--out", str(tmp_path / "a"), "--vault", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (tmp_path / "a" / "vault").read_text().strip() == made["vault"]
    assert main(["practice", "keys", "--out", str(tmp_path / "b"), "--json"]) == 0
    assert "vault" not in json.loads(capsys.readouterr().out)


# Recorded markets -------------------------------------------------------------------------------------------------


def test_raw_messages_of_several_coins(tmp_path: Path) -> None:
    """All coins of a file play together, numbered in the order in which they first come."""
    data = lines(
        tmp_path / "wire.jsonl",
        wire_book("SOL", 200.0, 1000), wire_book("BTC", 100_000.0, 1500),
        wire_trade("BTC", 100_001.0, 2000), wire_book("SOL", 201.0, 2500),
    )  # fmt: skip
    shown = recorded(data)
    assert list(shown.instruments) == ["SOL", "BTC"]
    events = list(islice(shown.events(SECOND), 5))
    assert [(event.instrument, (event.recv_ts - SECOND) / SECOND) for event in events] == [
        ("SOL", 0.0), ("BTC", 0.5), ("BTC", 1.0), ("SOL", 1.5), ("SOL", 2.5),
    ]  # fmt: skip
    assert [type(event) for event in events[1:3]] == [BookSnapshot, Trade]
    assert list(recorded(data, "BTC").instruments) == ["BTC"]


def test_coins_without_rules_are_left_out(tmp_path: Path) -> None:
    """A coin that the table does not know cannot be played; a file without any other is refused with its name."""
    unknown, known = wire_book("NOSUCH", 1.0, 1000), wire_book("ETH", 3000.0, 1000)
    assert list(recorded(lines(tmp_path / "a.jsonl", unknown, known)).instruments) == ["ETH"]
    with pytest.raises(ConfigError, match=r"b\.jsonl: NOSUCH in its first 20000 lines; allowed: books of coins"):
        recorded(lines(tmp_path / "b.jsonl", unknown))
    with pytest.raises(ConfigError, match=r"c\.jsonl: no book at all in its first 20000 lines"):
        recorded(lines(tmp_path / "c.jsonl", wire_trade("BTC", 100.0, 1000), "nonsense", "{", "[1]"))


def test_a_line_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """What is wrong in the middle of a file stops the market with the file and the line."""
    data = lines(tmp_path / "wire.jsonl", wire_book("BTC", 100.0, 1000), "nonsense")
    with pytest.raises(ConfigError, match=r"wire\.jsonl:2: not a Hyperliquid message"):
        list(islice(recorded(data).events(0), 2))


@pytest.mark.skipif(not MARKET.is_dir(), reason="the recorded sets are not there")
@pytest.mark.parametrize("name", ["btc_20250904", "wlfi_20250903", "btc_20250901_07"])
def test_recorded_sets_play(name: str) -> None:
    """A set of the venue, of books or of best prices alone, gives one coin and its events."""
    pytest.importorskip("pyarrow", reason="the research extra (pyarrow) is not installed")
    shown = recorded(str(MARKET / f"hyperliquid_{name}"))
    (coin,) = shown.instruments
    assert coin == name.partition("_")[0].upper()
    events = list(islice(shown.events(SECOND), 500))
    assert {event.instrument for event in events} == {coin}
    assert max(b.recv_ts - a.recv_ts for a, b in zip(events, events[1:], strict=False)) <= 5 * SECOND


@pytest.mark.skipif(not MARKET.is_dir(), reason="the recorded sets are not there")
def test_sets_of_other_venues_are_refused() -> None:
    """Their grid is not the one that a client computes from szDecimals."""
    pytest.importorskip("pyarrow", reason="the research extra (pyarrow) is not installed")
    with pytest.raises(ConfigError, match=r"BTCUSD \(tick 0\.01, lot 0\.0001\) is no perpetual of Hyperliquid"):
        recorded(str(MARKET / "standx_btcusd_20260105"))


# Processes --------------------------------------------------------------------------------------------------------


@contextmanager
def served(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Give a server as a process and the line in which it says where it listens."""
    command = [sys.executable, "-m", "mmpi", "practice", "hyperliquid", "--port", "0", *words]
    env = os.environ | {"XDG_STATE_HOME": str(folder / "state")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=env)
    assert process.stderr is not None
    try:
        yield process, process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


async def _trade(url: str, key: bytes, trust: ssl.SSLContext | None = None) -> list[dict[str, Any]]:
    """Place one order far below the market; return what the server lists then, its role of the signer first."""
    ask: dict[str, Any] = {"ssl": trust} if trust else {}
    async with ClientSession() as session:

        async def post(path: str, body: object) -> Any:
            async with session.post(url + path, json=body, **ask) as response:
                return await response.json()

        mids = await post("/info", {"type": "allMids"})
        far = f"{float(mids['BTC']) * 0.9:.0f}"
        answer = await post("/exchange", signed(orders(order(far)), key, nonce=next(NONCES)))
        role = await post("/info", {"type": "userRole", "user": address_of(key)})
        if answer["status"] == "err":
            return [role, answer]
        assert "resting" in status(answer)
        async with session.get(url + "/control/orders", **ask) as response:
            return [role, *await response.json()]


def key_of(folder: Path) -> bytes:
    """Return the quoter's key."""
    return bytes.fromhex((folder / "quoter.key").read_text().strip()[2:])


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    """As a process it says where it listens, finds an account made after its start, and ends on SIGTERM."""
    with served(tmp_path, "--latency-ms", "1") as (_, line):
        assert re.fullmatch(
            r"practice hyperliquid listening on http://127\.0\.0\.1:\d+ \(testnet signatures, latency 1 ms\)\n", line
        )
        url = line.split()[4]
        made = make_keys(tmp_path / "keys", tmp_path / "state" / "mmpi-practice" / "agents.json")
        role, live = asyncio.run(_trade(url, key_of(tmp_path / "keys")))
        assert role == {"role": "agent", "data": {"user": made.account}}
        assert live["account"] == made.account
        _, live = asyncio.run(_trade(url, STRANGER))[:2]
        assert live["account"] == made.account, "a stranger is an account of its own"


@pytest.mark.slow
def test_only_registered_agents_where_it_is_strict(tmp_path: Path) -> None:
    """With --strict the registry decides who exists; an account made later is found nevertheless."""
    with served(tmp_path, "--strict") as (_, line):
        url = line.split()[4]
        _, answer = asyncio.run(_trade(url, STRANGER))
        assert answer["response"] == f"User or API Wallet {address_of(STRANGER)} does not exist."
        make_keys(tmp_path / "keys", tmp_path / "state" / "mmpi-practice" / "agents.json")
        assert len(asyncio.run(_trade(url, key_of(tmp_path / "keys")))) == 2


@pytest.mark.slow
def test_over_tls(tmp_path: Path) -> None:
    """It says which authority to trust, keeps it from one start to the next, and serves who trusts it."""
    pytest.importorskip("cryptography", reason="the practice extra (cryptography) is not installed")
    pattern = r"practice hyperliquid listening on (https://127\.0\.0\.1:\d+) \(CA file (\S+); testnet signatures, "
    authorities = []
    for _ in range(2):
        with served(tmp_path, "--tls") as (_, line):
            found = re.match(pattern, line)
            assert found is not None, line
            authorities.append(Path(found[2]).read_bytes())
            role, live = asyncio.run(_trade(found[1], STRANGER, ssl.create_default_context(cafile=found[2])))
            assert (role["role"], live["coin"]) == ("user", "BTC")
    assert found[2] == str(tmp_path / "state" / "mmpi-practice" / "tls" / "ca.pem")
    assert authorities[0] == authorities[1]


@pytest.mark.slow
def test_a_recording_is_served(tmp_path: Path) -> None:
    """With --data the venue's universe is that of the recording, its book is shown, and orders rest in it."""
    texts = [wire_book("SOL", 200.0 + i % 3, 1000 * i) for i in range(4)] + [wire_book("BTC", 100_000.0, 4000)]
    data = lines(tmp_path / "wire.jsonl", *texts)
    with served(tmp_path, "--data", data) as (process, line):
        assert process.stderr is not None
        assert process.stderr.readline() == f"practice hyperliquid plays {data}: SOL, BTC, over and over\n"
        url = line.split()[4]
        asyncio.run(_see_sol(url))
        assert process.stderr.readline() == f"practice hyperliquid plays {data} again, from its beginning\n"


async def _see_sol(url: str) -> None:
    async with ClientSession() as session:

        async def ask(**body: str) -> Any:
            async with session.post(url + "/info", json=body) as response:
                return await response.json()

        universe = (await ask(type="meta"))["universe"]
        assert [(each["name"], each["szDecimals"]) for each in universe] == [("SOL", 2), ("BTC", 5)]
        book = await ask(type="l2Book", coin="SOL")
        assert book["levels"][0][0]["px"] in ("200.0", "201.0", "202.0")
        assert abs(book["time"] - time.time() * 1000) < 2000
        resting = order("190", "1", asset=0)
        async with session.post(url + "/exchange", json=signed(orders(resting), nonce=next(NONCES))) as response:
            assert "resting" in status(await response.json())
