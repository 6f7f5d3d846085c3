"""Home Assistant, asked by tests/homeassistant_box.py: its schemas and templates, and a running core with its mqtt.

Runs in the environment of Home Assistant, without mmpi. One line of JSON in, one out; its words go to stderr.
Usage: homeassistant_judge.py FOLDER [PORT OF A BROKER, FOR A RUNNING CORE [USER PASSWORD]]
"""

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

import voluptuous as vol
import yaml
from homeassistant import auth, bootstrap, config_entries, core, loader
from homeassistant.components.mqtt import binary_sensor, button, discovery, sensor
from homeassistant.components.mqtt.models import MqttCommandTemplate, MqttValueTemplate
from homeassistant.components.mqtt.schemas import DEVICE_DISCOVERY_SCHEMA
from homeassistant.components.sensor.const import DEVICE_CLASS_STATE_CLASSES, DEVICE_CLASS_UNITS
from homeassistant.helpers import entity_registry
from homeassistant.setup import async_setup_component

PLATFORMS = {"sensor": sensor, "binary_sensor": binary_sensor, "button": button}


def schemas(message: str) -> dict[str, Any]:
    """Return every component as Home Assistant takes it, and what is wrong with each."""
    payload = discovery.MQTTDiscoveryPayload(json.loads(message))
    discovery._replace_all_abbreviations(payload)
    DEVICE_DISCOVERY_SCHEMA(payload)
    parts, wrong = {}, {}
    for key, part in payload["components"].items():
        platform = part.pop("platform")
        config = discovery.MQTTDiscoveryPayload(part)
        if not config:
            parts[key] = {"platform": platform}
            continue
        config["device"], config["origin"] = payload["device"], payload["origin"]
        discovery._merge_common_device_options(config, payload)
        if platform == "button":
            # A button inherits the topic of the states, which the schema for discovery then passes over.
            del config["state_topic"]
        try:
            # The one for files: that for discovery passes over everything that it does not know.
            PLATFORMS[platform].PLATFORM_SCHEMA_MODERN(dict(config))
            if reason := unfit(config) if platform == "sensor" else "":
                wrong[key] = reason
        except vol.Invalid as error:
            wrong[key] = str(error)
        parts[key] = {"platform": platform, **config}
    return {"parts": parts, "wrong": wrong}


def unfit(part: dict[str, Any]) -> str:
    """Return what the sensor component would warn of, "" = nothing."""
    kind, unit, state = (part.get(each) for each in ("device_class", "unit_of_measurement", "state_class"))
    if kind in DEVICE_CLASS_UNITS and unit not in DEVICE_CLASS_UNITS[kind]:
        return f"{kind} is never in {unit}"
    if state and kind and state not in DEVICE_CLASS_STATE_CLASSES.get(kind, set()):
        return f"{kind} is no {state}"
    return ""


def render(hass: core.HomeAssistant, template: str, payload: str) -> str:
    """Return what a value template makes of a payload."""
    made = MqttValueTemplate(_template(hass, template)).async_render_with_possible_json_value(payload)
    return str(made)


def press(hass: core.HomeAssistant, template: str, payload: str) -> str:
    """Return what a command template makes of a press."""
    return str(MqttCommandTemplate(_template(hass, template)).async_render(payload))


def _template(hass: core.HomeAssistant, text: str) -> Any:
    from homeassistant.helpers.template import Template

    return Template(text, hass)


async def automations(texts: list[str]) -> list[str]:
    """Return what is wrong with automations in YAML, "" for each that is right."""
    from homeassistant.helpers import config_validation as cv

    wrong = []
    for text in texts:
        found = yaml.safe_load(text)
        try:
            cv.TRIGGER_SCHEMA(found["triggers"])
            cv.CONDITIONS_SCHEMA(found.get("conditions", []))
            cv.SCRIPT_SCHEMA(found["actions"])
            wrong.append("")
        except vol.Invalid as error:
            wrong.append(str(error))
    return wrong


async def begin(folder: Path) -> core.HomeAssistant:
    """Return a core without any component."""
    (folder / "configuration.yaml").write_text("", "utf-8")
    hass = core.HomeAssistant(str(folder))
    hass.config.skip_pip = True
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    loader.async_setup(hass)
    await bootstrap.async_load_base_functionality(hass)
    hass.auth = await auth.auth_manager_from_config(hass, [{"type": "homeassistant"}], [])
    return hass


async def connect(hass: core.HomeAssistant, port: int, user: str, password: str) -> None:
    """Return once the mqtt component is connected to the broker."""
    # No server of its own, and nobody to read what it would serve.
    for name in ("http", "file_upload"):
        hass.config.components.add(name)
    assert await async_setup_component(hass, "homeassistant", {})
    data: dict[str, Any] = {"broker": "127.0.0.1", "port": port, "discovery": True}
    if user:
        data |= {"username": user, "password": password}
    entry = config_entries.ConfigEntry(
        data=data, discovery_keys={}, domain="mqtt", minor_version=2, options={}, source="user",
        subentries_data=(), title="mqtt", unique_id=None, version=1,
    )  # fmt: skip
    # Only a core that runs says that it is there.
    hass.set_state(core.CoreState.running)
    await hass.config_entries.async_add(entry)
    await hass.async_block_till_done()
    assert entry.state is config_entries.ConfigEntryState.LOADED, entry.reason


def states(hass: core.HomeAssistant) -> dict[str, Any]:
    """Return entity id -> state and unique id, of everything that mqtt made."""
    registry = entity_registry.async_get(hass)
    found = {}
    for entity in registry.entities.values():
        state = hass.states.get(entity.entity_id)
        word = state.state if state is not None else None
        found[entity.unique_id] = {"id": entity.entity_id, "state": word, "disabled": entity.disabled}
    return found


async def wait(hass: core.HomeAssistant, unique_id: str, wanted: str | None, seconds: float) -> Any:
    """Return all states, once one is as it should be, or after this long; None = it is not there any more."""
    for _ in range(int(seconds * 20)):
        await hass.async_block_till_done()
        seen = states(hass)
        if seen.get(unique_id, {}).get("state") == wanted:
            return seen
        await asyncio.sleep(0.05)
    return states(hass)


async def answer(hass: core.HomeAssistant, asked: dict[str, Any]) -> Any:
    """Return what is asked."""
    match asked.pop("what"):
        case "schemas":
            return schemas(**asked)
        case "render":
            return {each: render(hass, *words) for each, words in asked["templates"].items()}
        case "press":
            return press(hass, **asked)
        case "wait":
            return await wait(hass, **asked)
        case "automations":
            return await automations(**asked)
        case "button":
            await hass.services.async_call("button", "press", {"entity_id": asked["entity"]}, blocking=True)
            return True
    raise ValueError("no such question")


async def main() -> None:
    """Answer until stdin ends."""
    out, sys.stdout = sys.stdout, sys.stderr
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    hass = await begin(Path(sys.argv[1]))
    if len(sys.argv) > 2:
        user, password = sys.argv[3:5] if len(sys.argv) > 3 else ("", "")
        await connect(hass, int(sys.argv[2]), user, password)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await answer(hass, json.loads(line)), default=str), file=out, flush=True)
    await hass.async_stop(force=True)


if __name__ == "__main__":
    asyncio.run(main())
