"""Venue: a practice exchange over TLS outside of the box, which is asked what is alive whatever the box believes.

    with Venue(folder, address="10.77.0.1") as venue:
        venue.port, venue.secrets, venue.authority       # what a box needs to trade there
        venue.faults("http_429:p=0.5")
        venue.orders()

`address` is where a box sees it, and stands in its certificate, too, which like a real venue's is older than what a box
may take for the time. Invariant: it ends with the `with` block.
It must not know boxes.
"""

import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from hil.emulator import DIES_WITH_US
from hil.trixie import ROOT
from mmpi.practice.keys import make_keys

LATENCY_MS: Final = 20
"""On the way there, and again on the way back."""
ASK_S: Final = 5.0
AGE: Final = timedelta(days=90)
"""Of its certificate."""


class Venue:
    """One server and one account. `seed` decides the market, and the chances of faults."""

    def __init__(self, folder: Path, address: str, seed: int = 7) -> None:
        self._folder: Final = folder
        self._address: Final = address
        self._seed: Final = seed
        self._mine: Final = threading.local()
        self._ways: Final[list[http.client.HTTPSConnection]] = []
        keys = folder / "keys"
        self.account: Final = make_keys(keys, folder / "mmpi-practice" / "agents.json").account
        self.secrets: Final = {
            name: (keys / name).read_text(encoding="utf-8") for name in ("account", "quoter.key", "guardian.key")
        }
        self.port = 0

    def __enter__(self) -> Self:
        words = (
            "practice", "hyperliquid", "--port", str(self.port), "--tls", "--tls-dir", str(self._folder / "tls"),
            "--latency-ms", str(LATENCY_MS), "--weight", "0", "--budget", "0", "--secrets", str(self._folder / "keys"),
            "--seed", str(self._seed), "--fault-seed", str(self._seed),
        )  # fmt: skip
        env = os.environ | {"XDG_STATE_HOME": str(self._folder), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self._server = subprocess.Popen(
            [*DIES_WITH_US, sys.executable, "-m", "hil.venue", self._address, *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env,
        )  # fmt: skip
        assert self._server.stdout is not None
        said = ""
        while not (found := re.search(r"https://127\.0\.0\.1:(\d+)", said)):
            line = self._server.stdout.readline()
            assert line, f"the practice server ended: {said}"
            said += line
        self.port = int(found[1])
        self._tls = ssl.create_default_context(cadata=self.authority.decode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for way in self._ways:
            way.close()
        self._server.kill()
        self._server.wait()
        assert self._server.stdout is not None
        self._server.stdout.close()

    @property
    def authority(self) -> bytes:
        """Return the certificate of the authority that a box is to trust."""
        return (self._folder / "tls" / "ca.pem").read_bytes()

    def hang(self, *, on: bool) -> None:
        """Have it answer nothing, with its sockets open, or go on."""
        self._server.send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    def faults(self, *wanted: str) -> None:
        """Have these take the place of all faults (docs/practice.md)."""
        self._ask("/control/fault", {"faults": list(wanted), "seed": self._seed})

    def struck(self) -> int:
        """Return how often the faults in force have struck."""
        return sum(each["fired"] for each in self._ask("/control/fault")["faults"])

    def close_sockets(self) -> None:
        """Cut every connection now."""
        self._ask("/control/close", {})

    def orders(self) -> list[dict[str, Any]]:
        """Return every live order."""
        return list(self._ask("/control/orders"))

    def placed(self) -> list[dict[str, Any]]:
        """Return every order that was ever accepted."""
        return list(self._ask("/control/placed"))

    def fills(self) -> dict[str, dict[str, Any]]:
        """Return every fill, by its number."""
        return {str(each["tid"]): each for each in self._ask("/control/fills")}

    def position(self, coin: str) -> float:
        """Return what the account holds, by its fills."""
        return sum(float(each["sz"]) * (1 if each["side"] == "B" else -1) for each in self.fills().values() if
                   each["coin"] == coin)  # fmt: skip

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the answer; OSError if there is none. Each thread has a connection of its own, which is kept."""
        data = None if body is None else json.dumps(body).encode()
        kept = getattr(self._mine, "way", None) is not None
        try:
            text = self._answer(path, data)
        except TimeoutError:
            raise
        except OSError:
            if not kept:
                raise
            # One that was kept may have ended meanwhile.
            text = self._answer(path, data)
        return json.loads(text) if text else None

    def _answer(self, path: str, data: bytes | None) -> bytes:
        if (way := getattr(self._mine, "way", None)) is None:
            way = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=ASK_S, context=self._tls)
            self._mine.way = way
            self._ways.append(way)
        try:
            way.request("GET" if data is None else "POST", path, data, {"Content-Type": "application/json"})
            answer = way.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            way.close()
            self._mine.way = None
            raise error if isinstance(error, OSError) else OSError(str(error)) from error
        if answer.status != http.HTTPStatus.OK:
            raise OSError(f"{path}: {answer.status} {text.decode(errors='replace')[:200]}")
        return text


def main(words: Sequence[str]) -> int:
    """Be the server, with one more address in its certificate."""
    from mmpi.cli import main as mmpi
    from mmpi.practice.hyperliquid import tls

    tls.ADDRESSES = (*tls.ADDRESSES, words[0])  # type: ignore[assignment,misc]
    tls.server_context(Path(words[words.index("--tls-dir") + 1]), datetime.now(UTC) - AGE)
    return mmpi(list(words[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
