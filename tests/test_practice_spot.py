"""mmpi.practice.hyperliquid.spot and wallet: the pair, its market, its orders, balances and fees."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from practice_builders import (
    MASTER,
    NOW,
    NOW_MS,
    PURR,
    PURR_ASSET,
    Ear,
    ask,
    book,
    order,
    place,
    signed,
    spot_book,
    spot_order,
    venue,
)

from mmpi.events import BookSnapshot, Mark, Trade
from mmpi.instrument import BUY, MONEY_SCALE, SECOND, SELL, make_instrument, money, money_text
from mmpi.practice.hyperliquid import info
from mmpi.practice.hyperliquid.spot import PAIRS, USDC, Pair, Token, beside
from mmpi.practice.hyperliquid.streams import Hub
from mmpi.practice.hyperliquid.venue import Venue
from mmpi.practice.hyperliquid.wallet import Balance, Wallet
from mmpi.sim.model import fee_rate

PAIR = PAIRS["PURR/USDC"]
SOL = Token("USOL", 254, 3, 8, "0x")
USOL = Pair(156, SOL, USDC, make_instrument("@156", "0.00001", "0.001", significant_figures=5))


def balances(built: Venue) -> dict[str, tuple[str, str]]:
    """Return total and hold of each token of MASTER."""
    told = ask(built, "spotClearinghouseState")["balances"]
    return {each["coin"]: (each["total"], each["hold"]) for each in told}


def spot_venue(path: Path, hub: Hub | None = None) -> Venue:
    """Return a venue that has shown a PURR/USDC book."""
    built = venue(path, hub)
    built.on_market(spot_book())
    return built


def test_the_pair_is_named_as_at_the_venue(tmp_path: Path) -> None:
    """spotMeta leads to asset 10000, and the perpetuals' numbers are what they were."""
    built = venue(tmp_path)
    meta = ask(built, "spotMeta")
    (pair,) = meta["universe"]
    base, quote = ({token["index"]: token for token in meta["tokens"]}[index] for index in pair["tokens"])
    assert (pair["name"], 10_000 + pair["index"]) == ("PURR/USDC", PURR_ASSET)
    assert (base["name"], base["szDecimals"], base["weiDecimals"], quote["name"]) == ("PURR", 0, 5, "USDC")
    assert [coin["name"] for coin in ask(built, "meta")["universe"]] == ["BTC", "ETH"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (spot_order("0.199991", "1000"), "Price must be divisible by tick size. asset=10000"),
        (spot_order("0.000000001", "1000"), "Price must be divisible by tick size. asset=10000"),
        (spot_order("0.19", "100.5"), "Order has invalid size."),
        (spot_order("0.19", "10"), "Order must have minimum value of 10 USDC."),
        (spot_order("0.19", "1000", reduce_only=True), "Reduce-only is invalid for spot trading."),
        (spot_order("0.19", "600000"), "Insufficient spot balance asset=10000"),
        (spot_order("0.21", "500001", buy=False), "Insufficient spot balance asset=10000"),
        (
            spot_order("0.20001", "1000", tif="Alo"),
            "Post only order would have immediately matched, bbo was 0.19999@0.20001. asset=10000",
        ),
    ],
)
def test_a_wrong_spot_order_has_the_venues_sentence(tmp_path: Path, wrong: dict[str, Any], sentence: str) -> None:
    """Five significant figures, eight decimals less those of sizes, ten of the quote token, no shorting."""
    assert place(spot_venue(tmp_path), wrong) == {"error": sentence}


@pytest.mark.parametrize("price", ["0.19998", "0.012345", "0.00012345", "12", "123456"])
def test_valid_spot_prices(tmp_path: Path, price: str) -> None:
    """Up to five significant figures, and any integer."""
    built = spot_venue(tmp_path)
    assert "resting" in place(built, spot_order(price, "100000" if price < "0.1" else "100", buy=price < "0.2"))


