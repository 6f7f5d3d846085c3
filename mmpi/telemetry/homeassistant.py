"""Home Assistant: the one retained message by which it makes a device with sensors and buttons of the box.

Documents: Home Assistant, "MQTT discovery", "Device discovery payload"; what is not in them is in the source of its
mqtt component (tests/test_homeassistant_schemas.py runs that). A template that gives None makes an entity `unknown`.

Invariant: every key and unique id stays the same for the same thing, so that nobody's automations break; the message is
bounded, however many instruments there are. It must not know brokers, or how the figures are come by.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mmpi.channels import MqttSettings
from mmpi.device.lights import PATTERNS

EXPIRE_S: Final = 30
"""Told once a second: what was not told for so long is not shown any more."""
SILENT_S: Final = 5
"""A sign of life that is older is none: the default of alerts.quoter_silent_s."""
TTL_S: Final = 30
"""A press is obeyed for so long, by the clocks of both."""
MOST_INSTRUMENTS: Final = 32
"""The rest have no entities; the topic `status` has them all. Where names are very long, there are fewer."""
MOST_BYTES: Final = 64 * 1024
"""No message is longer."""
GONE_BYTES: Final = 8 * 1024
"""Of them, for what a message takes away: the components of 32 instruments."""
SHORT: Final = 11
"""A longer name of an instrument is shortened where nobody reads it, one of 12 letters to a hash of 12."""
TEXT: Final = 250
"""Characters of a text; a state of Home Assistant's has 255."""
STATES: Final = (
    "quoting", "paused", "latched", "stopped", "stopping", "flattening", "connecting", "reconciling", "clock", "venue",
    "limit", "journal", "dead-man switch", "no quoter", "other",
)  # fmt: skip
MIGRATE: Final = b'{"migrate_discovery": true}'
BIRTH_TOPIC: Final = "homeassistant/status"
"""Where it says that it is there, unless its owner set another topic, whatever the discovery prefix is."""
STOPS: Final = ("kill", "pause")
BUTTONS: Final = {"all": (*STOPS, "resume", "flatten", "arm"), "stop": STOPS, "none": ()}
"""`mqtt.commands` -> what may be pressed."""

Component = dict[str, Any]

_ICONS: Final = {
    "kill": "mdi:alert-octagon", "pause": "mdi:pause", "resume": "mdi:play", "flatten": "mdi:arrow-collapse-vertical",
    "arm": "mdi:lock-open",
}  # fmt: skip
_COUNT: Final = {"stat_cla": "total_increasing"}
_NOW: Final = {"stat_cla": "measurement"}
_DIAGNOSTIC: Final = {"ent_cat": "diagnostic"}
_SIZE: Final[Component] = {"dev_cla": "data_size", **_NOW, **_DIAGNOSTIC, "sug_dsp_prc": 0}
_LATENCY: Final[Component] = {"dev_cla": "duration", "unit_of_meas": "ms", **_NOW, **_DIAGNOSTIC, "sug_dsp_prc": 2}


def discovery(
    device_id: str, version: str, settings: MqttSettings, instruments: Sequence[str], arm: bool, quote: str = "USD"
) -> tuple[str, bytes]:
    """Return topic and payload, to be retained. `arm`: whether the box may be armed from afar.

    `quote`: what money is counted in. A button that is not offered is taken away if it was offered before.
    """
    base = f"{settings.prefix}/{device_id}"
    parts = {**_status(), **_money(base, quote), **_machine(base), **_problems(base), **_words(base)}
    offered = [cmd for cmd in BUTTONS[settings.commands] if arm or cmd != "arm"]
    parts |= {cmd: _button(base, cmd) if cmd in offered else {"p": "button"} for cmd in BUTTONS["all"]}
    name = device_id if device_id.startswith("mmpi") else f"mmpi {device_id}"
    message = {
        "dev": {"ids": [f"mmpi_{device_id}"], "name": name, "mf": "mmpi", "mdl": "market maker", "sw": version},
        "o": {"name": "mmpi", "sw": version},
        "avty": [{"t": f"{base}/availability"}],
        "stat_t": f"{base}/status",
        "cmps": _identified(device_id, parts),
    }
    left = MOST_BYTES - GONE_BYTES - len(msgspec.json.encode(message))
    for instrument in instruments[:MOST_INSTRUMENTS]:
        more = _identified(device_id, _instrument(base, instrument, quote))
        left -= len(msgspec.json.encode(more))
        if left < 0:
            break
        parts |= more
    return _topic(device_id, settings), msgspec.json.encode(message)


