"""An info server: a venue that only answers questions, with whatever a test wants to hear."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

from practice_builders import GUARDIAN, MASTER, QUOTER
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from mmpi.practice.hyperliquid.signatures import address_of

Payload: TypeAlias = dict[str, Any]
Answer: TypeAlias = Any
SILENT = object()
"""As an answer: none ever comes."""
HANG_UP = object()
"""As an answer: the connection ends."""
DAY_MS = 86_400_000
ROLES = {
    MASTER: {"role": "user"},
    address_of(QUOTER): {"role": "agent", "data": {"user": MASTER}},
    address_of(GUARDIAN): {"role": "agent", "data": {"user": MASTER}},
}


def now_ms() -> int:
    """Return the time as the venue writes it."""
    return time.time_ns() // 1_000_000


def book(bid: str = "100000.0", ask: str = "100001.0", ahead_ms: int = 0) -> Answer:
    """Return an l2Book of one level a side, told by a clock that is ahead of ours."""
    sides = [[{"px": price, "sz": "1.0", "n": 1}] if price else [] for price in (bid, ask)]
    return {"coin": "BTC", "time": now_ms() + ahead_ms, "levels": sides}


def sound(payload: Payload) -> Answer:
    """Return what a venue says when all is well: MASTER has money, volume, and two agents with names."""
    until = now_ms() + 90 * DAY_MS
    agents = [{"name": name, "address": address_of(key), "validUntil": until} for name, key in
              (("quoter", QUOTER), ("guardian", GUARDIAN))]  # fmt: skip
    answers: dict[str, Callable[[], Answer]] = {
        "meta": lambda: {"universe": [{"name": "BTC", "szDecimals": 5}, {"name": "ETH", "szDecimals": 4}]},
        "spotMeta": lambda: {"universe": [], "tokens": []},
        "l2Book": lambda: book() if payload["coin"] == "BTC" else book("3000.0", "3000.1"),
        "userRole": lambda: ROLES.get(payload["user"], {"role": "missing"}),
        "extraAgents": lambda: agents,
        "clearinghouseState": lambda: {
            "marginSummary": {"accountValue": "50000.0"}, "withdrawable": "40000.0", "time": now_ms()
        },
        "spotClearinghouseState": lambda: {"balances": []},
        "userRateLimit": lambda: {"cumVlm": "2000000.0", "nRequestsUsed": 100, "nRequestsCap": 2_010_000},
    }  # fmt: skip
    return answers[payload["type"]]()


def but(changes: Mapping[str, Any]) -> Callable[[Payload], Answer]:
    """Return `sound` with other answers to some types of question; a function is called with the question."""

    def answer(payload: Payload) -> Answer:
        if payload["type"] not in changes:
            return sound(payload)
        change = changes[payload["type"]]
        return change(payload) if callable(change) else change

    return answer


class InfoServer:
    """The server's address, and what it was sent."""

    def __init__(self, answer: Callable[[Payload], Answer]) -> None:
        self.asked: list[Payload] = []
        self.url = ""
        self.talking = 0
        """Connections at present."""
        self._answer = answer

    def talk(self, connection: ServerConnection) -> None:
        """Answer one client; an answer None is refused in the venue's way."""
        self.talking += 1
        with suppress(ConnectionClosed):
            connection.send("Websocket connection established.")
            for frame in connection:
                message = json.loads(frame)
                assert message["method"] == "post" and message["request"]["type"] == "info", message
                payload = message["request"]["payload"]
                self.asked.append(payload)
                answer = self._answer(payload)
                if answer is HANG_UP:
                    break
                if answer is not SILENT:
                    connection.send(json.dumps(_response(message["id"], payload, answer)))
        self.talking -= 1


def _response(number: int, payload: Payload, answer: Answer) -> Answer:
    response = {"type": "info", "payload": {"type": payload["type"], "data": answer}}
    if answer is None:
        response = {"type": "error", "payload": "Failed to deserialize the JSON body into the target type"}
    return {"channel": "post", "data": {"id": number, "response": response}}


@contextmanager
def info_server(
    answer: Callable[[Payload], Answer] = sound, tls: ssl.SSLContext | None = None
) -> Iterator[InfoServer]:
    """Give a server in threads of its own."""
    told = InfoServer(answer)
    with serve(told.talk, "127.0.0.1", 0, compression=None, ssl=tls) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        told.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{server.socket.getsockname()[1]}/ws"
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()
