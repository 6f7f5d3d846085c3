"""Faults on demand: what can go wrong, and how a fault is written: NAME[:key=value[,key=value]].

Invariant: a fault that was read has all its numbers within the bounds that its error would name.
It must not know when a fault strikes, sockets or messages.
"""

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

import msgspec

from mmpi.errors import ConfigError

MAX_FAULTS: Final = 50
RANDOM: Final = "random"
SEPARATOR: Final = "+"
"""Between the channels of one key, because a comma ends the key."""
CHANNELS: Final = (
    "l2Book", "trades", "bbo", "activeAssetCtx", "activeSpotAssetCtx", "allMids", "orderUpdates", "userFills", "user",
    "userFundings", "userNonFundingLedgerUpdates", "post", "pong", "subscriptionResponse", "error",
)  # fmt: skip
"""The channels of messages to a client; the greeting has none and is never touched."""
LOSSY: Final = ("l2Book", "trades", "activeAssetCtx")
"""What `drop` loses unless asked for more: TCP loses no single message, so the loss of a fill is nothing real."""
DICE: Final = 0.05
"""How likely a fault is to strike, where nobody says and it has no windows; within windows it always does."""


class Key(msgspec.Struct, frozen=True):
    """A number's bounds, and its default; None = not set."""

    low: float
    high: float
    default: float | None = None
    whole: bool = False


EVERY: Final = Key(0.05, 86_400.0)
AT: Final = Key(0.0, 86_400.0)
LENGTH: Final = Key(0.01, 600.0)
_OVER: Final = {"until": Key(0.01, 10 * 86_400.0)}
_WINDOWS: Final = {"every": EVERY, "at": AT, "for": LENGTH, **_OVER}
_SOMETIMES: Final = {"p": Key(0.0, 1.0), **_WINDOWS}


def _moments(every: float) -> dict[str, Key]:
    return {"every": msgspec.structs.replace(EVERY, default=every), "at": AT, **_OVER}


def _windows(every: float, length: float) -> dict[str, Key]:
    return {**_moments(every), "for": msgspec.structs.replace(LENGTH, default=length)}


KINDS: Final[Mapping[str, Mapping[str, Key]]] = {
    "drop": _SOMETIMES,
    "delay": {**_SOMETIMES, "ms": Key(1.0, 60_000.0, 200.0)},
    "duplicate": _SOMETIMES,
    "reorder": _SOMETIMES,
    "disconnect": _moments(60.0),
    "half_open": _windows(60.0, 5.0),
    "http_429": _SOMETIMES,
    "http_5xx": {**_SOMETIMES, "status": Key(500, 599, 502, True), "executed": Key(0, 1, 0, True)},
    "stale_book": _windows(60.0, 10.0),
    "hole": {**_moments(30.0), "n": Key(1, 10_000, 10, True)},
    "clock_skew": {"s": Key(-86_400.0, 86_400.0, 90.0), **_WINDOWS},
    "ack_lost": _SOMETIMES,
    "cancel_lost": _SOMETIMES,
    "place_lost": _SOMETIMES,
    "late": {**_SOMETIMES, "ms": Key(1.0, 60_000.0, 3000.0)},
    "refuse_ws": _windows(60.0, 10.0),
    RANDOM: {"seed": Key(0, 2**53, None, True), **_OVER},
}
"""Every fault, with its keys."""
BY_CHANNEL: Final[Mapping[str, Sequence[str]]] = {
    "drop": LOSSY, "delay": CHANNELS, "duplicate": CHANNELS, "reorder": CHANNELS,
}  # fmt: skip
"""The faults that have `channels` too, and which they strike where it is not set."""
WINDOW_S: Final = 5.0
"""How long a window is where nobody says."""


class Fault(msgspec.Struct, frozen=True):
    """One fault as it was asked for; times are seconds from the start of the set it belongs to."""

    name: str
    text: str
    p: float = 1.0
    every_s: float | None = None
    at_s: float | None = None
    for_s: float = 0.0
    """Length of a window; 0 = a moment."""
    until_s: float = math.inf
    ms: float = 0.0
    n: int = 0
    s: float = 0.0
    status: int = 0
    executed: bool = False
    seed: int | None = None
    channels: frozenset[str] = frozenset()

    @property
    def always(self) -> bool:
        """Return whether it is in force all the time, not in windows or at moments."""
        return self.every_s is None and self.at_s is None


def read_faults(texts: Sequence[str]) -> tuple[Fault, ...]:
    """Return faults as they are written; ConfigError names the one that cannot be, and what is allowed."""
    if len(texts) > MAX_FAULTS:
        raise ConfigError(f"--fault: {len(texts)} faults; allowed: at most {MAX_FAULTS}")
    faults = tuple(read_fault(text) for text in texts)
    if sum(fault.name == RANDOM for fault in faults) > 1:
        raise ConfigError(f"--fault: {RANDOM} more than once; allowed: once")
    return faults


