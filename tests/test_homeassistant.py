"""mmpi.telemetry.homeassistant: the message's bounds and names, and what is said with it; Home Assistant judges it
elsewhere (test_homeassistant_schemas.py)."""

import ast
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.channels import MqttSettings
from mmpi.telemetry.homeassistant import (
    BIRTH_TOPIC,
    BUTTONS,
    GONE_BYTES,
    MIGRATE,
    MOST_BYTES,
    STATES,
    birth,
    birth_topics,
    discovery,
    forget,
    instrument_key,
    migration,
    removal,
)

ROOT = Path(__file__).resolve().parents[1]
HOME = MqttSettings(url="mqtt://127.0.0.1", username="box")
NAME = r"[A-Za-z0-9@][A-Za-z0-9@:/_-]{0,31}"
"""Of an instrument, in the configuration."""


def message(*instruments: str, settings: MqttSettings = HOME, arm: bool = True, device: str = "shelf") -> bytes:
    """Return the payload for a box that trades these."""
    return discovery(device, "0.1.0", settings, instruments, arm)[1]


def parts(payload: bytes) -> dict[str, Any]:
    """Return a message's components."""
    found: dict[str, Any] = msgspec.json.decode(payload)["cmps"]
    return found


def bare(payload: bytes) -> set[str]:
    """Return the components that a message takes away."""
    return {key for key, part in parts(payload).items() if set(part) == {"p"}}


def test_the_device_is_one_message_at_its_topic() -> None:
    """One topic for the whole box below the chosen prefix; who sent it is said, and no address is made up."""
    settings = msgspec.structs.replace(HOME, discovery_prefix="ha")
    topic, payload = discovery("shelf", "0.1.0", settings, ["BTC"], False)
    told = msgspec.json.decode(payload)
    assert topic == "ha/device/shelf/config"
    assert told["o"] == {"name": "mmpi", "sw": "0.1.0"}
    assert told["dev"]["ids"] == ["mmpi_shelf"]
    assert told["avty"] == [{"t": "mmpi/shelf/availability"}]


@pytest.mark.parametrize(("count", "least"), [(0, 0), (1, 1), (32, 32), (40, 32)])
def test_usual_names_all_have_their_sensors(count: int, least: int) -> None:
    """Up to 32 instruments with names as venues give them are all there; those after them are left out."""
    payload = message(*(f"kCOIN{number}" for number in range(count)))
    assert sum(key.endswith("_mid") for key in parts(payload)) == least
    assert len(payload) <= MOST_BYTES - GONE_BYTES


@given(
    st.lists(st.from_regex(NAME, fullmatch=True), max_size=60, unique=True),
    st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True),
    st.sampled_from(["m", "p" * 64]),
)
def test_the_message_is_bounded_whatever_the_names(names: list[str], device: str, prefix: str) -> None:
    """No names make it longer than 64 kB, removals of as many others included, and all keys and ids are different."""
    settings = msgspec.structs.replace(HOME, prefix=prefix)
    payload = message(*names, settings=settings, device=device)
    ids = [part["uniq_id"] for part in parts(payload).values() if len(part) > 1]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", key) for key in parts(payload))
    others = message(*(f"X{number}" for number in range(32)), settings=settings, device=device)
    assert len(payload) <= MOST_BYTES
    assert len(removal(others, payload)) <= MOST_BYTES


def test_the_longest_names_leave_room_for_most() -> None:
    """Names of 32 characters, a long device and prefix: 23 instruments or more still have their sensors."""
    names = [f"{number:02}/" + "x" * 29 for number in range(32)]
    payload = message(*names, settings=msgspec.structs.replace(HOME, prefix="p" * 32), device="d" * 32)
    assert sum(key.endswith("_mid") for key in parts(payload)) >= 23


@given(st.lists(st.from_regex(NAME, fullmatch=True), min_size=2, max_size=30, unique=True))
def test_instruments_never_share_a_key(names: list[str]) -> None:
    """Names that differ in a sign only have different keys, and a name has the same one at all times."""
    assert len({instrument_key(name) for name in names}) == len(names)
    assert instrument_key("BTC") == "i_BTC"
    assert instrument_key("A/B") == "i_fcb5b6e142da" != instrument_key("A_B")


def test_every_state_is_an_option() -> None:
    """Whatever the engine's reasons begin with is in the list: Home Assistant passes over a word that is not."""
    tree = ast.parse((ROOT / "mmpi" / "standing.py").read_text("utf-8"))
    words = {
        str(part.value).partition(":")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Return) and node.value is not None
        for part in _first_texts(node.value)
    } - {""}
    assert {"stopping", "flattening", "latched", "paused", "limit", "reconciling"} <= words
    assert words <= set(STATES)
    assert {"quoting", "stopped", "no quoter", "other"} <= set(STATES)