def _identified(device_id: str, parts: dict[str, Component]) -> dict[str, Component]:
    """Return the parts, those that are more than a platform with their unique ids."""
    for key, part in parts.items():
        if len(part) > 1:
            part["uniq_id"] = f"mmpi_{device_id}_{key}"
    return parts


def removal(before: bytes, now: bytes) -> bytes:
    """Return the message `now`, which also takes away what an earlier one had and this one has not.

    One message, because Home Assistant passes over the second of two that come at once. What was taken away stays so,
    as far as there is room: Home Assistant may have been off when it was first said.
    """
    message, old = msgspec.json.decode(now), _components(before)
    left = MOST_BYTES - len(now)
    for key in sorted(old.keys() - message["cmps"].keys()):
        gone = {key: {"p": old[key]["p"]}}
        left -= len(msgspec.json.encode(gone))
        if left >= 0:
            message["cmps"] |= gone
    return msgspec.json.encode(message)


def forget(device_id: str, settings: MqttSettings) -> tuple[str, bytes]:
    """Return what makes Home Assistant forget the device, to be retained: nothing at all."""
    return _topic(device_id, settings), b""


def migration(device_id: str, settings: MqttSettings, message: bytes) -> list[tuple[str, bytes]]:
    """Return what takes over entities that were announced one by one, with their history: (topic, payload), in order.

    All are to be retained. The single topics are platform/device_id/key, as this message's keys are.
    """
    prefix = settings.discovery_prefix
    parts = _components(message).items()
    singles = [f"{prefix}/{part['p']}/{device_id}/{key}/config" for key, part in parts if len(part) > 1]
    told = [(topic, MIGRATE) for topic in singles]
    return [*told, (_topic(device_id, settings), message), *((topic, b"") for topic in singles)]


def birth_topics(settings: MqttSettings) -> tuple[str, ...]:
    """Return where Home Assistant says that it is there."""
    return tuple(dict.fromkeys((BIRTH_TOPIC, f"{settings.discovery_prefix}/status")))


def birth(topic: str, payload: bytes, settings: MqttSettings) -> bool:
    """Return whether a message says that Home Assistant has begun, so that everything is to be told again."""
    return payload == b"online" and topic in birth_topics(settings)


def _topic(device_id: str, settings: MqttSettings) -> str:
    return f"{settings.discovery_prefix}/device/{device_id}/config"


def _components(message: bytes) -> dict[str, Component]:
    """Return the components of a message, none of one that cannot be read: a broker may hold anything."""
    try:
        parts = msgspec.json.decode(message)["cmps"]
        return {key: part for key, part in parts.items() if isinstance(part["p"], str)}
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        return {}


def _sensor(name: str, template: str, topic: str = "", **more: Any) -> Component:
    """Return a sensor; without a topic it reads `status`."""
    where = {"stat_t": topic} if topic else {}
    return {"p": "sensor", "name": name, **where, "val_tpl": template, "exp_aft": EXPIRE_S, **more}


def _enum(name: str, value: str, options: Sequence[str], other: str = "none", **more: Any) -> Component:
    """Return a sensor with a closed list of words: what is not in it would leave the old word standing."""
    template = f"{{% set x = {value} %}}{{{{ x if x in {list(options)!r} else {other} }}}}"
    return _sensor(name, template, dev_cla="enum", ops=list(options), **more)


def _text(name: str, value: str, topic: str = "", **more: Any) -> Component:
    return _sensor(name, f"{{{{ ({value})[:{TEXT}] }}}}", topic, **more)


