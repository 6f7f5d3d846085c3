"""mmpi health with a real guardian and a real quoter: healthy while it quotes, while it is latched, and not without."""

import json
from pathlib import Path
from typing import Any

import pytest
from stack import KILL, Stack

pytestmark = pytest.mark.slow


def health(stack: Stack, *words: str) -> tuple[int, dict[str, Any]]:
    """Return how `mmpi health` ended, and what it said."""
    done = stack.mmpi("health", "--json", *words)
    assert done.stdout.count("\n") == 1, done
    return done.returncode, json.loads(done.stdout)


def kept(stack: Stack) -> dict[str, Any] | None:
    """Return the verdict in boot.json."""
    found: dict[str, Any] | None = json.loads((stack.state / "boot.json").read_bytes())["verdict"]
    return found


def boot(stack: Stack) -> dict[str, Any]:
    """Return what `mmpi status` shows of this boot."""
    found: dict[str, Any] = json.loads(stack.mmpi("status", "--json").stdout)["guardian"]["boot"]
    return found


def test_healthy_and_not(tmp_path: Path) -> None:
    """Without a quoter a boot is not healthy: exit 4, told, kept, shown; it quotes all the same, and is healthy once it
    does, and latched, and paused for a wrong set-up. The verdict outlives a guardian that is killed."""
    result = tmp_path / "setup.json"
    with Stack(tmp_path, more={"MMPI_HOST__SETUP_RESULT": str(result)}) as stack:
        stack.start_server()
        stack.start_guardian()
        stack.arm()
        stack.wait(lambda: stack.status()["state"] == "run", 10, "an armed guardian")
        assert boot(stack) == {"healthy": None, "why": "not yet judged"}
        assert kept(stack) is None

        assert health(stack, "--timeout", "2") == (4, {"healthy": False, "why": ["no quoter is running"], "kept": True})
        found = kept(stack)
        assert found is not None and (found["healthy"], found["why"]) == (False, "no quoter is running")
        assert found["uptime_s"] > 0 and found["version"]
        assert stack.status()["sign"] == "unhealthy"
        assert "NOT healthy" in stack.mmpi("status").stdout

        stack.start_quoter()
        stack.wait_quoting()
        stack.wait(lambda: stack.status()["sign"] == "degraded", 5, "the sign of an unhealthy boot that quotes")
        assert health(stack, "--timeout", "30") == (0, {"healthy": True, "why": ["quoting"], "kept": True})
        assert boot(stack) == kept(stack)
        stack.wait(lambda: stack.status()["sign"] == "practice", 5, "the sign of a healthy one")

        stack.guardian.send(KILL)
        stack.guardian.wait(5)
        stack.start_guardian()
        assert boot(stack)["why"] == "quoting"
        stack.wait_quoting()

        result.write_text('{"ok": false, "errors": ["wifi.toml: ssid: missing"]}')
        stack.wait(lambda: stack.status()["sign"] == "setup", 10, "the pause for the set-up")
        assert health(stack, "--timeout", "30") == (
            0, {"healthy": True, "why": ["paused: setup: wifi.toml: ssid: missing"], "kept": True}
        )  # fmt: skip
        assert stack.orders() == []
        result.unlink()
        stack.wait_quoting()

        stack.press("smoke")
        assert health(stack, "--timeout", "30") == (0, {"healthy": True, "why": ["latched: smoke"], "kept": True})
        assert stack.orders() == []

        stack.quoter.send(KILL)
        stack.quoter.wait(5)
        code, said = health(stack, "--timeout", "2")
        assert (code, said["why"]) == (4, ["quoter_died", "no quoter is running"])
        assert stack.status()["sign"] == "latched"


def test_a_boot_without_a_guardian_is_not_healthy(tmp_path: Path) -> None:
    """Nobody answers: exit 4 when the time is over, and nobody is there to keep it."""
    with Stack(tmp_path) as stack:
        code, said = health(stack, "--timeout", "1")
        assert (code, said["healthy"], said["kept"]) == (4, False, False)
        assert "no guardian is listening" in said["why"][0]
