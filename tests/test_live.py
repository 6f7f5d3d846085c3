"""`mmpi run` at a practice server, real processes: what a careless venue and a careless person do to it."""

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stack import CONFIG, KILL, MMPI, HttpLine, Process, Stack, rss_mb

from mmpi.actions import AmendOrder, NewOrder
from mmpi.journal.reader import read
from mmpi.journal.record import ACTION, Record, decode_action
from mmpi.practice.keys import make_keys

pytestmark = pytest.mark.slow

AHEAD_S = 8.0
"""How far ahead the dead-man switch is set."""
GATE = "Cannot set scheduled cancel time until enough volume traded. Required: $1000000."


class LiveBox(Stack):
    """A practice box whose server is started with words of its own, over TLS if they say so."""

    def __init__(self, folder: Path, *words: str, more: dict[str, str] | None = None, latency_ms: float = 40.0) -> None:
        super().__init__(folder, latency_ms=latency_ms, more=more or {})
        self.words = words
        self.base = ""

    @property
    def env(self) -> dict[str, str]:
        """Return the environment, with the server's address as it says it."""
        return super().env | ({"MMPI_VENUE__URL": self.base} if self.base else {}) | self._more

    def start_server(self, *more: str) -> None:
        """Start the server, on the port it had before if it had one."""
        here = ("--latency-ms", str(self.latency_ms), "--secrets", str(self.secrets), "--port", str(self.port))
        self.server = self._start("server", (*MMPI, "practice", "hyperliquid", *here, *self.words, *more))
        self.wait(lambda: "listening on" in self.server.said(), 15, "the server to listen")
        found = re.search(r"listening on (https?://127\.0\.0\.1:(\d+))", self.server.said())
        assert found is not None
        self.base, self.port = found[1], int(found[2])

    def run(self, seconds: float = 20.0, **more: str) -> "tuple[int, str]":
        """Return exit code and stderr of a quoter that is expected to end by itself."""
        process = Process("run", (*MMPI, "run"), self.folder, self.env | more)
        self._processes.append(process)
        return process.wait(seconds), process.said()

    def status_json(self) -> dict[str, Any]:
        """Return what `mmpi status --json` says."""
        done = self.mmpi("status", "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def control(self, path: str) -> Any:
        """Return the server's answer to a control question."""
        line = HttpLine(self.port)
        try:
            return line.get(path)
        finally:
            line.close()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LiveBox]:
    """Return a box that nothing was started for."""
    with LiveBox(tmp_path) as made:
        yield made


def journalled(box: Stack) -> list[str]:
    """Return the ids of all orders that the journal knows as sent, in their order."""
    ids: list[str] = []
    for item in read(box.runtime / "journal"):
        if isinstance(item, Record) and item.kind == ACTION:
            action = decode_action(item).action
            if isinstance(action, NewOrder | AmendOrder):
                ids.append(action.cl_ord_id)
    return ids


# Dying --------------------------------------------------------------------------------------------------------------


def test_quoter_and_guardian_killed_leave_nothing_after_the_dead_man_time(box: LiveBox) -> None:
    """I5: with nobody left to cancel, the venue does it, 8 s after the last sign of life; restarted, it quotes."""
    box.start()
    box.wait(lambda: box.summary()["deadman"] == "ARMED", 5, "the switch to be set")
    # The guardian first: it would cancel everything itself.
    box.guardian.send(KILL)
    killed = box.quoter.send(KILL)
    assert box.quoter.wait(5) == box.guardian.wait(5) == -KILL
    assert box.orders(), "orders are left resting"
    box.wait(lambda: not box.orders(), AHEAD_S + 2, "the dead-man switch")
    assert (time.monotonic_ns() - killed) / 1e9 <= AHEAD_S + 1
    [account] = box.control("/control/state").values()
    assert account["fires_today"] == 1
    box.start_guardian()
    box.arm() if box.status()["latch"] == "latched" else None
    box.start_quoter()
    box.wait_quoting()
    assert box.summary()["anomalies"]["illegal_reports"] == 0


