"""Signatures against the venue's own vectors, the wire's numbers, and keys that never show.

tests/test_vendor_client.py compares the same with the vendor's SDK, for random actions.
"""

import json
import re
import traceback
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mmpi.actions import AmendOrder, NewOrder, TimeInForce
from mmpi.errors import ConfigError
from mmpi.instrument import BUY, make_instrument
from mmpi.venues.hyperliquid import requests
from mmpi.venues.hyperliquid.messages import instrument_from_meta
from mmpi.venues.hyperliquid.signing import Signer, connection_id, parse_key

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT.parent / "shared" / "data" / "vectors"
VECTORS, FORMATS = FOLDER / "hyperliquid_signing.json", FOLDER / "hyperliquid_price_size_formatting.json"
KINDS = {"l1_action", "phantom_agent", "user_signed_eip712"}
SECRET = "0x0123456789012345678901234567890123456789012345678901234567890123"
VAULT = "0x1719884eb866cb12b2287399b15f7db5e7d775ea"
NONCE, EXPIRES, FIRES = 1_700_000_000_000, 1_700_000_002_000, 1_700_000_008_000
COIN = instrument_from_meta("COIN", 0)
FIRST, SECOND = "0x" + "0" * 31 + "1", "0x" + "0" * 31 + "2"
MOVES_MONEY = (
    "HyperliquidSignTransaction", "HyperliquidTransaction:", "signatureChainId", "usdSend", "UsdSend", "spotSend",
    "withdraw3", "usdClassTransfer", "sendAsset", "vaultTransfer", "subAccountTransfer", "createSubAccount",
    "approveAgent", "approveBuilderFee", "tokenDelegate", "convertToMultiSigUser",
)  # fmt: skip
"""What the SDK's user-signed actions, and those that move money between accounts, are called on the wire."""


def recorded(path: Path, key: str) -> list[Any]:
    """Return a list of a file of recorded vectors as parameters, or one skipped parameter where the data is absent."""
    if not path.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"recorded vectors are absent: {path.name}"))]
    return [pytest.param(v, id=v.get("id", v.get("desc"))) for v in json.loads(path.read_text())[key]]


def vectors(*kinds: str) -> list[Any]:
    """Return the recorded signing vectors of some kinds as parameters, one skipped where the data is absent."""
    return [each for each in recorded(VECTORS, "vectors") if each.values[0] is None or each.values[0]["kind"] in kinds]


def place(price: str = "100", size: str = "100", cloid: str = FIRST, tif: TimeInForce = TimeInForce.POST_ONLY) -> Any:
    """Return an order to buy, with its instrument and asset number, as the builders of actions take it."""
    return NewOrder("COIN", cloid, BUY, COIN.ticks(price), COIN.lots(size), 0, tif), COIN, 1


def amend(oid: int | None, orig: str = SECOND) -> Any:
    """Return the replacement of an order by the same order, by its oid, or without one by our id of it."""
    new = place()[0]
    name = "" if oid is None else str(oid)
    return AmendOrder("COIN", orig, name, new.cl_ord_id, BUY, new.price, new.size, 0, new.time_in_force), COIN, 1