def _status() -> dict[str, Component]:
    latency = "{{% set x = value_json.latency_{}_us if value_json.quoter_alive else none %}}" \
        "{{{{ none if x is none else x / 1000 }}}}"  # fmt: skip
    orders = {
        f"orders_{each}": _sensor(f"Orders {each}", f"{{{{ value_json.orders.{each} }}}}", **_COUNT, **_DIAGNOSTIC)
        for each in ("placed", "canceled", "rejected", "amended")
    }
    return {
        "state": _enum("State", "value_json.state", STATES, "'other'"),
        "reason": _text("Reason", "value_json.reason"),
        "mode": _text("Mode", "value_json.mode", **_DIAGNOSTIC),
        "latch": _enum("Latch", "value_json.latch", ("armed", "latched")),
        "latch_reason": _text("Latch reason", "value_json.latch_reason"),
        "causes": _text("Causes", "value_json.causes | join(', ')"),
        "sign": _enum("Lamps", "value_json.sign", list(PATTERNS), **_DIAGNOSTIC),
        "deadman": _enum(
            "Dead-man switch", "value_json.deadman.split('(')[0]", ("ARMED", "UNARMED", "REFUSED", "UNSUPPORTED"),
            **_DIAGNOSTIC,
        ),
        "fills": _sensor("Fills", "{{ value_json.fills }}", **_COUNT),
        **orders,
        "latency_p50": _sensor("Latency p50", latency.format("p50"), **_LATENCY),
        "latency_p99": _sensor("Latency p99", latency.format("p99"), **_LATENCY),
    }  # fmt: skip


def _money(base: str, quote: str) -> dict[str, Component]:
    """Return profit and loss, which goes both ways and begins anew with each session.

    Not `monetary`: that has only totals, of which Home Assistant makes sums over all sessions.
    """
    names = {
        "total": "Profit", "spread": "Profit from spread", "inventory": "Profit from inventory",
        "funding": "Profit from funding", "fees": "Fees",
    }  # fmt: skip
    more = {"unit_of_meas": quote, **_NOW, "sug_dsp_prc": 2}
    return {
        f"pnl_{part}": _sensor(name, f"{{{{ value_json.{part} }}}}", f"{base}/pnl", **more)
        for part, name in names.items()
    }


def _instrument(base: str, name: str, quote: str) -> dict[str, Component]:
    key, part = instrument_key(name), f"value_json.instruments.get({_quoted(name)},{{}})"
    shares = f"{{% set x = {part}.get('limit_share') %}}{{{{ none if x is none else (x * 100) | round(1) }}}}"

    def market(what: str) -> str:
        """Return a figure of the market, which is worth nothing once nobody follows the market."""
        return f"{{{{ {part}.get('{what}') if value_json.quoter_alive else none }}}}"

    money = {"unit_of_meas": quote, **_NOW}
    return {
        f"{key}_position": _sensor(f"{name} position", f"{{{{ {part}.get('position') }}}}", **_NOW),
        f"{key}_share": _sensor(f"{name} limit share", shares, unit_of_meas="%", **_NOW, sug_dsp_prc=1),
        f"{key}_mid": _sensor(f"{name} mid", market("mid"), **money),
        f"{key}_spread": _sensor(f"{name} spread", market("spread_bps"), unit_of_meas="bp", **_NOW, sug_dsp_prc=2),
        f"{key}_pnl": _sensor(
            f"{name} profit", f"{{{{ {part}.get('total') }}}}", f"{base}/pnl", **money, sug_dsp_prc=2
        ),
    }


def instrument_key(name: str) -> str:
    """Return what an instrument's components are called by: short, and never the same for two names."""
    plain = name.isascii() and name.isalnum() and len(name) <= SHORT
    return f"i_{name}" if plain else f"i_{hashlib.blake2s(name.encode(), digest_size=6).hexdigest()}"


def _quoted(text: str) -> str:
    """Return text as a template's constant; what has no meaning there stays as it is."""
    return f"'{text}'" if not set(text) & set("'\\") and text.isprintable() else msgspec.json.encode(text).decode()