def test_killed_in_mid_flight_nothing_is_left_and_the_next_run_knows_it(box: LiveBox) -> None:
    """kill -9 while orders are under way: the guardian ends them; the next run's journal and the venue agree."""
    box._more |= {
        "MMPI_INSTRUMENTS__BTC__LAYERED__UPDATE_INTERVAL_S": "0.1",
        "MMPI_INSTRUMENTS__BTC__LAYERED__TOLERANCE_PERCENT": "0",
    }
    box.start()
    seen: set[str] = set()
    for _ in range(4):
        time.sleep(0.7)
        box.quoter.send(KILL)
        box.quoter.wait(5)
        box.wait(lambda: not box.orders(), 3, "the guardian to end everything")
        known = set(journalled(box))
        placed = {each["cloid"] for each in box.control("/control/placed")}
        # The journal's segments of a run are kept by the next: what the venue took was in it before (I2).
        assert placed <= known | seen
        seen |= known
        box.start_quoter()
        box.wait_quoting()
    placed_ids = [each["cloid"] for each in box.control("/control/placed")]
    assert len(placed_ids) == len(set(placed_ids)), "no id twice, over all runs"
    box.wait(lambda: box.venue_positions() == positions(box), 5, "the venue's position")


def positions(box: Stack) -> dict[str, str]:
    """Return the positions that the quoter shows, without those that are nothing, as the venue writes them."""
    shown = {name: each["position"] for name, each in box.summary()["instruments"].items()}
    return {name: size if "." in size else f"{size}.0" for name, size in shown.items() if float(size)}


def test_sigterm_places_nothing_more_and_leaves_nothing(box: LiveBox) -> None:
    """Exit 0 within 5 s, no order left, the dead-man switch cleared, and no order accepted after the signal."""
    box.start()
    box.wait(lambda: box.summary()["deadman"] == "ARMED", 5, "the switch to be set")
    sent = time.time_ns() // 1_000_000
    began = box.quoter.send(signal.SIGTERM)
    assert box.quoter.wait(6) == 0
    assert (time.monotonic_ns() - began) / 1e9 < 5
    assert box.orders() == []
    late = [each for each in box.control("/control/placed") if each["time"] > sent + box.latency_ms]
    assert late == []
    [account] = box.control("/control/state").values()
    assert account["dead_man_ms"] is None, "a switch that is left set would fire for nothing"


def test_sigterm_without_a_venue_says_what_is_left(box: LiveBox) -> None:
    """Cut off, the stop ends after 5 s as a failure that names each order; the venue's own switch ends them."""
    box.start()
    box.wait(lambda: box.summary()["deadman"] == "ARMED", 5, "the switch to be set")
    box.server.send(signal.SIGSTOP)
    box.quoter.send(signal.SIGTERM)
    assert box.quoter.wait(8) == 4
    said = box.quoter.said()
    box.server.send(signal.SIGCONT)
    assert "the venue did not confirm within 4.5 s that no order of ours is live; we know of 10: BTC " in said
    assert said.count("pending_cancel") + said.count("unknown") == 10
    box.wait(lambda: not box.orders(), AHEAD_S + 2, "the guardian, or the switch")


# Dead-man switch refused, budget --------------------------------------------------------------------------------------


def test_a_refused_dead_man_switch_is_shown_and_makes_the_box_small(tmp_path: Path) -> None:
    """The volume gate: REFUSED in the venue's words, orders a quarter as large; a frozen quoter's end all the same."""
    with LiveBox(tmp_path, "--volume-gate", "1000000") as box:
        box.start()
        status = box.status_json()
        assert status["deadman"].startswith(f"REFUSED({GATE} Traded: $")
        assert "dead man  REFUSED(" in box.mmpi("status").stdout
        worth = [float(each["px"]) * float(each["sz"]) for each in box.orders()]
        assert worth and max(worth) <= 200 * 0.25
        frozen = box.quoter.send(signal.SIGSTOP)
        box.wait(lambda: not box.orders(), 3, "the guardian's heartbeat rule")
        assert (time.monotonic_ns() - frozen) / 1e9 < 2.5
        box.quoter.send(signal.SIGCONT)


def test_a_budget_near_its_end_thins_out_requotes_and_never_cancels(tmp_path: Path) -> None:
    """Few requests left: orders move a fraction as often, then none is placed; a press still cancels what rests."""
    busy = {
        "MMPI_INSTRUMENTS__BTC__LAYERED__UPDATE_INTERVAL_S": "0.1",
        "MMPI_INSTRUMENTS__BTC__LAYERED__TOLERANCE_PERCENT": "0",
        # Too far out for fills, each of which would be worth a hundred requests.
        "MMPI_INSTRUMENTS__BTC__LAYERED__SPREAD_PERCENT": "0.5",
        "MMPI_INSTRUMENTS__ETH__LAYERED__SPREAD_PERCENT": "0.5",
    }
    with LiveBox(tmp_path, "--budget", "200", more=busy) as box:
        box.start()
        box.wait(lambda: box.summary()["requests"]["thinning"] >= 2, 30, "thinning out")
        box.wait(lambda: box.summary()["refusals"].get("request_budget", 0) > 0, 60, "the reserve")
        requests = box.summary()["requests"]
        assert requests["cap"] - requests["used"] <= requests["cap"] // 20 + 10
        press = box.press()
        assert press.answer["verified"] is True
        assert box.orders() == []