CANCELS = [(1, 82382), (10107, 2**33)]
SDK: dict[str, tuple[dict[str, object], str, int | None, bool, tuple[str, str, int]]] = {
    "order, vault": (
        requests.place_action([place()]), VAULT, None, True,
        ("0x43f2a4a5525986bf4acf192f57af6fa7dd1c29a6c2349e37c986ec38efb99ee4",
         "0x3a2b974c44006539d2b808b41583331f2d90dbac77df91c39c7a07b0a429e751", 28),
    ),
    "order, expiry": (
        requests.place_action([place()]), "", EXPIRES, True,
        ("0xfb3df097807bac3fbd4a2bd9436951d0be311e23a52e87e90320cedb3062c5b3",
         "0x6c7956513002e930c687143e1d3702598f4701b55e5017653b26fe6a94f015c3", 27),
    ),
    "order, vault, expiry, testnet": (
        requests.place_action([place()]), VAULT, EXPIRES, False,
        ("0x87c37d0862cb6aec94b2d608df15c7a852a3fad45c495b1fbced8dd3698f64dd",
         "0x7ffc015c287d4a47b16b78492647da27afbccd7867555c90d500887972e7891e", 28),
    ),
    "cancel, perp and spot": (
        requests.cancel_action(CANCELS), "", EXPIRES, False,
        ("0x9248fe5e3f0a7a066a7e15c3f184e1aa6b287d1715c5c506d9bd8b536180afc6",
         "0x4dea71c74151da102a31f525a90b1d2b102eb7acb11515c2a44cf937316829a7", 27),
    ),
    "cancelByCloid": (
        requests.cancel_by_cloid_action([(1, FIRST)]), VAULT, None, False,
        ("0x724442fbdead24cfebd5fdc826aafb1ca22926e65963cc6752379d3f8ab790a8",
         "0x118a663c4903dc748eef6882f778c75e0d3b281d8cacfb0c86ccc134c1614b26", 27),
    ),
    "batchModify, by oid and by cloid": (
        requests.modify_action([amend(82382), amend(None)]), VAULT, EXPIRES, True,
        ("0x87cff82ad6d527de666bf54f18d8d1464434f75f48767d0b459e36e3b7fc8020",
         "0x541345a683bb8cf5dc0ba1f45d610477659f3054bda66f522cbe45a5d4f590e", 27),
    ),
    "scheduleCancel": (
        requests.schedule_cancel_action(FIRES), "", None, True,
        ("0xc076f12e91a4215121a9803f608fdab75cec61d979c3113af26702ae2015e27b",
         "0x36fc6950648091fab54e761ab6ad5d2c69347c45f3febe30fee8a01240d9f98", 28),
    ),
    "scheduleCancel, vault, expiry, testnet": (
        requests.schedule_cancel_action(FIRES), VAULT, EXPIRES, False,
        ("0xbc653588be6fe0fee7303012ffc2a848afe8e845857bfe274d40ce6d24ec9e16",
         "0x2c5a667afec02b045e170b925f7287fe0ccae06b33fd87d39324a7ad3ce6c674", 28),
    ),
}  # fmt: skip
"""Action, vault, expiry, whether mainnet, and what sign_l1_action of hyperliquid-python-sdk 0.24.0 gives for SECRET and
NONCE; recorded because the vectors have neither vaults nor expiries nor modifies."""


def vault_of(vector: dict[str, Any]) -> bytes | None:
    """Return the vault address of a vector as bytes."""
    return bytes.fromhex(vector["vault_address"][2:]) if vector["vault_address"] else None


@pytest.mark.parametrize("vector", vectors("l1_action"))
def test_l1_actions_are_signed_as_the_venue_signs_them(vector: dict[str, Any]) -> None:
    """Every recorded L1 action gives the recorded signature."""
    signer = Signer(parse_key(vector["private_key"], "key"), mainnet=vector["is_mainnet"])
    r, s, v = signer.sign(vector["action"], vector["nonce"], vector["expires_after"], vault_of(vector))
    expected = vector["expected"]
    assert (int(r, 16), int(s, 16), v) == (int(expected["r"], 16), int(expected["s"], 16), expected["v"])
    if "expected_compact" in vector:
        compact = f"0x{int(r, 16):064x}{int(s, 16):064x}{v:02x}"
        assert compact == vector["expected_compact"]


@pytest.mark.parametrize("vector", vectors("l1_action"))
def test_each_step_to_a_signature_is_the_venues(vector: dict[str, Any]) -> None:
    """What was recorded on the way, the packed action and the connection id, is ours too."""
    derived = vector["derived"]
    digest = connection_id(vector["action"], vector["nonce"], vector["expires_after"], vault_of(vector))
    assert "0x" + digest.hex() == derived["connection_id"]
    packed = msgspec.msgpack.encode(vector["action"]).hex()
    assert derived.get("action_msgpack_hex", packed) == packed


