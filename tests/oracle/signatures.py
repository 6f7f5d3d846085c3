"""python -m tests.oracle.signatures SEED N: what mmpi sends beside what the vendor's SDK would, for N random actions.

The SDK's Exchange makes its own request, up to where it would be posted; mmpi makes its own from its own structs, in
ticks and lots. Compared are the whole payloads: wire forms with the order of their keys, signatures, vault and expiry.
Prints one JSON object.
"""

import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import hyperliquid.exchange
from eth_account import Account
from hyperliquid.exchange import Exchange
from hyperliquid.utils.constants import MAINNET_API_URL, TESTNET_API_URL
from hyperliquid.utils.signing import float_to_wire, sign_l1_action
from hyperliquid.utils.types import Cloid

from mmpi.actions import AmendOrder, NewOrder, TimeInForce
from mmpi.instrument import BUY, SELL, Instrument
from mmpi.venues.hyperliquid import requests
from mmpi.venues.hyperliquid.messages import FIRST_SPOT, instrument_from_meta, instrument_from_spot_meta
from mmpi.venues.hyperliquid.signing import Signer

Json = dict[str, Any]
PERPS = {f"P{decimals}": decimals for decimals in range(6)}
TOKENS = {f"S{decimals}": decimals for decimals in range(6)}
META = {"universe": [{"name": name, "szDecimals": decimals} for name, decimals in PERPS.items()]}
SPOT_META = {
    "tokens": [{"index": 0, "name": "USDC", "szDecimals": 8}]
    + [{"index": i, "name": name, "szDecimals": TOKENS[name]} for i, name in enumerate(TOKENS, 1)],
    "universe": [{"index": i, "name": f"@{i}", "tokens": [i, 0]} for i in range(1, len(TOKENS) + 1)],
}
INSTRUMENTS: dict[str, tuple[Instrument, int]] = {
    name: (instrument_from_meta(name, decimals), asset) for asset, (name, decimals) in enumerate(PERPS.items())
} | {
    f"@{i}": (instrument_from_spot_meta(f"@{i}", decimals, name, "USDC"), FIRST_SPOT + i)
    for i, (name, decimals) in enumerate(TOKENS.items(), 1)
}
TIFS = {"Alo": TimeInForce.POST_ONLY, "Gtc": TimeInForce.GTC, "Ioc": TimeInForce.IOC}
MOST = 10**9
"""Ticks and lots: prices and sizes of up to nine digits."""
SDK_LIMIT = 2**26
"""From here on (67 million) the SDK's own floats lose the eighth decimal: it sends 77859405.6 as 77859405.59999999."""
BATCH = 12
SHOWN = 5
"""Differences that are printed."""


class Case:
    """One random action's circumstances, and what came out on both sides."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.covered: set[str] = set()
        self.wires = 0
        self.key = chance.randbytes(32)
        self.nonce = chance.randrange(2**41)
        self.mainnet = self._flag("mainnet", "testnet")
        self.vault = f"0x{chance.randbytes(20).hex()}" if self._flag("vault", "own_account") else ""
        self.expires = chance.randrange(2**41) if self._flag("expires_after", "no_expiry") else None
        self.exchange = Exchange(
            Account.from_key(self.key),
            MAINNET_API_URL if self.mainnet else TESTNET_API_URL,
            meta=META,
            spot_meta=SPOT_META,
            vault_address=self.vault or None,
        )
        self.exchange.set_expires_after(self.expires)
        self.exchange.post = lambda _path, payload: payload
        # The SDK has no other way to be told the nonce.
        hyperliquid.exchange.get_timestamp_ms = lambda: self.nonce

    def _flag(self, yes: str, no: str) -> bool:
        chosen = self.chance.random() < 0.5
        self.covered.add(yes if chosen else no)
        return chosen

    def ours(self, action: Json) -> Json:
        """Return our payload of an action."""
        signer = Signer(self.key, mainnet=self.mainnet)
        frame = requests.action_post(1, action, signer, self.nonce, self.expires, self.vault)
        payload: Json = json.loads(frame)["request"]["payload"]
        return payload

    def order(self) -> tuple[Json, tuple[NewOrder, Instrument, int]]:
        """Return a random valid order as the SDK is asked for it, and as we are; "cloid" is there in both."""
        chance = self.chance
        name = chance.choice(list(INSTRUMENTS))
        instrument, asset = INSTRUMENTS[name]
        price = max(1, instrument.round_bid(_any(chance, instrument.ticks_per_quote)))
        size = _any(chance, instrument.lots_per_base)
        cloid, tif, is_buy = f"0x{chance.randbytes(16).hex()}", chance.choice(list(TIFS)), chance.random() < 0.5
        reduce_only = self._flag("reduce_only", "not_reduce_only")
        self.covered |= {tif, "spot" if asset >= FIRST_SPOT else "perp"}
        self.wires += 1
        texts = instrument.price_text(price), instrument.size_text(size)
        if (float_to_wire(float(texts[0])), float_to_wire(float(texts[1]))) != texts:
            raise AssertionError(f"{texts} in the SDK's form: {[float_to_wire(float(text)) for text in texts]}")
        asked = {
            "coin": name,
            "is_buy": is_buy,
            "sz": float(texts[1]),
            "limit_px": float(texts[0]),
            "order_type": {"limit": {"tif": tif}},
            "reduce_only": reduce_only,
            "cloid": Cloid(cloid),
        }
        new = NewOrder(name, cloid, BUY if is_buy else SELL, price, size, 0, TIFS[tif], reduce_only)
        return asked, (new, instrument, asset)


def _any(chance: random.Random, per_unit: float) -> int:
    """Return a number of ticks or lots: small ones as often as those of each other length."""
    return max(1, int(min(MOST, SDK_LIMIT * per_unit) ** chance.random()))


# What is sent -------------------------------------------------------------------------------------------------------


def order(case: Case) -> tuple[Json, Json]:
    """Return both payloads of an order action; one without cloids, which we never send, is the SDK's, signed by us."""
    batch = [case.order() for _ in range(case.chance.choice((1, 1, 1, 2, 5, BATCH)))]
    case.covered.add("one" if len(batch) == 1 else "batch")
    if case.chance.random() < 0.5:
        case.covered.add("no_cloid")
        theirs = case.exchange.bulk_orders([{**asked, "cloid": None} for asked, _ in batch])
        return theirs, case.ours(theirs["action"])
    case.covered.add("cloid")
    theirs = case.exchange.bulk_orders([asked for asked, _ in batch])
    return theirs, case.ours(requests.place_action([new for _, new in batch]))