def test_orders_hold_what_they_may_pay(tmp_path: Path) -> None:
    """A buy holds USDC, a sale holds the base; what is held is there for no other order, until it is cancelled."""
    built = spot_venue(tmp_path)
    oid = place(built, spot_order("0.1", "900000"))["resting"]["oid"]
    place(built, spot_order("0.3", "500000", buy=False))
    assert balances(built) == {"USDC": ("100000.0", "90000.0"), "PURR": ("500000.0", "500000.0")}
    assert "Insufficient" in place(built, spot_order("0.1", "100001"))["error"]
    assert "Insufficient" in place(built, spot_order("0.3", "100", buy=False))["error"]
    built.act(signed({"type": "cancel", "cancels": [{"a": PURR_ASSET, "o": oid}]}), NOW)
    assert balances(built)["USDC"] == ("100000.0", "0.0")
    assert "resting" in place(built, spot_order("0.1", "100001"))


def test_a_buyer_pays_the_fee_in_what_it_gets(tmp_path: Path) -> None:
    """7 bps of the base for a taker, and the position is a balance, not one of the clearing house."""
    built = spot_venue(tmp_path)
    answer = place(built, spot_order("0.20001", "1000", tif="Ioc"))
    assert answer["filled"]["avgPx"] == "0.20001"
    (fill,) = ask(built, "userFills")
    assert {key: fill[key] for key in ("coin", "dir", "side", "fee", "feeToken", "startPosition", "crossed")} == {
        "coin": "PURR/USDC", "dir": "Buy", "side": "B", "fee": "0.7", "feeToken": "PURR",
        "startPosition": "500000.0", "crossed": True,
    }  # fmt: skip
    assert balances(built) == {"USDC": ("99799.99", "0.0"), "PURR": ("500999.3", "0.0")}
    state = ask(built, "clearinghouseState")
    assert (state["assetPositions"], state["marginSummary"]["accountValue"]) == ([], "100000.0")
    assert ask(built, "userRateLimit")["cumVlm"] == "200.01"


def test_a_seller_pays_the_fee_in_usdc(tmp_path: Path) -> None:
    """4 bps for a maker, and what the sale earned is counted against what the tokens cost."""
    built = spot_venue(tmp_path)
    place(built, spot_order("0.20001", "1000", buy=False))
    built.on_market(spot_book("0.21", "0.211"))
    (fill,) = ask(built, "userFills")
    assert {key: fill[key] for key in ("dir", "side", "fee", "feeToken", "closedPnl", "crossed")} == {
        "dir": "Sell", "side": "A", "fee": "0.080004", "feeToken": "USDC", "closedPnl": "0.01", "crossed": False,
    }  # fmt: skip
    assert balances(built) == {"USDC": ("100199.929996", "0.0"), "PURR": ("499000.0", "0.0")}


def test_a_fee_is_cut_as_a_recorded_one() -> None:
    """1.267 at 160.32 cost a taker 0.00088689 of the base (a recorded fill, @156)."""
    wallet = Wallet()
    wallet.balances[SOL] = Balance()
    booked = wallet.trade(USOL, BUY, USOL.instrument.ticks("160.32"), USOL.instrument.lots("1.267"), fee_rate(7.0))
    assert (money_text(booked.fee), booked.token) == ("0.00088689", SOL)
    assert wallet.balances[SOL].total == money("1.267") - money("0.00088689")


TRADES = st.lists(
    st.tuples(st.sampled_from((BUY, SELL)), st.integers(1, 10**9), st.integers(1, 10**5), st.sampled_from((0, 7, 70))),
    max_size=30,
)


@given(TRADES)
def test_nothing_is_lost_but_the_fees(trades: list[tuple[Any, int, int, int]]) -> None:
    """Whatever is traded within the balances, totals change by cost, size and fee, and never fall below zero."""
    wallet = Wallet()
    usdc, purr = wallet.balances[USDC].total, wallet.balances[PAIR.base].total
    for side, price, size, bps in trades:
        cost = PURR.notional(price, size)
        if (side == BUY and cost > usdc) or (side == SELL and size * MONEY_SCALE > purr):
            continue
        booked = wallet.trade(PAIR, side, price, size, fee_rate(bps / 10))
        usdc -= side * cost + (booked.fee if side == SELL else 0)
        purr += side * size * MONEY_SCALE - (booked.fee if side == BUY else 0)
        assert (wallet.balances[USDC].total, wallet.balances[PAIR.base].total) == (usdc, purr)
        assert usdc >= 0 and purr >= 0 and booked.fee >= 0
        assert wallet.balances[PAIR.base].entry >= 0