def _machine(base: str) -> dict[str, Component]:
    host, orders = f"{base}/host", f"{base}/orders"

    def figure(name: str, field: str, **more: Any) -> Component:
        return _sensor(name, f"{{{{ value_json.{field} }}}}", host, **more)

    live = "{{ value_json.live | length }}"
    degrees: Component = {"dev_cla": "temperature", "unit_of_meas": "°C", "sug_dsp_prc": 1}
    seconds: Component = {"dev_cla": "duration", "unit_of_meas": "s", "sug_dsp_prc": 0}
    return {
        "orders_live": _sensor("Live orders", live, orders, **_NOW),
        "orders_guardian": _sensor(
            "Live orders at the guardian", "{{ value_json.guardian_live }}", orders, **_NOW, **_DIAGNOSTIC
        ),
        "temperature": figure("Temperature", "temperature_c", **degrees, **_NOW, **_DIAGNOSTIC),
        "cpu": figure("Processor", "cpu_percent", unit_of_meas="%", **_NOW, **_DIAGNOSTIC, sug_dsp_prc=0),
        "memory": figure("Memory free", "memory_mb", unit_of_meas="MiB", **_SIZE),
        "disk": figure("Disk free", "disk_free_mb", unit_of_meas="MiB", **_SIZE),
        "uptime": figure("Uptime", "uptime_s", **seconds, **_NOW, **_DIAGNOSTIC, en=False),
        "quoter_memory": figure("Quoter memory", "quoter_rss_mb", unit_of_meas="MB", **_SIZE, en=False),
        "telemetry_memory": figure("Telemetry memory", "telemetry_rss_mb", unit_of_meas="MB", **_SIZE, en=False),
    }  # fmt: skip


def _problems(base: str) -> dict[str, Component]:
    """Return the binary sensors; the connection is known by its own topic, and is the only one that outlives it."""
    host, alerts = f"{base}/host", f"{base}/alerts/active"

    def problem(name: str, template: str, topic: str = "", **more: Any) -> Component:
        return {**_sensor(name, template, topic, **({"dev_cla": "problem"} | more)), "p": "binary_sensor"}

    def silent(who: str) -> str:
        age = f"{{% set x = value_json.{who}_age_s %}}"
        alive = f"value_json.{who}_alive and x is not none and x < {SILENT_S}"
        return f"{age}{{{{ 'OFF' if {alive} else 'ON' }}}}"

    flag = "{{{{ {{true: 'ON', false: 'OFF'}}.get(value_json.{}) }}}}"
    return {
        "latched": problem("Latched", "{{ {'latched': 'ON', 'armed': 'OFF'}.get(value_json.latch) }}"),
        "unhealthy": problem(
            "Boot not healthy", "{{ {true: 'OFF', false: 'ON'}.get(value_json.healthy) }}", **_DIAGNOSTIC
        ),
        "quoter_silent": problem("Quoter silent", silent("quoter")),
        "guardian_silent": problem("Guardian silent", silent("guardian")),
        "violations": problem(
            "Invariant broken", "{{ 'ON' if value_json.invariant_violations else 'OFF' }}", **_DIAGNOSTIC
        ),
        "undervoltage": problem("Undervoltage", flag.format("undervoltage"), host, **_DIAGNOSTIC),
        "throttled": problem("Throttled", flag.format("throttled"), host, **_DIAGNOSTIC),
        "alert": problem("Alert", "{{ 'ON' if value_json.active else 'OFF' }}", alerts),
        "quoting": problem("Quoting", "{{ 'ON' if value_json.state == 'quoting' else 'OFF' }}", dev_cla="running"),
        "connected": {
            "p": "binary_sensor", "name": "Connected", "dev_cla": "connectivity", "stat_t": f"{base}/availability",
            "pl_on": "online", "pl_off": "offline", "avty": [], **_DIAGNOSTIC,
        },
    }  # fmt: skip


def _words(base: str) -> dict[str, Component]:
    alerts, result = f"{base}/alerts/active", f"{base}/command/result"
    last = _text("Last command", "[value_json.cmd, value_json.result, value_json.text] | join(' ')", result)
    del last["exp_aft"]
    names = "value_json.active | map(attribute='name') | unique | join(', ')"
    return {"alerts": _text("Alerts", names, alerts), "result": {**last, **_DIAGNOSTIC}}


def _button(base: str, cmd: str) -> Component:
    """Return a button; what may start something says who, when and for how long, and has an id of its own."""
    part: Component = {
        "p": "button", "name": cmd.capitalize(), "cmd_t": f"{base}/command",
        "pl_prs": cmd, "qos": 1, "ret": False, "ic": _ICONS[cmd],
    }  # fmt: skip
    if cmd not in STOPS:
        # 99999: the sandbox has no longer ranges.
        once = "{{ now().timestamp() }}-{{ range(10000, 99999) | random }}"
        part["cmd_tpl"] = (
            f'{{"cmd": "{cmd}", "id": "ha-{once}", "issued_at": {{{{ now().timestamp() }}}}, "ttl_s": {TTL_S}, '
            '"by": "Home Assistant"}'
        )
    return part
