"""mmpi.practice.hyperliquid.faults: how faults are written, what is refused, and what `random` stands for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.errors import ConfigError
from mmpi.practice.hyperliquid.faults import (
    BY_CHANNEL,
    CHANNELS,
    KINDS,
    LOSSY,
    MAX_FAULTS,
    RANDOM,
    Key,
    drawn,
    read_fault,
    read_faults,
)


def test_a_name_alone_has_defaults() -> None:
    """Without windows a fault of single messages or requests throws dice; others have windows or moments."""
    assert (read_fault("drop").p, read_fault("drop").always, read_fault("drop").channels) == (0.05, True, set(LOSSY))
    assert (read_fault("disconnect").every_s, read_fault("disconnect").p) == (60.0, 1.0)
    assert (read_fault("half_open").every_s, read_fault("half_open").for_s) == (60.0, 5.0)
    skew = read_fault("clock_skew")
    assert (skew.s, skew.always, skew.p) == (90.0, True, 1.0)
    assert (read_fault("http_5xx").status, read_fault("http_5xx").executed) == (502, False)
    assert read_fault("late").ms == 3000.0
    assert read_fault("hole").n == 10
    assert read_fault("duplicate").channels == set(CHANNELS)


def test_within_windows_a_fault_always_strikes() -> None:
    """`every` or `at` makes windows, of the length `for`; dice are thrown in them only if p says so."""
    windows = read_fault("http_429:every=10,for=2")
    assert (windows.p, windows.every_s, windows.for_s, windows.always) == (1.0, 10.0, 2.0, False)
    assert read_fault("http_429:every=10,for=2,p=0.5").p == 0.5
    assert (read_fault("drop:at=3").for_s, read_fault("drop:at=3").at_s) == (5.0, 3.0)
    assert read_fault("half_open:every=4").for_s == 2.0, "a window that nobody measured is at most half of every"


def test_one_moment_takes_the_place_of_the_default_ones() -> None:
    """`disconnect:at=5` is one cut, not one each minute as well; `until` ends what would go on."""
    once = read_fault("disconnect:at=5")
    assert (once.at_s, once.every_s, once.for_s) == (5.0, None, 0.0)
    assert read_fault("disconnect").until_s == math.inf
    assert read_fault(" disconnect:every=2 , until=30 ").until_s == 30.0


def test_channels_are_chosen_by_name() -> None:
    """A fill is lost only if its channel is named."""
    assert read_fault("drop:p=1,channels=orderUpdates+userFills").channels == {"orderUpdates", "userFills"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flood", "no fault 'flood'; allowed: drop, delay, duplicate, "),
        ("", "no fault ''; allowed: drop, "),
        ("drop:p=2", "p=2; allowed: a number from 0 to 1"),
        ("drop:p=x", "p=x; allowed: a number from 0 to 1"),
        ("drop:p=nan", "p=nan; allowed: a number from 0 to 1"),
        ("disconnect:every=inf", "every=inf; allowed: a number from 0.05 to 86400"),
        ("hole:n=1.5", "n=1.5; allowed: a whole number from 1 to 10000"),
        ("random:seed=-1", "seed=-1; allowed: a whole number from 0 to 9007199254740992"),
        ("drop:", "''; allowed: key=value, each once, with the keys p, every, at, for, until, channels"),
        ("drop:q=1", "'q=1'; allowed: key=value, each once, with the keys p, every, at, for, until, channels"),
        ("late:channels=post", "'channels=post'; allowed: key=value, each once, with the keys p, every, at, for, "),
        ("drop:p=0.1,p=0.2", "'p' twice; allowed: key=value, each once"),
        ("drop:channels=fills", "channel 'fills'; allowed, with + between them: l2Book, trades, "),
        ("disconnect:every=3,at=1", "every and at; allowed: one of the two"),
        ("late:for=3", "for without every or at; allowed: for=SECONDS beside one of the two"),
        ("stale_book:every=3,for=3", "for=3 with every=3; allowed: for shorter than every"),
    ],
)
def test_what_cannot_be_is_named(text: str, said: str) -> None:
    """One error names the fault as it was written, what of it is wrong, and what is allowed."""
    with pytest.raises(ConfigError) as raised:
        read_faults(["disconnect", text])
    assert str(raised.value).startswith(f"--fault {text!r}: {said}")
    assert "\n" not in str(raised.value)


def test_a_set_is_bounded() -> None:
    """Neither many faults nor many `random` can make the server's memory grow."""
    with pytest.raises(ConfigError, match=f"{MAX_FAULTS + 1} faults; allowed: at most {MAX_FAULTS}$"):
        read_faults(["drop"] * (MAX_FAULTS + 1))
    with pytest.raises(ConfigError, match="random more than once; allowed: once$"):
        read_faults([RANDOM, "random:seed=2"])


@st.composite
def written(draw: st.DrawFn) -> str:
    """Return any fault within its bounds."""
    name = draw(st.sampled_from(sorted(KINDS)))
    rules = KINDS[name]
    texts = {key: _number(draw, rule) for key, rule in rules.items() if draw(st.booleans())}
    if "every" in texts:
        texts.pop("at", None)
    if not {"every", "at"} & set(texts) and rules.get("every", Key(0, 0)).default is None:
        texts.pop("for", None)
    if "for" in texts and "at" not in texts and float(texts["for"]) >= float(texts.get("every", "60")):
        texts.pop("for")
    if name in BY_CHANNEL and draw(st.booleans()):
        texts["channels"] = "+".join(draw(st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=3)))
    return name + (":" + ",".join(f"{key}={text}" for key, text in texts.items()) if texts else "")


def _number(draw: st.DrawFn, rule: Key) -> str:
    if rule.whole:
        return str(draw(st.integers(int(rule.low), int(rule.high))))
    return repr(draw(st.floats(rule.low, rule.high)))


@given(text=written())
def test_whatever_is_within_the_bounds_is_read(text: str) -> None:
    """A fault in form is read, keeps its spelling, and all its numbers can be worked with."""
    fault = read_fault(text)
    assert fault.text == text
    assert 0.0 <= fault.p <= 1.0
    assert fault.every_s is None or fault.for_s < fault.every_s
    assert fault.until_s > 0.0


@given(text=st.text(alphabet="drop_late:=,+.0159-kn ", max_size=40))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    """No text does anything but give a fault or one ConfigError."""
    try:
        read_fault(text)
    except ConfigError as error:
        assert str(error).startswith("--fault ")


@pytest.mark.parametrize("seed", range(20))
def test_random_is_every_fault_and_gentle(seed: int) -> None:
    """A seed stands for one of each, the same each time, and none of them leaves a connection unusable for long."""
    faults = drawn(seed, 60.0)
    assert faults == drawn(seed, 60.0)
    assert {fault.name for fault in faults} == set(KINDS) - {RANDOM}
    assert {fault.until_s for fault in faults} == {60.0}
    for fault in faults:
        if fault.always:
            assert fault.p <= 0.03
        else:
            assert fault.every_s is not None and fault.every_s >= 15.0
            assert fault.for_s <= fault.every_s / 2.4
    assert max(abs(fault.s) for fault in faults) <= 0.8


def test_seeds_differ() -> None:
    """Another seed is another schedule."""
    assert len({drawn(seed) for seed in range(50)}) == 50