def test_spot_data_is_public(tmp_path: Path) -> None:
    """Book, mid, trades and the context of the pair are asked for and streamed by its coin's name."""
    hub, ear = Hub(), Ear()
    built = venue(tmp_path, hub)
    assert info.snapshot(built, ("activeAssetCtx", PURR.name), NOW) is None
    for topic in ("l2Book", "bbo", "trades", "activeAssetCtx"):
        hub.add((topic, PURR.name), ear)
    built.on_market(spot_book())
    built.on_market(Trade(NOW + 1, PURR.name, NOW + 1, 1, BUY, PURR.ticks("0.20001"), PURR.lots("100")))
    built.on_market(Mark(NOW + 2, PURR.name, NOW + 2, float(PURR.ticks("0.2"))))
    assert ask(built, "allMids") == {"BTC": "100000.5", "PURR/USDC": "0.2"}
    assert ask(built, "l2Book", coin=PURR.name)["levels"][0] == [{"px": "0.19999", "sz": "100000.0", "n": 1}]
    assert [each["coin"] for each in ear.on("l2Book") + ear.on("bbo")] == [PURR.name] * 2
    assert [each["px"] for data in ear.on("trades") for each in data] == ["0.20001"]
    (told,) = ear.on("activeSpotAssetCtx")
    assert (told["coin"], told["ctx"]["markPx"], told["ctx"]["midPx"]) == (PURR.name, "0.2", "0.2")
    assert info.snapshot(built, ("activeAssetCtx", PURR.name), NOW) == told
    meta, (context,) = ask(built, "spotMetaAndAssetCtxs")
    assert (meta, context) == (ask(built, "spotMeta"), told["ctx"])


def test_the_generated_market_comes_between_the_other_events() -> None:
    """All events are in the order of their times, the pair's books are on its grid, its marks tell no funding."""
    others = [book(ts=NOW + i * SECOND) for i in range(30)]
    events = list(islice(beside(iter(others), 7, NOW), 300))
    times = [event.recv_ts for event in events]
    assert times == sorted(times)
    mine = [event for event in events if event.instrument == PURR.name]
    assert [event for event in events if event.instrument != PURR.name] == [
        event for event in others if event.recv_ts <= times[-1]
    ]
    books = [event for event in mine if isinstance(event, BookSnapshot)]
    for each in books:
        prices = [price for price, _ in each.bids[::-1] + each.asks]
        assert prices == sorted(set(prices))
        assert all(price % PURR.step_at(price) == 0 for price in prices)
    assert abs(books[0].bids[0][0] - PURR.ticks("0.2")) <= 10 * PURR.step_at(PURR.ticks("0.2"))
    marks = [event for event in mine if isinstance(event, Mark)]
    assert marks and {(each.rate, each.next_ts) for each in marks} == {(0.0, 0)}
    assert any(isinstance(event, Trade) for event in mine)


def test_the_same_seed_makes_the_same_market() -> None:
    """And another seed makes another."""
    one, again, other = (list(islice(beside(iter(()), seed, NOW), 50)) for seed in (7, 7, 8))
    assert one == again != other


def test_perpetuals_and_spot_share_ids_and_times(tmp_path: Path) -> None:
    """No oid or tid is used twice, whatever the market."""
    built = spot_venue(tmp_path)
    oids = [
        place(built, order("100001", "0.01", tif="Ioc"))["filled"]["oid"],
        place(built, spot_order("0.20001", "100", tif="Ioc"))["filled"]["oid"],
    ]
    fills = ask(built, "userFillsByTime")
    assert [fill["oid"] for fill in fills] == oids and len({*oids}) == 2
    assert len({fill["tid"] for fill in fills}) == 2
    assert {fill["time"] for fill in fills} == {NOW_MS}
    assert {row["account"] for row in built.fill_log()} == {MASTER}
