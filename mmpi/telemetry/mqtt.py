"""MQTT: the connection to one broker, made anew whenever it is gone, with the last will that tells of our death.

Invariant: whatever the broker does, nobody outside waits for it, and what is kept for it is bounded (outbox.py).
It must not know what is published, or what commands mean.
"""

import asyncio
import logging
import random
import ssl
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from mmpi.channels import FarMqttSettings, MqttSettings
from mmpi.errors import ConfigError
from mmpi.runtime.service import say
from mmpi.telemetry.outbox import Outbox

ONLINE: Final = b"online"
OFFLINE: Final = b"offline"
TIMEOUT_S: Final = 8.0
"""For each answer of the broker: less than the shortest time after which it must be seen to be gone."""
LEAST_WAIT_S: Final = 0.1
MOST_WAIT_S: Final = 30.0
WAITING: Final = 64
"""Messages that came and were not looked at; the rest of a flood is dropped and counted."""
MOST_BYTES: Final = 8 * 1024
"""Of a packet that comes; MQTT 5 tells the broker so."""
FAREWELL_S: Final = 1.0
QUIET_S: Final = 60.0
"""The same trouble is told once in so long."""

Take = Callable[[str, bytes, bool], None]
"""(topic, payload, retained): what came; must not wait."""


class Incoming(asyncio.Queue[aiomqtt.Message]):
    """What came, bounded; a kill has the front seat and is never dropped, but two that wait are one."""

    _queue: deque[aiomqtt.Message]

    def __init__(self, maxsize: int, is_urgent: Callable[[bytes], bool], drop: Callable[[], None]) -> None:
        super().__init__(maxsize)
        self._is_urgent, self._drop = is_urgent, drop
        self._urgent: aiomqtt.Message | None = None

    def put_nowait(self, item: aiomqtt.Message) -> None:
        """Take a message, or count it as dropped; a retained one is never urgent."""
        if not item.retain and self._is_urgent(_bytes(item)):
            if self._urgent is not None:
                return
            self._urgent = item
            if self.full():
                self._queue.pop()
                self._drop()
        elif self.full():
            self._drop()
            return
        super().put_nowait(item)

    def _init(self, maxsize: int) -> None:  # noqa: ARG002  # asyncio.Queue's own seam for other orders
        self._queue = deque()

    def _put(self, item: aiomqtt.Message) -> None:
        if item is self._urgent:
            self._queue.appendleft(item)
        else:
            self._queue.append(item)

    def _get(self) -> aiomqtt.Message:
        item = self._queue.popleft()
        if item is self._urgent:
            self._urgent = None
        return item


def _bytes(message: aiomqtt.Message) -> bytes:
    payload = message.payload
    return bytes(payload) if isinstance(payload, bytes | bytearray) else b""