def read_fault(text: str) -> Fault:
    """Return one fault; ConfigError says what of it is wrong and what is allowed."""
    where = f"--fault {text!r}"
    name, colon, rest = text.strip().partition(":")
    keys = KINDS.get(name)
    if keys is None:
        raise ConfigError(f"{where}: no fault {name!r}; allowed: {', '.join(KINDS)}")
    allowed = (*keys, *(("channels",) if name in BY_CHANNEL else ()))
    given: dict[str, str] = {}
    for part in rest.split(",") if colon else ():
        key, equals, value = (word.strip() for word in part.partition("="))
        if not equals or key not in allowed or key in given:
            wrong = f"{key!r} twice" if key in given else f"{part.strip()!r}"
            raise ConfigError(f"{where}: {wrong}; allowed: key=value, each once, with the keys {', '.join(allowed)}")
        given[key] = value
    channels = _channels(given.pop("channels", None), BY_CHANNEL.get(name, ()), where)
    numbers = {key: _number(key, value, keys[key], where) for key, value in given.items()}
    return _fault(name, text.strip(), keys, numbers, channels, where)


def _fault(
    name: str, text: str, keys: Mapping[str, Key], given: Mapping[str, float], channels: frozenset[str], where: str
) -> Fault:
    if "every" in given and "at" in given:
        raise ConfigError(f"{where}: every and at; allowed: one of the two")
    values = {key: given.get(key, rule.default) for key, rule in keys.items()}
    # One moment that was asked for takes the place of the moments that are the default.
    every, at = None if "at" in given else values.get("every"), values.get("at")
    timed = every is not None or at is not None
    if "for" in given and not timed:
        raise ConfigError(f"{where}: for without every or at; allowed: for=SECONDS beside one of the two")
    length = 0.0
    if timed and "for" in keys:
        length = given.get("for") or min(values["for"] or WINDOW_S, math.inf if every is None else every / 2)
    if every is not None and length >= every:
        raise ConfigError(f"{where}: for={length:g} with every={every:g}; allowed: for shorter than every")
    p, until, seed = values.get("p"), values.get("until"), values.get("seed")
    return Fault(
        name=name,
        text=text,
        p=(1.0 if timed or "p" not in keys else DICE) if p is None else p,
        every_s=every,
        at_s=at,
        for_s=length,
        until_s=math.inf if until is None else until,
        ms=values.get("ms") or 0.0,
        n=int(values.get("n") or 0),
        s=values.get("s") or 0.0,
        status=int(values.get("status") or 0),
        executed=bool(values.get("executed")),
        seed=None if seed is None else int(seed),
        channels=channels,
    )


def _number(key: str, text: str, rule: Key, where: str) -> float:
    try:
        value = float(int(text)) if rule.whole else float(text)
    except (ValueError, OverflowError):
        value = math.nan
    if not rule.low <= value <= rule.high:
        kind = "a whole number" if rule.whole else "a number"
        raise ConfigError(f"{where}: {key}={text}; allowed: {kind} from {rule.low:g} to {rule.high:.16g}")
    return value


def _channels(text: str | None, default: Sequence[str], where: str) -> frozenset[str]:
    if text is None:
        return frozenset(default)
    chosen = frozenset(text.split(SEPARATOR))
    if unknown := sorted(chosen - set(CHANNELS)):
        names = ", ".join(CHANNELS)
        raise ConfigError(f"{where}: channel {unknown[0]!r}; allowed, with {SEPARATOR} between them: {names}")
    return chosen


def drawn(seed: int, until_s: float = math.inf) -> tuple[Fault, ...]:
    """Return what `random` stands for: every fault but itself, at gentle rates drawn from a seed.

    Each socket is cut about once in half a minute and deaf for a few seconds in each, a few requests in a hundred are
    refused or lost, and the venue's clock is off by at most 0.8 s, for seconds: a client that obeys the rules can
    quote most of the time.
    """
    dice = Random(f"random/{seed}")

    def number(low: float, high: float) -> str:
        return f"{dice.uniform(low, high):.3g}"

    texts = (
        f"drop:p={number(0.005, 0.03)}",
        f"delay:p={number(0.005, 0.03)},ms={dice.randint(50, 600)}",
        f"duplicate:p={number(0.005, 0.03)}",
        f"reorder:p={number(0.005, 0.03)}",
        f"disconnect:every={number(20, 45)}",
        f"half_open:every={number(25, 60)},for={number(1, 5)}",
        f"http_429:p={number(0.002, 0.02)}",
        f"http_5xx:p={number(0.002, 0.02)},status={dice.choice((500, 502, 503, 504))},executed={dice.choice((0, 1))}",
        f"stale_book:every={number(25, 60)},for={number(1, 6)}",
        f"hole:every={number(15, 40)},n={dice.randint(2, 12)}",
        f"clock_skew:every={number(20, 60)},for={number(2, 8)},s={dice.choice((-1, 1)) * dice.uniform(0.1, 0.8):.2g}",
        f"ack_lost:p={number(0.005, 0.03)}",
        f"cancel_lost:p={number(0.005, 0.02)}",
        f"place_lost:p={number(0.005, 0.02)}",
        f"late:p={number(0.005, 0.03)},ms={dice.randint(300, 4000)}",
        f"refuse_ws:every={number(30, 60)},for={number(1, 5)}",
    )
    over = "" if until_s == math.inf else f",until={until_s:g}"
    return read_faults([text + over for text in texts])
