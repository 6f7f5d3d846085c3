"""mmpi.practice.hyperliquid.funding: paid on the hour to every position, streamed, listed and counted."""

from pathlib import Path

from practice_builders import (
    MASTER,
    NOW,
    NOW_MS,
    PURR,
    STRANGER,
    Ear,
    ask,
    book,
    order,
    place,
    spot_book,
    spot_order,
    venue,
)

from mmpi.events import Mark
from mmpi.instrument import SECOND
from mmpi.practice.hyperliquid import info
from mmpi.practice.hyperliquid.signatures import address_of
from mmpi.practice.hyperliquid.streams import Hub
from mmpi.practice.hyperliquid.venue import Venue

HOUR = 3600 * SECOND
DUE = NOW + HOUR
LONG, SHORT = {"buy": True}, {"buy": False}


def mark(due: int, rate: float = 0.0000125, ts: int = NOW) -> Mark:
    """Return a BTC mark of 100000 with the oracle at 110000, so that the two cannot be confused."""
    return Mark(ts, "BTC", ts, 1_000_000.0, 1_100_000.0, rate, due)


def hold(built: Venue, size: str, *, buy: bool, key: bytes | None = None) -> None:
    """Take a BTC position."""
    price = "100001" if buy else "100000"
    place(built, order(price, size, buy=buy, tif="Ioc"), **({} if key is None else {"key": key}))


def cash(built: Venue, user: str = MASTER) -> str:
    """Return the cash of an account."""
    raw: str = ask(built, "clearinghouseState", user=user)["marginSummary"]["totalRawUsd"]
    return raw


def test_longs_pay_shorts(tmp_path: Path) -> None:
    """At the time that the mark named, each position pays size x oracle x rate; nothing before, and nothing twice."""
    built = venue(tmp_path)
    hold(built, "0.5", **LONG)
    hold(built, "0.2", **SHORT, key=STRANGER)
    built.on_market(mark(DUE))
    before = [float(cash(built)), float(cash(built, address_of(STRANGER)))]
    built.tick(DUE - 1)
    assert [float(cash(built)), float(cash(built, address_of(STRANGER)))] == before
    for late in (0, 1):
        built.tick(DUE + late)
    after = [float(cash(built)), float(cash(built, address_of(STRANGER)))]
    assert [round(now - then, 6) for now, then in zip(after, before, strict=True)] == [-0.6875, 0.275]


def test_what_is_due_is_paid_before_the_next_rate_is_taken(tmp_path: Path) -> None:
    """A mark that comes after the hour, before anybody looked at the clock, does not replace the payment."""
    built = venue(tmp_path)
    hold(built, "0.5", **LONG)
    built.on_market(mark(DUE))
    built.on_market(mark(DUE + HOUR, 0.5, ts=DUE + SECOND))
    assert [each["delta"]["usdc"] for each in ask(built, "userFunding")] == ["-0.6875"]


def test_a_payment_is_streamed(tmp_path: Path) -> None:
    """userFundings and userEvents tell it, at the hour itself; a later subscriber has it in the snapshot."""
    hub, ear = Hub(), Ear()
    built = venue(tmp_path, hub)
    hold(built, "0.5", **LONG)
    for topic in ("userFundings", "userEvents"):
        hub.add((topic, MASTER), ear)
    empty = {"isSnapshot": True, "user": MASTER, "fundings": []}
    assert info.snapshot(built, ("userFundings", MASTER), NOW) == empty
    built.on_market(mark(DUE))
    built.tick(DUE + 20_000_000)
    event = {
        "time": DUE // 1_000_000, "coin": "BTC", "usdc": "-0.6875", "szi": "0.5", "fundingRate": "0.0000125",
    }  # fmt: skip
    assert ear.on("userFundings") == [{"user": MASTER, "fundings": [event | {"nSamples": None}]}]
    assert ear.on("user") == [{"funding": event}]
    assert info.snapshot(built, ("userFundings", MASTER), NOW) == empty | {"fundings": [event | {"nSamples": None}]}


def test_payments_are_listed(tmp_path: Path) -> None:
    """userFunding tells the account's payments in a range of time, fundingHistory the rates of the coin."""
    built = venue(tmp_path)
    hold(built, "0.5", **LONG)
    for i, rate in enumerate((0.0000125, -0.00002)):
        built.on_market(mark(DUE + i * HOUR, rate, NOW + i * HOUR))
        built.tick(DUE + i * HOUR)
    first, second = DUE // 1_000_000, (DUE + HOUR) // 1_000_000
    listed = ask(built, "userFunding", startTime=0)
    assert [(each["time"], each["delta"]["usdc"], each["delta"]["type"]) for each in listed] == [
        (first, "-0.6875", "funding"),
        (second, "1.1", "funding"),
    ]
    assert ask(built, "userFunding", startTime=first, endTime=second - 1) == listed[:1]
    assert ask(built, "userFunding", startTime=second + 1) == []
    assert ask(built, "fundingHistory", coin="BTC", startTime=second) == [
        {"coin": "BTC", "fundingRate": "-0.00002", "premium": "0.0", "time": second}
    ]
    assert ask(built, "fundingHistory", coin="ETH") == []


def test_what_a_position_paid_since(tmp_path: Path) -> None:
    """cumFunding counts what was paid: in all, since the position opened, and since its size changed."""
    built = venue(tmp_path)

    def cumulative() -> tuple[str, str, str]:
        told = ask(built, "clearinghouseState")["assetPositions"][0]["position"]["cumFunding"]
        return told["allTime"], told["sinceOpen"], told["sinceChange"]

    hold(built, "0.4", **LONG)
    built.on_market(mark(DUE))
    built.tick(DUE)
    assert cumulative() == ("0.55", "0.55", "0.55")
    hold(built, "0.2", **SHORT)
    assert cumulative() == ("0.55", "0.55", "0.0")
    built.on_market(mark(DUE + HOUR, ts=NOW + HOUR))
    built.tick(DUE + HOUR)
    assert cumulative() == ("0.825", "0.825", "0.275")
    built.on_market(book())
    hold(built, "0.6", **SHORT)
    assert cumulative() == ("0.825", "0.0", "0.0")


def test_who_holds_nothing_pays_nothing(tmp_path: Path) -> None:
    """A position closed before the hour, a balance of spot tokens, and a coin without a rate pay nothing."""
    built = venue(tmp_path)
    built.on_market(spot_book())
    hold(built, "0.5", **LONG)
    hold(built, "0.5", **SHORT)
    place(built, spot_order("0.20001", "1000", tif="Ioc"))
    built.on_market(mark(DUE))
    built.on_market(Mark(NOW, PURR.name, NOW, 20_000_000.0, 20_000_000.0, 0.01, DUE))
    before = cash(built)
    built.tick(DUE)
    assert cash(built) == before
    assert ask(built, "userFunding") == []
    assert NOW_MS < DUE // 1_000_000
