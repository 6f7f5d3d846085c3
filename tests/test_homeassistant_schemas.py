"""mmpi.telemetry.homeassistant, judged by Home Assistant: its schemas, its templates, and a core that runs."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from homeassistant_box import RELEASE, Judge, ensure_homeassistant
from mosquitto_box import Mosquitto, ensure_mosquitto
from telemetry_builders import guardian, instrument, snapshot, summary
from test_mosquitto import USERS, Guest, guest, running, settings

from mmpi.channels import MqttSettings
from mmpi.status import Latency
from mmpi.telemetry import homeassistant, payloads
from mmpi.telemetry.payloads import ActiveAlertsPayload, AlertPayload, CommandPayload, ResultPayload
from mmpi.telemetry.snapshot import Exposure, GuardianView, QuoterView, Snapshot

pytestmark = pytest.mark.slow

HOME = MqttSettings(url="mqtt://127.0.0.1", username="box")
BASE = "mmpi/shelf"
AT = 1_000.0
RUN = 900.0
NAMES = ("BTC", "@107", "PURR/USDC", "xyz:TSLA")
PATIENCE_S = 20.0
DOCUMENT = (Path(__file__).resolve().parents[1] / "docs" / "home-assistant.md").read_text("utf-8")


def device(*instruments: str, arm: bool = True, **changes: Any) -> bytes:
    """Return the discovery message."""
    settings = msgspec.structs.replace(HOME, **changes)
    return homeassistant.discovery("shelf", "0.1.0", settings, instruments or NAMES, arm)[1]


def well() -> Snapshot:
    """Return a moment at which everything is known."""
    found = {name: instrument() for name in NAMES}
    host = {
        "cpu_percent": 12.5, "memory_mb": 300.25, "temperature_c": 51.25, "disk_free_mb": 900.0, "undervoltage": False,
        "throttled": True, "uptime_s": 3600.5,
    }  # fmt: skip
    box = guardian(box={"host": host | {"unavailable": {}}}, causes=["by_remote", "power"])
    exposures = {name: Exposure(-201.5, 0.2012) for name in NAMES}
    return snapshot(
        quoter=QuoterView(True, 0.1, 42, summary(instruments=found)), guardian=GuardianView(0.2, box),
        exposures=exposures,
    )  # fmt: skip


def unknown() -> Snapshot:
    """Return a moment at which nobody has said anything yet."""
    return snapshot(quoter=QuoterView(False, None, 0, None), guardian=None, exposures={})


def gone() -> Snapshot:
    """Return a moment after the quoter ended in the midst of a one-sided market."""
    last = summary(
        instruments={"BTC": instrument(ask="", own=[], position="-0.00012")}, state="clock", reason="clock: off " * 40,
        tick_to_order_us=Latency(0.0, 0.0, 0), deadman="REFUSED(need 1000000 traded)", fills=0,
    )  # fmt: skip
    latched = guardian(latch="latched", reason="daily_loss", boot={"healthy": False}, sign="latched")
    return snapshot(quoter=QuoterView(False, 9.5, 42, last), guardian=GuardianView(6.0, latched), exposures={})


def told(moment: Snapshot) -> dict[str, str]:
    """Return topic -> payload of everything that is said of a moment."""
    stamp: dict[str, Any] = {"sequence": 1, "run": RUN, "at": AT, "age_s": 0.0}
    alert = AlertPayload(
        **stamp, name="position", instrument="BTC", severity="warning", state="firing", text="80 %", since=AT
    )
    said: dict[str, Any] = {
        "status": payloads.status(moment, RUN), "pnl": payloads.pnl(moment, RUN),
        "orders": payloads.orders(moment, RUN), "host": payloads.host(moment, RUN),
        "alerts/active": ActiveAlertsPayload(**stamp, active=[alert, alert] if moment.guardian else []),
        "command/result": ResultPayload(**stamp, cmd="kill", id="", result="done", text="latched"),
    }  # fmt: skip
    return {f"{BASE}/{topic}": msgspec.json.encode(each).decode() for topic, each in said.items() if each is not None}


# Schemas and templates ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    """Give a Home Assistant without components."""
    with Judge(tmp_path_factory.mktemp("judge")) as running:
        yield running


def rendered(judge: Judge, moment: Snapshot, payload: bytes) -> dict[str, str]:
    """Return what every component with a template shows of a moment."""
    parts = judge.ask("schemas", message=payload.decode())["parts"]
    said = told(moment)
    asked = {
        key: (part["value_template"], said[part["state_topic"]])
        for key, part in parts.items()
        if "value_template" in part and part["state_topic"] in said
    }
    found: dict[str, str] = judge.ask("render", templates=asked)
    return found


@pytest.mark.parametrize("changes", [{}, {"commands": "stop"}, {"commands": "none"}, {"discovery_prefix": "ha"}])
def test_every_component_is_as_home_assistant_wants_it(judge: Judge, changes: dict[str, Any]) -> None:
    """All keys are known after its own expansion, all values allowed, and units and classes go together."""
    answer = judge.ask("schemas", message=device(**changes).decode())
    assert answer["wrong"] == {}
    assert len(answer["parts"]) > 60


def test_removals_are_as_home_assistant_wants_them(judge: Judge) -> None:
    """A message that takes instruments away is valid, and what it takes away is a platform and nothing else."""
    answer = judge.ask("schemas", message=homeassistant.removal(device(), device("BTC", arm=False)).decode())
    assert answer["wrong"] == {}
    gone = {key: part for key, part in answer["parts"].items() if part.keys() == {"platform"}}
    assert len(gone) == 5 * (len(NAMES) - 1) + 1
    assert gone["arm"] == {"platform": "button"}


def test_templates_show_what_is_said(judge: Judge) -> None:
    """Of a box that is well, every entity shows the figure that the payload has."""
    shown = rendered(judge, well(), device())
    expected = {
        "state": "quoting", "reason": "", "latch": "armed", "causes": "by_remote, power", "sign": "practice",
        "deadman": "ARMED", "fills": "3", "orders_placed": "10", "latency_p50": "0.2105", "latency_p99": "0.90025",
        "pnl_total": "1.125", "pnl_fees": "0.125", "orders_live": "8", "orders_guardian": "2", "temperature": "51.25",
        "cpu": "12.5", "memory": "300.25", "undervoltage": "OFF", "throttled": "ON", "latched": "OFF",
        "unhealthy": "OFF", "quoter_silent": "OFF", "guardian_silent": "OFF", "alert": "ON", "alerts": "position",
        "quoting": "ON", "result": "kill done latched", "violations": "OFF", "i_BTC_position": "2",
        "i_BTC_share": "20.1", "i_BTC_mid": "100.5", "i_BTC_spread": "99.502", "i_BTC_pnl": "1.125",
    }  # fmt: skip
    assert {key: shown[key] for key in expected} == expected
    for name in NAMES[1:]:
        assert shown[f"{homeassistant.instrument_key(name)}_mid"] == "100.5"


def test_templates_show_nothing_of_what_is_not_known(judge: Judge) -> None:
    """Before anybody has said anything every figure is None, which is `unknown`, and silence is a problem."""
    shown = rendered(judge, unknown(), device())
    assert {shown[key] for key in shown if key.startswith("i_")} == {"None"}
    assert {shown[key] for key in ("latch", "sign", "latency_p99", "temperature", "undervoltage", "unhealthy")} == {
        "None"
    }
    assert (shown["quoter_silent"], shown["guardian_silent"], shown["alert"]) == ("ON", "ON", "OFF")
    assert (shown["state"], shown["quoting"], shown["latched"]) == ("no quoter", "OFF", "None")


def test_templates_of_a_quoter_that_is_gone(judge: Judge) -> None:
    """What the market was is not shown any more, the position is; problems are on, and long texts are cut."""
    shown = rendered(judge, gone(), device())
    expected = {
        "i_BTC_mid": "None", "i_BTC_spread": "None", "i_BTC_position": "-0.00012", "i_BTC_share": "None",
        "state": "no quoter", "latched": "ON", "latch_reason": "daily_loss", "unhealthy": "ON", "quoter_silent": "ON",
        "guardian_silent": "ON", "deadman": "REFUSED", "sign": "latched", "orders_live": "0", "fills": "0",
        "i_ae37726559e2_position": "None",
    }  # fmt: skip
    assert {key: shown[key] for key in expected} == expected
    assert len(shown["reason"]) == homeassistant.TEXT


@pytest.mark.parametrize("moment", [well, unknown, gone], ids=lambda make: make.__name__)
def test_every_value_is_one_that_its_entity_takes(judge: Judge, moment: Any) -> None:
    """Numbers parse where a number is expected, words are among the options, flags are ON, OFF or None."""
    parts = judge.ask("schemas", message=device().decode())["parts"]
    shown = rendered(judge, moment(), device())
    assert len(shown) > 40
    for key, value in shown.items():
        part = parts[key]
        if value == "None":
            continue
        if part["platform"] == "binary_sensor":
            assert value in ("ON", "OFF"), key
        elif "options" in part:
            assert value in part["options"], key
        elif "unit_of_measurement" in part or "state_class" in part:
            assert float(value) == float(value), key
        else:
            assert len(value) <= 255, key


def test_presses_are_commands_that_are_obeyed_once(judge: Judge) -> None:
    """What may start something decodes as a command with an id of its own, now as its time, and a time to live."""
    parts = judge.ask("schemas", message=device().decode())["parts"]
    seen = set()
    for cmd in ("resume", "flatten", "arm"):
        for _ in range(20):
            words = judge.ask("press", template=parts[cmd]["command_template"], payload=parts[cmd]["payload_press"])
            command = msgspec.json.decode(words, type=CommandPayload)
            assert (command.cmd, command.by, command.ttl_s) == (cmd, "Home Assistant", 30)
            assert abs(command.issued_at - time.time()) < 5
            assert 0 < len(command.id) <= 64
            seen.add(command.id)
    assert len(seen) == 60
    assert [parts[cmd]["payload_press"] for cmd in ("kill", "pause")] == ["kill", "pause"]


def test_complaints_are_only_those_that_are_provoked(judge: Judge) -> None:
    """No template and no component is complained of, in whatever moment; a template that is wrong is."""
    for moment in (well(), unknown(), gone()):
        rendered(judge, moment, device())
    assert judge.complaints == []
    assert judge.ask("render", templates={"wrong": ("{{ value_json.a.b }}{{ nothing }}", '{"a": {}}')}) == {"wrong": ""}
    assert len(judge.complaints) == 2


# A core that runs -----------------------------------------------------------------------------------------------------


class House:
    """A broker, a Home Assistant that is connected to it, and the box's own client."""

    def __init__(self, mosquitto: Mosquitto, judge: Judge) -> None:
        self.mosquitto, self.judge = mosquitto, judge
        self.box = Guest(mosquitto.port)

    def say(self, moment: Snapshot) -> None:
        """Tell how everything stands."""
        for topic, payload in told(moment).items():
            self.box.say(topic, payload.encode(), retain=not topic.endswith("result"))

    def announce(self, payload: bytes) -> None:
        """Tell what there is, and that it is there."""
        self.box.say("homeassistant/device/shelf/config", payload, retain=True)
        self.box.say(f"{BASE}/availability", b"online", retain=True)

    def until(self, key: str, wanted: str | None, seconds: float = PATIENCE_S) -> dict[str, Any]:
        """Return all entities once one is in this state, by key; None = it is gone."""
        seen = self.judge.ask("wait", unique_id=f"mmpi_shelf_{key}", wanted=wanted, seconds=seconds)
        found = {each.removeprefix("mmpi_shelf_"): state for each, state in seen.items()}
        assert found.get(key, {}).get("state") == wanted, (found.get(key), self.judge.log[-2000:])
        return found


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Give a house in which the box was never seen."""
    ensure_mosquitto()
    ensure_homeassistant()
    with Mosquitto(tmp_path / "broker") as mosquitto, Judge(tmp_path, str(mosquitto.port)) as judge:
        running = House(mosquitto, judge)
        try:
            yield running
        finally:
            running.box.close()


def test_a_real_core_makes_the_device_and_follows_it(house: House) -> None:
    """Entities appear, show what is said, turn unavailable when the box is gone, and come back with it."""
    house.announce(device())
    house.until("connected", "on")
    house.say(well())
    house.until("result", "kill done latched")
    seen = house.until("i_BTC_mid", "100.5")
    shown = {key: seen[key]["state"] for key in ("state", "pnl_total", "alert", "throttled", "connected", "latched")}
    assert shown == {
        "state": "quoting", "pnl_total": "1.125", "alert": "on", "throttled": "on", "connected": "on", "latched": "off",
    }  # fmt: skip
    assert seen["pnl_total"]["id"] == "sensor.mmpi_shelf_profit"
    assert seen["uptime"]["disabled"]
    house.box.say(f"{BASE}/availability", b"offline", retain=True)
    seen = house.until("state", "unavailable")
    assert seen["connected"]["state"] == "off"
    assert {each["state"] for key, each in seen.items() if key != "connected"} == {"unavailable", None}
    house.box.say(f"{BASE}/availability", b"online", retain=True)
    house.until("state", "quoting")
    assert house.judge.complaints == []


def test_presses_reach_the_broker_and_are_not_kept(house: House) -> None:
    """A press is one message on the command topic, not retained: the bare word, or a command with all it needs."""
    house.announce(device())
    seen = house.until("connected", "on")
    house.box.subscribe(f"{BASE}/command", retainAsPublished=True)
    for cmd in ("kill", "pause", "resume", "flatten", "arm"):
        house.judge.ask("button", entity=seen[cmd]["id"])
    house.box.until(lambda: len(house.box.heard) == 5)
    said = [payload for _, payload, retained in house.box.heard if not retained]
    assert said[:2] == [b"kill", b"pause"]
    assert [msgspec.json.decode(each, type=CommandPayload).cmd for each in said[2:]] == ["resume", "flatten", "arm"]


def test_values_of_a_publisher_that_fell_silent_are_not_shown(house: House) -> None:
    """With nobody to say offline, a sensor is unavailable once its time is over; here that is a second."""
    house.announce(device().replace(b'"exp_aft":30', b'"exp_aft":1'))
    house.say(well())
    house.until("state", "quoting")
    seen = house.until("state", "unavailable")
    assert seen["connected"]["state"] == "on"


def test_instruments_and_buttons_come_and_go(house: House) -> None:
    """What a later message takes away is gone from the device, the rest stays; an empty message ends all of it."""
    house.announce(device())
    house.until("connected", "on")
    house.announce(homeassistant.removal(device(), device("BTC", arm=False)))
    seen = house.until("arm", None)
    assert {key for key in seen if key.startswith("i_")} == {
        f"i_BTC_{what}" for what in ("position", "share", "mid", "spread", "pnl")
    }
    assert {"kill", "pause", "resume", "flatten"} <= seen.keys()
    topic, nothing = homeassistant.forget("shelf", HOME)
    house.box.say(topic, nothing, retain=True)
    assert house.until("connected", None) == {}


def test_entities_that_were_announced_one_by_one_are_taken_over(house: House) -> None:
    """An entity of a single topic keeps its name and place in the registry when the device takes it over."""
    single = {
        "name": "Profit", "unique_id": "mmpi_shelf_pnl_total", "state_topic": f"{BASE}/old", "object_id": "my_profit",
        "device": {"identifiers": ["mmpi_shelf"]}, "origin": {"name": "mmpi"},
    }  # fmt: skip
    house.box.say("homeassistant/sensor/shelf/pnl_total/config", msgspec.json.encode(single), retain=True)
    house.box.say(f"{BASE}/old", b"7", retain=True)
    assert house.until("pnl_total", "7")["pnl_total"]["id"] == "sensor.my_profit"
    for topic, payload in homeassistant.migration("shelf", HOME, device("BTC")):
        house.box.say(topic, payload, retain=True)
    house.box.say(f"{BASE}/availability", b"online", retain=True)
    house.say(well())
    seen = house.until("pnl_total", "1.125")
    assert seen["pnl_total"]["id"] == "sensor.my_profit"
    assert house.until("i_BTC_mid", "100.5")["state"]["state"] == "quoting"


def test_the_largest_message_is_taken(house: House) -> None:
    """32 instruments with the names of a venue: all their sensors are there."""
    names = [f"kCOIN{number}" for number in range(32)]
    house.announce(device(*names))
    house.until("connected", "on")
    seen = house.until("i_kCOIN31_pnl", "unavailable")
    assert sum(key.endswith("_mid") for key in seen) == 32


def test_it_works_as_an_owner_of_the_boxs_own_broker(tmp_path: Path) -> None:
    """With the rights that the box's broker gives an owner it sees everything, and its presses and birth arrive."""
    with running(settings(tmp_path / "broker")) as mosquitto, guest(mosquitto.port, "box") as box:
        box.subscribe(f"{BASE}/command")
        box.subscribe(homeassistant.BIRTH_TOPIC)
        topic, payload = homeassistant.discovery("shelf", "0.1.0", HOME, ["BTC"], False)
        box.say(topic, payload, retain=True)
        box.say(f"{BASE}/availability", b"online", retain=True)
        with Judge(tmp_path, str(mosquitto.port), "alice", USERS["alice"]) as judge:
            for where, said in told(well()).items():
                box.say(where, said.encode(), retain=True)
            seen = judge.ask("wait", unique_id="mmpi_shelf_i_BTC_mid", wanted="100.5", seconds=PATIENCE_S)
            assert seen["mmpi_shelf_i_BTC_mid"]["state"] == "100.5"
            judge.ask("button", entity=seen["mmpi_shelf_kill"]["id"])
            box.until(lambda: len(box.heard) >= 2, PATIENCE_S)
        assert {(where, said) for where, said, _ in box.heard} >= {
            (f"{BASE}/command", b"kill"), (homeassistant.BIRTH_TOPIC, b"online"),
        }  # fmt: skip


