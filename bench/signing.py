"""python -m bench.signing: what it takes to sign orders, ours beside the vendor's Python SDK, in one process.

It runs in the environment that `make oracle` makes, and prints one JSON object. Both sides start from the same
parameters and end with the same signed request as bytes: that is checked before anything is timed. A round times many
calls of one side, then of the other; a ratio is the median over the rounds, so a busy machine does not decide it.
"""

import argparse
import gc
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import count, islice
from statistics import median
from time import perf_counter_ns
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_keys.backends import get_default_backend_class
from hyperliquid.utils.signing import order_request_to_order_wire, order_wires_to_order_action, sign_l1_action
from hyperliquid.utils.types import Cloid

from bench.books import COIN, DEPTH, INSTRUMENT, Frame
from bench.reference import LEVELS, Reference
from mmpi.actions import Approved, NewOrder, TimeInForce
from mmpi.desk import DeskParams
from mmpi.engine import Engine, EngineParams
from mmpi.events import BookSnapshot, Connected, Reconciled
from mmpi.instrument import BUY, MILLISECOND, SECOND, SELL
from mmpi.quoting.avellaneda_stoikov import AvellanedaStoikovConfig
from mmpi.risk import RiskConfig
from mmpi.sim.market import Market, MarketConfig
from mmpi.venues.hyperliquid.requests import action_post, place_action
from mmpi.venues.hyperliquid.session import VENUE, HyperliquidSession
from mmpi.venues.hyperliquid.signing import Signer

KEY = bytes(range(1, 33))
ASSET = 0
PREFIX = "0x" + "00" * 8
ACCOUNT = "0x" + "00" * 20
NONCE_MS = 1_700_000_000_000
EXPIRES_MS = 2000
BATCH = 2 * LEVELS
TIF = TimeInForce.POST_ONLY
ROUNDS, CALLS, FRAMES = 75, 20, 40
"""Short rounds, many of them: a shared core may run at half its speed for seconds."""
BACKEND_VARIABLE = "ECC_BACKEND_CLASS"
NATIVE = "eth_keys.backends.NativeECCBackend"
NATIVE_ROUNDS, NATIVE_CALLS = 5, 10
"""Signing in pure Python takes milliseconds, and no precision is needed to tell it from the rest."""
JOB = AvellanedaStoikovConfig(levels=LEVELS, update_interval_s=0.05)
UNLIMITED = RiskConfig(orders_per_s=1e6, order_burst=1_000_000)
"""The shipped limits but the order rate: here the whole ladder is placed at every book."""

Parameters = tuple[bool, int, int, str]
"""What an order is made from: is buy, price in ticks, size in lots, client id."""
Call = Callable[[], object]