# A person's mistakes --------------------------------------------------------------------------------------------------


def refused(box: LiveBox, code: int, *words: str, **more: str) -> None:
    """Assert that a quoter ends with a code and one message with these words, and that no order was sent."""
    ended, said = box.run(**more)
    assert ended == code, said
    complaints = [line for line in said.splitlines() if line.startswith("mmpi run: ") and "practice on" not in line]
    complaints = [line for line in complaints if "waiting for the guardian" not in line]
    assert len(complaints) == 1, said
    assert all(word in complaints[0] for word in words), complaints[0]
    assert "Traceback" not in said
    assert box.control("/control/placed") == []


def test_mistakes_end_with_one_clear_message(box: LiveBox) -> None:
    """Wrong key, a key of nobody, a readable secret, an unknown coin, the other network: exit code 2 and no order."""
    box.start_server()
    box.start_guardian()
    box.arm()
    stranger = make_keys(box.folder / "other", box.folder / "nowhere.json")
    quoter_key = box.secrets / "quoter.key"
    original = quoter_key.read_text()
    quoter_key.write_text("0x1234\n")
    refused(box, 2, "quoter.key: not a private key", "64 hex digits")
    quoter_key.write_text((box.folder / "other" / "quoter.key").read_text())
    refused(box, 2, "quoter.key", stranger.agents["quoter"], "not an agent of account")
    quoter_key.write_text(original)
    quoter_key.chmod(0o644)
    refused(box, 2, "quoter.key: mode 0644 lets others read", "0600")
    quoter_key.chmod(0o600)
    other = box.folder / "doge.toml"
    other.write_text(CONFIG.read_text() + '\n[instruments.DOGE]\nquoter = "layered"\n')
    refused(box, 2, "instruments.DOGE", "no such market", MMPI_CONFIG=str(other))
    refused(box, 2, "venue.network (mainnet)", "does not exist", MMPI_VENUE__NETWORK="mainnet")


def test_a_clock_that_lies_ends_a_start_by_hand(tmp_path: Path) -> None:
    """90 s off: exit code 3, what is wrong and by how much, and no order; cancelling by the guardian works."""
    with LiveBox(tmp_path, "--fault", "clock_skew:s=90") as box:
        box.start_server()
        box.start_guardian()
        box.arm()
        refused(box, 3, "clock: ", "90.", "behind the venue's (allowed: 1 s)", "timedatectl")


def test_a_clock_that_begins_to_lie_pulls_and_comes_back(box: LiveBox) -> None:
    """I8: the venue's time and ours part: cancels go out, nothing is placed; when they agree again, it quotes again."""
    box.start()
    line = HttpLine(box.port)
    line.post("/control/fault", {"faults": ["clock_skew:s=90"]})
    box.wait(lambda: box.summary()["reason"].startswith("clock: "), 20, "the clock to be distrusted")
    box.wait(lambda: not box.orders(), 5, "everything to be cancelled")
    line.post("/control/fault", {"faults": []})
    line.close()
    box.wait_quoting(40)


# TLS, memory ----------------------------------------------------------------------------------------------------------


def test_quoting_over_tls(tmp_path: Path) -> None:
    """https with an authority of one's own: quotes, stops, in 64 MB; a wrong authority is one clear message."""
    with LiveBox(tmp_path, "--tls", "--tls-dir", str(tmp_path / "tls")) as box:
        box.start_server()
        found = re.search(r"CA file (\S+?)[;)]", box.server.said())
        assert found is not None, box.server.said()
        box._more["MMPI_VENUE__CA_FILE"] = found[1]
        box.start_guardian()
        box.arm()
        box.start_quoter()
        box.wait(lambda: box.summary().get("state") == "quoting", 20, "quoting")
        box.wait(lambda: box.summary()["instruments"]["BTC"]["orders"] > 0, 5, "orders")
        assert rss_mb(box.quoter.pid) <= 64
        press = box.press()
        assert press.answer["verified"] is True
        box.arm()
        code, said = box.run(MMPI_VENUE__CA_FILE="/etc/hostname", MMPI_PATHS__RUNTIME_DIR=str(tmp_path / "run2"))
        assert code == 2 and "no certificates can be read" in said
        box.quoter.send(signal.SIGTERM)
        assert box.quoter.wait(6) == 0