# The document ---------------------------------------------------------------------------------------------------------


def test_the_release_is_the_one_that_is_named() -> None:
    """What runs here is the release that the document names as tried."""
    assert RELEASE.partition("==")[2] in DOCUMENT


def test_automations_of_the_document_are_valid(judge: Judge) -> None:
    """Home Assistant takes each of them as it stands."""
    texts = [text for text in re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL) if "\ntriggers:" in text]
    assert len(texts) == 3
    assert judge.ask("automations", texts=texts) == [""] * 3
    assert judge.ask("automations", texts=[texts[0].replace("trigger: state", "trigger:")]) != [""]


def test_the_document_names_entities_that_there_are(house: House) -> None:
    """Every entity id in it, and every name in its table, is one of a device that is announced."""
    house.announce(device("BTC"))
    there = {each["id"] for each in house.until("connected", "on").values()}
    named = set(re.findall(r"\b(?:binary_sensor|sensor|button)\.mmpi_shelf_[a-z_]+\b(?![*_])", DOCUMENT))
    assert len(named) >= 8
    assert named <= there
    names = {part["name"] for part in msgspec.json.decode(device("BTC"))["cmps"].values() if "name" in part}
    table = DOCUMENT[DOCUMENT.index("| what | entities |") : DOCUMENT.index("- **`unavailable`**")]
    claimed = set(re.findall(r"`([A-Z][A-Za-z0-9 -]+)`", table))
    assert len(claimed) > 25
    assert claimed <= names
