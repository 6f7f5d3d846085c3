"""The demo's broker: MQTT on a port of the loopback address, in the demo's own process, so that nothing is installed.

It lets everybody on this machine in, and so it is no broker for a box: docs/broker.md describes that one.

Invariant: without the package amqtt there is none, and the demo goes on. It must not know what is published.
"""

import logging
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, Final

HOST: Final = "127.0.0.1"
ANYBODY: Final = "amqtt.plugins.authentication.AnonymousAuthPlugin"


class DemoBroker:
    """A broker of package amqtt."""

    def __init__(self, port: int) -> None:
        self.port: Final = port
        self._broker: Any = None

    @staticmethod
    def is_there() -> bool:
        """Return whether there is one to be had."""
        return find_spec("amqtt") is not None

    async def start(self) -> None:
        """Listen."""
        # It tells of every connection, on the screen that shows the box.
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        from amqtt.broker import Broker

        listeners = {"default": {"type": "tcp", "bind": f"{HOST}:{self.port}"}}
        self._broker = Broker({"listeners": listeners, "plugins": {ANYBODY: {"allow_anonymous": True}}})
        await self._broker.start()

    async def stop(self) -> None:
        """End it, with all its connections."""
        if self._broker is not None:
            with suppress(Exception):  # whatever state it is in, it ends with this process
                await self._broker.shutdown()
            self._broker = None