def _first_texts(node: ast.expr) -> list[ast.Constant]:
    """Return the constant texts that an expression's value may begin with."""
    match node:
        case ast.Constant(value=str()):
            return [node]
        case ast.JoinedStr(values=[ast.Constant() as first, *_]):
            return [first]
        case ast.JoinedStr(values=[ast.FormattedValue(value=value), *_]):
            return _first_texts(value)
        case ast.IfExp(body=body, orelse=orelse):
            return [*_first_texts(body), *_first_texts(orelse)]
    return []


@pytest.mark.parametrize(
    ("commands", "arm", "offered"),
    [
        ("all", True, {"kill", "pause", "resume", "flatten", "arm"}),
        ("all", False, {"kill", "pause", "resume", "flatten"}),
        ("stop", True, {"kill", "pause"}),
        ("none", True, set()),
    ],
)
def test_buttons_are_what_is_obeyed(commands: str, arm: bool, offered: set[str]) -> None:
    """Only what the box obeys may be pressed; what it does not is taken away, in case it was there before."""
    settings = msgspec.structs.replace(HOME, commands=commands)
    payload = message("BTC", settings=settings, arm=arm)
    buttons = {key: part for key, part in parts(payload).items() if part["p"] == "button"}
    assert {key for key, part in buttons.items() if len(part) > 1} == offered
    assert bare(payload) == set(BUTTONS["all"]) - offered
    for cmd in offered:
        assert (buttons[cmd]["cmd_t"], buttons[cmd]["qos"], buttons[cmd]["ret"]) == ("mmpi/shelf/command", 1, False)


def test_stops_are_bare_words() -> None:
    """Kill and pause are constants: nothing has to be rendered, no clock to be right, for the box to stop."""
    buttons = parts(message())
    assert [(buttons[cmd]["pl_prs"], "cmd_tpl" in buttons[cmd]) for cmd in ("kill", "pause")] == [
        ("kill", False), ("pause", False),
    ]  # fmt: skip


def test_old_values_are_not_shown_for_long() -> None:
    """Every sensor of what is told each second expires; only the connection and the last command outlive that."""
    lasting = {
        key for key, part in parts(message("BTC")).items() if part["p"].endswith("sensor") and "exp_aft" not in part
    }
    assert lasting == {"connected", "result"}


def test_what_is_gone_is_taken_away_in_the_same_message() -> None:
    """An instrument that is not traded any more loses its sensors, for good; one that comes back has them again."""
    before, now = message("BTC", "ETH"), message("BTC")
    after = removal(before, now)
    assert bare(after) == {f"i_ETH_{what}" for what in ("position", "share", "mid", "spread", "pnl")}
    assert {key: part for key, part in parts(after).items() if key not in bare(after)} == parts(now)
    assert bare(removal(after, now)) == bare(after), "said again, as long as it is not there"
    assert bare(removal(after, before)) == set()


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b"{}", b'{"cmps": 1}', b'{"cmps": {"a": {}}}', b"\xff", b"null"])
def test_what_a_broker_kept_may_be_anything(junk: bytes) -> None:
    """A message before that is none, or somebody else's, takes nothing away and breaks nothing."""
    assert parts(removal(junk, message("BTC"))) == parts(message("BTC"))


def test_forgetting_is_an_empty_message() -> None:
    """The device's topic with nothing in it."""
    assert forget("shelf", HOME) == ("homeassistant/device/shelf/config", b"")


def test_migration_asks_hands_over_and_clears_in_this_order() -> None:
    """Each single topic is asked to hand over, then comes the device, then the single topics are emptied."""
    payload = message("BTC", arm=False)
    steps = migration("shelf", HOME, payload)
    singles = [topic for topic, told in steps if told == MIGRATE]
    assert "homeassistant/sensor/shelf/pnl_total/config" in singles
    assert "homeassistant/button/shelf/arm/config" not in singles, "it is not offered, so nothing is handed over"
    assert steps == [
        *((topic, MIGRATE) for topic in singles),
        ("homeassistant/device/shelf/config", payload),
        *((topic, b"") for topic in singles),
    ]


def test_home_assistants_birth_is_known_at_both_topics() -> None:
    """Its own default topic and that of the chosen prefix count, with the word online and nothing else."""
    settings = msgspec.structs.replace(HOME, discovery_prefix="ha")
    assert birth_topics(settings) == (BIRTH_TOPIC, "ha/status")
    assert birth_topics(HOME) == (BIRTH_TOPIC,)
    assert [birth(topic, b"online", settings) for topic in (BIRTH_TOPIC, "ha/status", "ha/state")] == [
        True, True, False,
    ]  # fmt: skip
    assert not birth(BIRTH_TOPIC, b"offline", settings)