def test_no_recorded_vector_is_left_out() -> None:
    """Every vector is of a kind that a test here takes; those signed by users are about transfers alone."""
    kinds = [each.values[0]["kind"] for each in vectors(*KINDS) if each.values[0] is not None]
    if not kinds:
        pytest.skip("recorded vectors are absent")
    assert set(kinds) == KINDS
    assert len(kinds) == len(json.loads(VECTORS.read_text())["vectors"])


@pytest.mark.parametrize("vector", vectors("phantom_agent"))
def test_the_connection_id_matches_production(vector: dict[str, Any]) -> None:
    """The recorded production order hashes to the recorded connection id."""
    digest = connection_id(vector["action"], vector["nonce"], None, vault_of(vector))
    assert "0x" + digest.hex() == vector["expected_connection_id"]


@pytest.mark.parametrize("name", SDK)
def test_what_we_send_is_signed_as_the_sdk_signs_it(name: str) -> None:
    """Our builders' actions, with vault and expiry on either network, carry the SDK's signature in our frame."""
    action, vault, expires, mainnet, (r, s, v) = SDK[name]
    frame = requests.action_post(7, action, Signer(parse_key(SECRET, "key"), mainnet=mainnet), NONCE, expires, vault)
    assert json.loads(frame)["request"]["payload"] == {
        "action": action,
        "nonce": NONCE,
        "signature": {"r": r, "s": s, "v": v},
        "vaultAddress": vault or None,
        "expiresAfter": expires,
    }


@pytest.mark.parametrize("vector", vectors("l1_action"))
def test_our_builders_make_the_recorded_actions(vector: dict[str, Any]) -> None:
    """Of the recorded actions those that we send come out of our builders key by key, in the order that is signed."""
    made: dict[str, dict[str, object]] = {
        "order_gtc_cloid": requests.place_action([place(tif=TimeInForce.GTC)]),
        "rust_cancel": requests.cancel_action([(1, 82382)]),
        "schedule_cancel_clear": requests.schedule_cancel_action(None),
    }
    ours = made.get(vector["id"].rpartition("_")[0])
    never_ours = {"dummy", "createSubAccount", "order"}  # the recorded orders lack our id, or are triggers
    assert vector["action"]["type"] in never_ours if ours is None else json.dumps(ours) == json.dumps(vector["action"])


@pytest.mark.parametrize("case", recorded(FORMATS, "cases"))
def test_prices_and_sizes_are_written_as_the_venue_wants_them(case: dict[str, Any]) -> None:
    """A price of too many digits becomes five significant figures, a size the coin's decimals, without zeros behind."""
    coin = instrument_from_meta(case["coin"], case["sz_decimals"])
    slip = 1.05 if case["order_type"] == "market" else 1.0  # ccxt's own, for a market order
    price = coin.round_bid(float(case["input_price"]) * slip * coin.ticks_per_quote)
    size = round(float(case["input_amount"]) * coin.lots_per_base)
    tif = TimeInForce.IOC if case["order_type"] == "market" else TimeInForce.GTC
    new = NewOrder(coin.name, FIRST, BUY, price, size, 0, tif)
    (order,) = requests.place_action([(new, coin, case["asset"])])["orders"]
    assert (order["p"], order["s"]) == (case["expected_wire_price"], case["expected_wire_size"])
    assert {key: value for key, value in order.items() if key != "c"} == case["wire_order"]