def main() -> int:
    """Return 0 once everything is measured and printed."""
    parser = argparse.ArgumentParser(prog="bench.signing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    if rounds < 1:
        parser.error(f"--rounds {rounds}: allowed: 1 or more")
    os.environ.pop(BACKEND_VARIABLE, None)
    wallet = Account.from_key(KEY)
    gc.collect()
    gc.freeze()  # What the benchmark holds is no work of either side.
    result: dict[str, Any] = {
        "python": sys.version.split()[0],
        "sdk_backend": get_default_backend_class().rpartition(".")[2],
        "rounds": rounds,
        "sign_one": sign(1, wallet, rounds, CALLS),
        "sign_ten": sign(BATCH, wallet, rounds, CALLS),
        "bytes_to_request": bytes_to_request(wallet, rounds),
    }
    # What pip gives everyone who installs the SDK alone: it asks for its backend at every signature.
    os.environ[BACKEND_VARIABLE] = NATIVE
    result["native"] = {
        "sdk_backend": NATIVE.rpartition(".")[2],
        "sign_one": sign(1, wallet, NATIVE_ROUNDS, NATIVE_CALLS),
        "sign_ten": sign(BATCH, wallet, NATIVE_ROUNDS, NATIVE_CALLS),
        "bytes_to_request": bytes_to_request(wallet, NATIVE_ROUNDS),
    }
    print(json.dumps(result))
    return 0


# Signing ------------------------------------------------------------------------------------------------------------


def sign(orders: int, wallet: LocalAccount, rounds: int, calls: int) -> dict[str, Any]:
    """Return the times from the parameters of some orders to the bytes of one signed request."""
    signer = Signer(KEY, mainnet=False)
    wanted = list(islice(parameters(random.Random(orders)), orders))
    # The SDK takes floats; a bot on top of it has them ready, as the engine has its ticks and lots.
    floats = [
        (is_buy, float(INSTRUMENT.size_text(size)), float(INSTRUMENT.price_text(price)), cloid)
        for is_buy, price, size, cloid in wanted
    ]

    def ours() -> bytes:
        placed = [
            (NewOrder(COIN, cloid, BUY if is_buy else SELL, price, size, 0, TIF), INSTRUMENT, ASSET)
            for is_buy, price, size, cloid in wanted
        ]
        return action_post(1, place_action(placed), signer, NONCE_MS, NONCE_MS + EXPIRES_MS)

    def theirs() -> bytes:
        return sdk_request(floats, wallet, NONCE_MS)

    payload = json.loads(ours())["request"]["payload"]
    if payload != json.loads(theirs()):
        raise AssertionError(f"the two sides do not sign the same:\n{payload}\n{theirs()!r}")
    return compare(lambda: timed(ours, calls), lambda: timed(theirs, calls), rounds)


def parameters(chance: random.Random) -> Iterator[Parameters]:
    """Yield the parameters of orders that are on the grid."""
    for number in count(1):
        price = INSTRUMENT.round_bid(chance.uniform(990_000, 1_010_000))
        yield chance.random() < 0.5, price, chance.randrange(20, 5_000), f"0x{number:032x}"


def sdk_request(orders: list[tuple[bool, float, float, str]], wallet: LocalAccount, nonce: int) -> bytes:
    """Return the bytes that the SDK's Exchange.bulk_orders would have its HTTP client send."""
    wires = [
        order_request_to_order_wire(
            {
                "coin": COIN,
                "is_buy": is_buy,
                "sz": size,
                "limit_px": price,
                "order_type": {"limit": {"tif": "Alo"}},
                "reduce_only": False,
                "cloid": Cloid(cloid),
            },
            ASSET,
        )
        for is_buy, size, price, cloid in orders
    ]
    action = order_wires_to_order_action(wires)
    signature = sign_l1_action(wallet, action, None, nonce, nonce + EXPIRES_MS, False)
    payload = {
        "action": action,
        "nonce": nonce,
        "signature": signature,
        "vaultAddress": None,
        "expiresAfter": nonce + EXPIRES_MS,
    }
    return json.dumps(payload).encode()


# From a frame's bytes to a signed request ---------------------------------------------------------------------------


def bytes_to_request(wallet: LocalAccount, rounds: int) -> dict[str, Any]:
    """Return the times from the bytes of a book to the bytes of the signed request that places a whole ladder.

    Between two books everything is cancelled, outside the clock, so that at every book both sides place all of their
    ladder, the same number of orders, under one signature.
    """
    frames = list(islice(books(), FRAMES))
    result = compare(lambda: our_pass(frames), lambda: sdk_pass(frames, wallet), rounds)
    return {**result, "orders": BATCH, "books": FRAMES, "levels": DEPTH}


def books() -> Iterator[Frame]:
    """Yield the books of the generated market as the venue streams them."""
    market = Market([INSTRUMENT], MarketConfig(stall_every_s=0), random.Random(7))
    for event in market.events(NONCE_MS * MILLISECOND):
        if isinstance(event, BookSnapshot):
            levels = [
                [{"px": INSTRUMENT.price_text(price), "sz": INSTRUMENT.size_text(size), "n": 1} for price, size in side]
                for side in (event.bids, event.asks)
            ]
            book = {"coin": COIN, "time": event.exch_ts // MILLISECOND, "levels": levels}
            yield Frame(event.recv_ts, json.dumps({"channel": "l2Book", "data": book}, separators=(",", ":")).encode())


def our_pass(frames: list[Frame]) -> list[int]:
    """Return the nanoseconds of session, engine and session for each frame."""
    engine = Engine(EngineParams(PREFIX, (DeskParams(INSTRUMENT, JOB),), UNLIMITED, 4 * SECOND))
    session = HyperliquidSession({COIN: (INSTRUMENT, ASSET)}, ACCOUNT, Signer(KEY, mainnet=False), PREFIX, EXPIRES_MS)
    start = frames[0].recv_ts - SECOND
    engine.handle(Connected(start, VENUE))
    engine.handle(Reconciled(start, VENUE, (), ()))
    spent, oids = [], count(1)
    for frame in frames:
        began = perf_counter_ns()
        actions: list[Approved] = []
        for event in session.receive(frame.raw, frame.recv_ts):
            actions += engine.handle(event)
        sent = session.send(actions, frame.recv_ts)
        spent.append(perf_counter_ns() - began)
        if len(sent) != 1 or len(actions) != BATCH:
            why = engine.blocked or engine.desks[COIN].reason
            raise AssertionError(f"{len(actions)} actions in {len(sent)} requests: {why}")
        for answer in answers(json.loads(sent[0]), oids):
            for event in session.receive(answer, frame.recv_ts):
                if engine.handle(event):
                    raise AssertionError(f"{event}: orders may only be placed at a book here")
    return spent


def answers(post: dict[str, Any], oids: Iterator[int]) -> list[bytes]:
    """Return what the venue says when it takes every order of a request and then cancels it."""
    orders = [(next(oids), order) for order in post["request"]["payload"]["action"]["orders"]]
    statuses = [{"resting": {"oid": oid}} for oid, _ in orders]
    payload = {"status": "ok", "response": {"type": "order", "data": {"statuses": statuses}}}
    taken = {"id": post["id"], "response": {"type": "action", "payload": payload}}
    ended = [
        {
            "order": {
                "coin": COIN,
                "side": "B" if order["b"] else "A",
                "limitPx": order["p"],
                "sz": order["s"],
                "oid": oid,
                "timestamp": NONCE_MS,
                "origSz": order["s"],
                "cloid": order["c"],
            },
            "status": "canceled",
            "statusTimestamp": NONCE_MS,
        }
        for oid, order in orders
    ]
    frames = [{"channel": "post", "data": taken}, {"channel": "orderUpdates", "data": ended}]
    return [json.dumps(frame).encode() for frame in frames]


def sdk_pass(frames: list[Frame], wallet: LocalAccount) -> list[int]:
    """Return the nanoseconds of json, the Decimal quoter and the SDK for each frame."""
    quoter = Reference()
    quoter.tick, quoter.lot = Decimal(INSTRUMENT.tick_size), Decimal(INSTRUMENT.lot_size)
    spent, ids = [], count(1)
    for frame in frames:
        began = perf_counter_ns()
        orders = [
            (order.side == "buy", float(order.size), float(order.price), f"0x{next(ids):032x}")
            for _, order in quoter.on_raw(frame.raw)
        ]
        sdk_request(orders, wallet, frame.recv_ts // MILLISECOND)
        spent.append(perf_counter_ns() - began)
        if len(orders) != BATCH:
            raise AssertionError(f"the quoter of json and Decimal placed {len(orders)} orders")
    return spent


# Measuring ----------------------------------------------------------------------------------------------------------


def compare(ours: Callable[[], list[int]], theirs: Callable[[], list[int]], rounds: int) -> dict[str, Any]:
    """Return both sides' times in microseconds and how many times as long the SDK takes: the median over the rounds."""
    ours(), theirs()  # warm
    mine: list[int] = []
    sdk: list[int] = []
    ratios = []
    for number in range(rounds):
        first, second = (ours, theirs) if number % 2 else (theirs, ours)
        one, two = first(), second()
        us, them = (one, two) if number % 2 else (two, one)
        ratios.append(median(them) / median(us))
        mine += us
        sdk += them
    return {"ours_us": figures(mine), "sdk_us": figures(sdk), "ratio": round(median(ratios), 2)}


def timed(call: Call, times: int) -> list[int]:
    """Return the nanoseconds of each of so many calls."""
    spent = []
    for _ in range(times):
        began = perf_counter_ns()
        call()
        spent.append(perf_counter_ns() - began)
    return spent


def figures(ns: list[int]) -> dict[str, float]:
    """Return the 50th and the 99th percentile in microseconds."""
    return {"p50": round(median(ns) / 1000, 1), "p99": round(sorted(ns)[len(ns) * 99 // 100] / 1000, 1)}


if __name__ == "__main__":
    sys.exit(main())
