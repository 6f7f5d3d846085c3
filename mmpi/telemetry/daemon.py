"""Daemon: puts telemetry's parts together, looks around four times a second, and tells everybody.

Invariant: no part that fails or hangs takes another one with it; nothing here can make the quoter or the guardian wait.
It must not know how anything is told.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mmpi.channels import FarMqttSettings, MqttSettings, Telling
from mmpi.runtime.service import Systemd, say
from mmpi.telemetry import homeassistant
from mmpi.telemetry.alerts import Alert, Alerts
from mmpi.telemetry.commands import Commands, is_kill
from mmpi.telemetry.facts import Facts, Guardian
from mmpi.telemetry.mqtt import Link, unasked
from mmpi.telemetry.panel import Panel
from mmpi.telemetry.publisher import Publisher
from mmpi.telemetry.snapshot import Snapshot
from mmpi.telemetry.webhook import Webhook

if TYPE_CHECKING:
    from mmpi.telemetry.source import Source

LOOK_S: Final = 0.25
QUOTER_S: Final = 10.0
"""Its word on the clock holds for so long."""
TELL_S: Final = 1.0
"""How often brokers are told how things stand."""
AGAIN_S: Final = 2.0
"""Before a part that failed is begun anew."""
QUIET_S: Final = 60.0
"""The same failure is told once in so long."""
MOST_SAID: Final = 20
"""Different ones within that time; the rest is counted."""


class Secrets(NamedTuple):
    """What telemetry may know: passwords of brokers, and the webhook's token; "" = none."""

    mqtt: str = ""
    mqtt_far: str = ""
    webhook: str = ""


class Broker(NamedTuple):
    """One broker, and what it may ask for."""

    link: Link
    publisher: Publisher
    settings: MqttSettings | FarMqttSettings
    base: str