def test_numbers_are_written_as_the_recorded_ones() -> None:
    """All recorded number texts of the venue's SDKs: no zeros behind, no minus zero, and never a rounding."""
    if not VECTORS.exists():
        pytest.skip("recorded vectors are absent")
    found = json.loads(VECTORS.read_text())
    finest = make_instrument("X", "0.00000001", "0.01")
    texts = found["float_to_wire"]["cases"]
    assert [finest.price_text(finest.ticks(text)) for text, _ in texts] == [wire for _, wire in texts]
    for block in found["float_to_int"]:
        assert [finest.ticks(str(number)) for number, _ in block["cases"]] == [whole for _, whole in block["cases"]]
        for number in block["raises"]:
            with pytest.raises(ConfigError, match="not a multiple"):
                finest.ticks(str(number))


def test_nothing_here_can_move_money_out() -> None:
    """No module names what a transfer, a withdrawal or an approval of keys is called, or their signing domain."""
    modules = [path for path in (ROOT / "mmpi").rglob("*.py") if "practice" not in path.relative_to(ROOT).parts]
    words = re.compile("|".join(map(re.escape, MOVES_MONEY)))
    assert len(modules) > 100
    assert [path.name for path in modules if words.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("vector", vectors("user_signed_eip712"))
def test_an_agents_signature_is_none_of_a_users(vector: dict[str, Any]) -> None:
    """The message of a recorded transfer, given to our signer, comes out with another signature than the transfer's."""
    signer = Signer(parse_key(vector["private_key"], "key"), mainnet=vector["is_mainnet"])
    r, s, _ = signer.sign(vector["message"], vector["message"]["time"], None)
    assert (int(r, 16), int(s, 16)) != (int(vector["expected"]["r"], 16), int(vector["expected"]["s"], 16))


def test_signing_matches_without_recorded_data() -> None:
    """The SDK's first order vector holds, with the leading zeros stripped."""
    order = {"a": 1, "b": True, "p": "100", "s": "100", "r": False, "t": {"limit": {"tif": "Gtc"}}}
    action = {"type": "order", "orders": [order], "grouping": "na"}
    assert Signer(parse_key(SECRET, "key"), mainnet=True).sign(action, 0, None) == (
        "0xd65369825a9df5d80099e513cce430311d7d26ddf477f5b3a33d2806b100d78e",
        "0x2b54116ff64054968aa237c20ca9ff68000f977c93289157748a3162b6ea940e",
        28,
    )


def test_expiry_and_vault_are_part_of_what_is_signed() -> None:
    """Changing the expiry or the vault changes the hash."""
    action = {"type": "cancel", "cancels": []}
    ids = {
        connection_id(action, 1, None),
        connection_id(action, 1, 0),
        connection_id(action, 1, 2),
        connection_id(action, 1, 3),
        connection_id(action, 1, None, bytes(20)),
    }
    assert len(ids) == 5


def test_the_address_is_the_keys() -> None:
    """The key 1 has the address that is public knowledge."""
    assert Signer((1).to_bytes(32, "big"), mainnet=True).address == "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"


@pytest.mark.parametrize("text", [SECRET, SECRET[2:], SECRET.upper().replace("0X", "0x"), f"  {SECRET}\n"])
def test_keys_are_read_in_any_usual_form(text: str) -> None:
    """Prefix, case and white space around a key do not matter."""
    assert parse_key(text, "key").hex() == SECRET[2:]


@pytest.mark.parametrize(
    "text",
    ["", "0x", SECRET[:-2], SECRET + "00", SECRET[:-1] + "g", "0x" + "0" * 64, "0x" + "f" * 64, "0x" + " 1" * 32],
)
def test_a_bad_key_is_refused_without_showing_it(text: str) -> None:
    """The error names what it is about and what is allowed, never the text."""
    with pytest.raises(ConfigError, match="quoter.key: not a private key.*64 hex digits") as caught:
        parse_key(text, "quoter.key")
    digits = text.removeprefix("0x")
    assert not digits or digits not in "".join(traceback.format_exception(caught.value))


def test_a_signer_shows_its_address_alone() -> None:
    """No form of a signer's text contains the key."""
    signer = Signer(parse_key(SECRET, "key"), mainnet=True)
    assert SECRET[2:] not in f"{signer!r} {signer}"
    assert signer.address in repr(signer)
