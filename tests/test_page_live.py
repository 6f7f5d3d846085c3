"""The page in a real browser, on a real box: quoter, guardian, practice server and telemetry as they are."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_troubles import start_telemetry
from browser_box import PHONE, SCREEN, chromium, missing, page_at, shoot
from stack import Stack
from test_page_browser import by_finger, by_mouse, grey_after, is_live, said, so, text, until

pytestmark = pytest.mark.slow


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Stack]:
    """Give a box that quotes and tells."""
    if why := missing():
        pytest.skip(why)
    with Stack(tmp_path, latency_ms=20) as made:
        made.start()
        start_telemetry(made, {})
        yield made


def address(box: Stack) -> str:
    """Return where its page is."""
    return f"http://127.0.0.1:{box._more['MMPI_WEB__PORT']}"


@pytest.mark.parametrize(("size", "hold"), [(PHONE, by_finger), (SCREEN, by_mouse)], ids=["phone", "screen"])
async def test_a_kill_by_hold_cancels_everything(box: Stack, size: tuple[int, int], hold: object) -> None:
    """A short touch does nothing; held, all orders are gone at the practice server, and the page says that it is
    proven; values moved before."""
    async with chromium() as browser, page_at(browser, address(box), size) as page:
        await is_live(page)
        assert await text(page, "#sign") == "practice"
        before = await text(page, "#quoter")
        await hold(page, "#kill", 0.4)  # type: ignore[operator]
        assert box.orders() and box.status()["latch"] == "armed"
        assert await text(page, "#quoter") != before
        await hold(page, "#kill", 1.3)  # type: ignore[operator]
        await until(lambda: box.orders() == [], 10)
        await so(page, "document.getElementById('result').innerText.includes('Zero orders, verified')", 15)
        await so(page, "document.getElementById('sign').innerText === 'latched'", 10)
        assert box.status()["latch"] == "latched"
        await shoot(page, f"live-{size[0]}-killed", whole=False)
        assert said(page) == []


async def test_a_dead_quoter_is_greyed_and_comes_back(box: Stack) -> None:
    """Within 2 s of its death what it said is grey; with the next quoter the page is live again."""
    async with chromium() as browser, page_at(browser, address(box), PHONE) as page:
        await is_live(page)
        box.quoter.send(signal.SIGKILL)
        assert await grey_after(page, "[data-of=quoter]:not(.stale)") < 2.0
        await shoot(page, "live-quoter-dead", whole=False)
        box.start_quoter()
        box.wait_quoting(30)
        await is_live(page)