class Link:
    """One broker."""

    def __init__(
        self,
        name: str,
        settings: MqttSettings | FarMqttSettings,
        base: str,
        password: str,
        subscriptions: tuple[str, ...],
        take: Take,
        is_urgent: Callable[[bytes], bool],
        count: Callable[[str], None],
    ) -> None:
        """`base`: prefix/device_id. ConfigError if a file of certificates cannot be used."""
        self.outbox = Outbox()
        self.connected = False
        self.error = ""
        self.name: Final = name
        self._settings, self._base, self._password = settings, base, password
        self._subscriptions, self._take, self._is_urgent, self._count = subscriptions, take, is_urgent, count
        parts = urlsplit(settings.url)
        self._secure = parts.scheme == "mqtts"
        self._host, self._port = parts.hostname or "", parts.port or (8883 if self._secure else 1883)
        self._context = self._tls() if self._secure else None
        self._protocol = aiomqtt.ProtocolVersion.V5
        self._said: tuple[str, float] = ("", 0.0)
        self._logger = logging.getLogger(f"mmpi.mqtt.{name}")
        self._logger.disabled = True

    async def run(self) -> None:
        """Be connected as far as the broker lets us, until cancelled; then say offline."""
        failures = 0
        while True:
            try:
                await self._connection()
            except (aiomqtt.MqttError, OSError, ssl.SSLError, ValueError) as error:
                self._trouble(error)
            finally:
                failures = 0 if self.connected else failures + 1
                self.connected = False
            self._count(f"{self.name}_reconnects")
            # Full jitter: a fleet whose broker comes back does not come all at once.
            await asyncio.sleep(random.uniform(LEAST_WAIT_S, min(MOST_WAIT_S, 2.0 ** min(failures, 8))))

    async def _connection(self) -> None:
        """Be connected once."""
        will = aiomqtt.Will(f"{self._base}/availability", OFFLINE, qos=1, retain=True)
        properties = None
        if self._protocol is aiomqtt.ProtocolVersion.V5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = MOST_BYTES
        client = aiomqtt.Client(
            self._host, self._port, username=self._settings.username or None, password=self._password or None,
            identifier=f"{self._base.replace('/', '-')}-{self.name}", protocol=self._protocol, will=will,
            queue_type=self._incoming,  # type: ignore[arg-type]  # it is called with the size, and nothing else
            max_queued_incoming_messages=WAITING, timeout=TIMEOUT_S,
            keepalive=round(self._settings.keepalive_s), tls_context=self._context, logger=self._logger,
            properties=properties, max_queued_outgoing_messages=WAITING,
        )  # fmt: skip
        async with client:
            self.connected, self.error = True, ""
            say(f"mmpi telemetry: {self.name}: connected to {self._host}:{self._port}")
            for topic in self._subscriptions:
                # MQTT 5: what is retained comes flagged also while we are connected, and over a bridge. Before, a
                # broker tells it of what was there already, and of nothing else.
                if properties is not None:
                    await client.subscribe(topic, options=SubscribeOptions(qos=1, retainAsPublished=True))
                else:
                    await client.subscribe(topic, qos=1)
            await client.publish(f"{self._base}/availability", ONLINE, qos=1, retain=True)
            self.outbox.renew()
            work = [asyncio.create_task(self._receive(client)), asyncio.create_task(self._send(client))]
            try:
                done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            except asyncio.CancelledError:
                # We are told to end. A will would say it, too, but not who ended.
                with suppress(aiomqtt.MqttError, TimeoutError):
                    async with asyncio.timeout(FAREWELL_S):
                        await client.publish(f"{self._base}/availability", OFFLINE, qos=1, retain=True)
                raise
            finally:
                for task in work:
                    task.cancel()
                await asyncio.gather(*work, return_exceptions=True)

    def _incoming(self, maxsize: int) -> Incoming:
        return Incoming(maxsize, self._is_urgent, lambda: self._count(f"{self.name}_incoming_dropped"))

    async def _receive(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            self._take(str(message.topic), _bytes(message), bool(message.retain))

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            message = await self.outbox.next()
            await client.publish(message.topic, message.payload, qos=message.qos, retain=message.retain)
            self.outbox.sent(message)

    def _trouble(self, error: Exception) -> None:
        """Note why there is no connection, and tell it if it is new."""
        self.error = " ".join(str(error).split())[:200] or type(error).__name__
        if not self.connected:
            # A broker that knows no MQTT 5 refuses it in words, or hangs up.
            refused = isinstance(error, aiomqtt.MqttCodeError) and self._protocol is aiomqtt.ProtocolVersion.V5
            self._protocol = aiomqtt.ProtocolVersion.V311 if refused else aiomqtt.ProtocolVersion.V5
        said, at = self._said
        if said != self.error or time.monotonic() - at >= QUIET_S:
            self._said = (self.error, time.monotonic())
            say(f"mmpi telemetry: {self.name}: {self._host}:{self._port}: {self.error}")

    def _tls(self) -> ssl.SSLContext:
        settings = self._settings
        try:
            context = ssl.create_default_context(cafile=settings.ca_file or None)
            # A house's own authority, made by openssl, often leaves out what RFC 5280 asks for; CPython 3.13 minds.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if settings.cert_file:
                context.load_cert_chain(settings.cert_file, settings.key_file)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(each for each in (settings.ca_file, settings.cert_file, settings.key_file) if each)
            raise ConfigError(f"[{self.name}] {files}: cannot be used: {error}") from None
        return context

    def status(self) -> dict[str, Any]:
        """Return what observers may see of the connection."""
        return {
            "broker": f"{self._host}:{self._port}", "connected": self.connected, "error": self.error,
            "waiting": len(self.outbox), "dropped": self.outbox.dropped,
        }  # fmt: skip


def unasked(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle what nobody asked for: that a connection broke is told by whoever used it, the rest as usual."""
    if not isinstance(context.get("exception"), aiomqtt.MqttError):
        loop.default_exception_handler(context)