class Telemetry:
    """All of it."""

    def __init__(self, telling: Telling, secrets: Secrets, systemd: Systemd) -> None:
        self.counters: Counter[str] = Counter()
        self._telling, self._systemd = telling, systemd
        self._run = time.time()
        self._guardian = Guardian(telling.paths.control)
        self._facts = Facts(telling, self._guardian, self.counters)
        self._alerts = Alerts(telling.alerts, Path(telling.paths.runtime_dir) / "alerts.json")
        self._commands = Commands(telling.paths.control, self.counters, self._clock_fault)
        self._snapshot: Snapshot | None = None
        self._brokers = [
            self._broker(name, settings, password)
            for name, settings, password in (
                ("mqtt", telling.mqtt, secrets.mqtt), ("mqtt_far", telling.mqtt_far, secrets.mqtt_far),
            )
            if settings.url
        ]  # fmt: skip
        self._webhook = self._hook(secrets.webhook)
        self._page = self._made_page() if telling.web.port else None
        self._instruments: tuple[str, ...] | None = None
        """Those that were announced; a box of which no quoter has run is announced without any: it has buttons, too."""
        self._announced = b""
        """What Home Assistant was last told that there is."""
        self._due = 0.0
        self._said: dict[str, float] = {}
        """Failures that were told lately, and when."""

    async def run(self) -> None:
        """Tell, until cancelled."""
        parts: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("guardian", self._guardian.run), ("commands", self._commands.run),
            *((f"{broker.base} at {broker.settings.url}", broker.link.run) for broker in self._brokers),
        ]  # fmt: skip
        if self._webhook is not None:
            parts.append(("webhook", self._webhook.run))
        if self._page is not None:
            parts.append(("page", self._serve_page))
        asyncio.get_running_loop().set_exception_handler(unasked)
        tasks = [asyncio.create_task(self._keep_up(name, part)) for name, part in parts]
        try:
            while True:
                began = time.monotonic()
                try:
                    self._look()
                    self._systemd.progress()
                except Exception as error:
                    self._failed("looking", error)
                await asyncio.sleep(max(0.01, began + LOOK_S - time.monotonic()))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _look(self) -> None:
        """Take a snapshot, and tell what is to be told of it."""
        self.links()
        snapshot = self._snapshot = self._facts.look()
        changed = self._alerts.look(snapshot)
        active = self._alerts.active
        for broker in self._brokers:
            for fill in self._facts.fresh:
                broker.publisher.fill(fill, snapshot)
            for alert in changed:
                broker.publisher.alert(alert, snapshot)
        for alert in changed:
            self._tell(alert)
        if snapshot.monotonic >= self._due:
            self._due = snapshot.monotonic + TELL_S
            self._discover(snapshot)
            for broker in self._brokers:
                broker.publisher.snapshot(snapshot, active)
        if self._page is not None:
            self._page.update(snapshot, active)
        self._systemd.status(self._word(snapshot))

    def _hook(self, token: str) -> Webhook | None:
        url = self._telling.alerts.webhook_url
        return Webhook(url, token, self._telling.device_id) if url else None

    def _tell(self, alert: Alert) -> None:
        self.counters["alerts"] += 1
        say(f"mmpi telemetry: alert {alert.name}{f' {alert.instrument}' if alert.instrument else ''} {alert.state}: "
            f"{alert.text}")  # fmt: skip
        if self._webhook is not None:
            self._webhook.post(alert)

    def _discover(self, snapshot: Snapshot) -> None:
        """Tell Home Assistant what there is, when that has changed."""
        summary = snapshot.quoter.summary
        instruments = tuple(summary.instruments) if summary is not None else ()
        told = self._telling.mqtt
        if instruments == self._instruments or not told.url:
            return
        self._instruments = instruments
        if not told.discovery:
            # The broker would keep what an earlier configuration announced, for ever.
            self._brokers[0].publisher.discovery(*homeassistant.forget(self._telling.device_id, told))
            return
        topic, fresh = homeassistant.discovery(
            self._telling.device_id, snapshot.version, told, instruments, self._telling.guardian.allow_remote_arm
        )
        # What is gone leaves in the same message: of two that come at once Home Assistant passes over the second.
        self._announced = homeassistant.removal(self._announced, fresh) if self._announced else fresh
        self._brokers[0].publisher.discovery(topic, self._announced)

    def links(self) -> dict[str, Any]:
        """Return how the brokers stand; what was dropped for them is among the counters from now on."""
        for broker in self._brokers:
            self.counters[f"{broker.link.name}_dropped"] = broker.link.outbox.dropped
        if self._webhook is not None:
            self.counters["webhook_dropped"] = self._webhook.dropped
            self.counters["webhook_given_up"] = self._webhook.given_up
        return {broker.link.name: broker.link.status() for broker in self._brokers}

    # Brokers ------------------------------------------------------------------------------------------------------

    def _broker(self, name: str, settings: MqttSettings | FarMqttSettings, password: str) -> Broker:
        base = f"{settings.prefix}/{self._telling.device_id}"
        found = isinstance(settings, MqttSettings) and settings.discovery
        births = homeassistant.birth_topics(self._telling.mqtt) if found else ()
        topics = (*([f"{base}/command"] if settings.commands != "none" else []), *births)

        def take(topic: str, payload: bytes, retained: bool) -> None:
            if topic in births:
                if homeassistant.birth(topic, payload, self._telling.mqtt):
                    link.outbox.renew()
                return
            self._commands.take(payload, retained, settings.commands, name, tell)

        def tell(cmd: str, id: str, result: str, text: str, _: dict[str, Any]) -> None:
            publisher.result(cmd, id, result, text, time.time())

        def count(what: str) -> None:
            self.counters[what] += 1

        link = Link(name, settings, base, password, topics, take, is_kill, count)
        publisher = Publisher(base, link.outbox, self._run)
        return Broker(link, publisher, settings, base)

    def _clock_fault(self) -> str:
        """Return why ages of commands cannot be judged, "" = they can: the quoter looks after the clock."""
        quoter = self._snapshot.quoter if self._snapshot is not None else None
        if quoter is None or quoter.summary is None or quoter.age_s is None or quoter.age_s > QUOTER_S:
            return "no quoter runs that would vouch for the box's clock"
        return quoter.summary.reason if quoter.summary.state.startswith("clock") else ""

    # Parts --------------------------------------------------------------------------------------------------------

    def _made_page(self) -> "Source":
        from mmpi.telemetry.source import Source

        panel = Panel(self._telling) if Panel.is_there(self._telling) else None
        return Source(self._commands, panel, self._run)

    async def _serve_page(self) -> None:
        # A web server is 16 MB that a box without the page does not have to spare.
        from mmpi.telemetry.web import Web

        assert self._page is not None
        await Web(self._telling.web, self._page, self.counters).run()

    async def _keep_up(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Have a part run; one that fails is begun anew."""
        while True:
            try:
                await part()
            except Exception as error:
                self._failed(name, error)
            await asyncio.sleep(AGAIN_S)

    def _failed(self, name: str, error: Exception) -> None:
        self.counters["failures"] += 1
        text, now = f"{name}: {type(error).__name__}: {error}", time.monotonic()
        self._said = {said: at for said, at in self._said.items() if now - at < QUIET_S}
        if text not in self._said and len(self._said) < MOST_SAID:
            self._said[text] = now
            say(f"mmpi telemetry: {text}")

    def _word(self, snapshot: Snapshot) -> str:
        down = [f"{broker.link.name}: {broker.link.error}" for broker in self._brokers if not broker.link.connected]
        return "; ".join(down) or ("guardian silent" if snapshot.guardian is None else "telling")