def cancel(case: Case) -> tuple[Json, Json]:
    """Return both payloads of a cancel."""
    names = case.chance.choices(list(INSTRUMENTS), k=case.chance.randint(1, BATCH))
    oids = [case.chance.randrange(2**40) for _ in names]
    theirs = case.exchange.bulk_cancel([{"coin": name, "oid": oid} for name, oid in zip(names, oids, strict=True)])
    pairs = [(INSTRUMENTS[name][1], oid) for name, oid in zip(names, oids, strict=True)]
    return theirs, case.ours(requests.cancel_action(pairs))


def cancel_by_cloid(case: Case) -> tuple[Json, Json]:
    """Return both payloads of a cancel by client ids."""
    names = case.chance.choices(list(INSTRUMENTS), k=case.chance.randint(1, BATCH))
    ids = [f"0x{case.chance.randbytes(16).hex()}" for _ in names]
    wanted = [{"coin": name, "cloid": Cloid(cloid)} for name, cloid in zip(names, ids, strict=True)]
    pairs = [(INSTRUMENTS[name][1], cloid) for name, cloid in zip(names, ids, strict=True)]
    return case.exchange.bulk_cancel_by_cloid(wanted), case.ours(requests.cancel_by_cloid_action(pairs))


def batch_modify(case: Case) -> tuple[Json, Json]:
    """Return both payloads of modifies, some by oid and some by cloid."""
    wanted, amends = [], []
    for _ in range(case.chance.randint(1, BATCH)):
        asked, (new, instrument, asset) = case.order()
        oid, old = case.chance.randrange(1, 2**40), f"0x{case.chance.randbytes(16).hex()}"
        by_oid = case.chance.random() < 0.5
        wanted.append({"oid": oid if by_oid else Cloid(old), "order": asked})
        amend = AmendOrder(
            new.instrument, old, str(oid) if by_oid else "", new.cl_ord_id, new.side, new.price, new.size, 0,
            new.time_in_force, new.reduce_only,
        )  # fmt: skip
        amends.append((amend, instrument, asset))
    return case.exchange.bulk_modify_orders_new(wanted), case.ours(requests.modify_action(amends))


def modify(case: Case) -> tuple[Json, Json]:
    """Return both payloads of a single modify: neither side sends it, but the venue documents it."""
    theirs = case.exchange.bulk_orders([case.order()[0]])
    action = {"type": "modify", "oid": case.chance.randrange(2**40), "order": theirs["action"]["orders"][0]}
    wallet, vault = case.exchange.wallet, case.vault or None
    signature = sign_l1_action(wallet, action, vault, case.nonce, case.expires, case.mainnet)
    return {**theirs, "action": action, "signature": signature}, case.ours(action)


def schedule_cancel(case: Case) -> tuple[Json, Json]:
    """Return both payloads that set the dead-man switch, or clear it."""
    at = case.chance.randrange(2**41) if case.chance.random() < 0.7 else None
    return case.exchange.schedule_cancel(at), case.ours(requests.schedule_cancel_action(at))


KINDS: dict[str, Callable[[Case], tuple[Json, Json]]] = {
    "order": order,
    "cancel": cancel,
    "cancelByCloid": cancel_by_cloid,
    "batchModify": batch_modify,
    "modify": modify,
    "scheduleCancel": schedule_cancel,
}


def main(seed: str, number: str) -> None:
    """Compare, and print what was compared and where the two differ."""
    chance = random.Random(int(seed))
    kinds: Counter[str] = Counter()
    covered: Counter[str] = Counter()
    differences: list[Json] = []
    wires = 0
    for index in range(int(number)):
        kind = list(KINDS)[index % len(KINDS)]
        case = Case(chance)
        theirs, ours = KINDS[kind](case)
        kinds[theirs["action"]["type"]] += 1
        covered.update(case.covered)
        wires += case.wires
        # As text: the order of an action's keys is part of what is signed.
        if json.dumps(theirs, sort_keys=False) != json.dumps(ours, sort_keys=False):
            differences.append({"kind": kind, "sdk": theirs, "ours": ours})
    result = {
        "seed": int(seed),
        "n": sum(kinds.values()),
        "kinds": kinds,
        "covered": covered,
        "wires": wires,
        "different": len(differences),
        "differences": differences[:SHOWN],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
