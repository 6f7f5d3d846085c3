"""The page in a real browser, at the size of a phone and of a screen: what a person sees, presses and is told."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, WSServerHandshakeError
from browser_box import PHONE, SCREEN, chromium, missing, missing_axe, page_at, shoot, violations
from page_feed import Feed, stalled

from mmpi.channels import WebSettings
from mmpi.device.lights import PATTERNS
from mmpi.telemetry.page_state import AlertState
from mmpi.telemetry.web import MAX_CLIENTS, Web

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.slow

SIZES = {"phone": PHONE, "screen": SCREEN}
DAY_S = 86_400.0
MARKUP = '<img src=x onerror="document.title=1"><b>bold</b>'


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    """Skip where there is no browser."""
    if why := missing():
        pytest.skip(why)


@pytest.fixture
async def browser() -> AsyncIterator["Browser"]:
    """Give a browser."""
    async with chromium() as made:
        yield made


@asynccontextmanager
async def serving(feed: Feed, port: int = 0) -> AsyncIterator[str]:
    """Give the address of a server of this feed."""
    server = Web(WebSettings(port=port), feed, feed.counters)
    await server.start()
    try:
        yield f"http://localhost:{server.port}"
    finally:
        await server.close()


@asynccontextmanager
async def looking(
    browser: "Browser", feed: Feed, size: tuple[int, int] = PHONE, theme: str = "dark", **more: Any
) -> AsyncIterator["Page"]:
    """Give the page of this feed, once it is live."""
    async with serving(feed) as address, page_at(browser, address, size, theme, **more) as page:
        await is_live(page)
        yield page


async def is_live(page: "Page") -> None:
    """Return once the page has heard of the box, and is not greyed."""
    await so(page, "document.getElementById('link').dataset.link === 'live'", 10.0)
    await so(page, "document.querySelectorAll('.card.stale').length === 0", 10.0)


async def until(found: Callable[[], bool], seconds: float = 5.0) -> None:
    """Return once this is so; fail if it takes longer."""
    async with asyncio.timeout(seconds):
        while not found():
            await asyncio.sleep(0.02)


async def so(page: "Page", expression: str, seconds: float = 5.0) -> None:
    """Return once this is true in the page; Playwright's own way of waiting is refused by the page's policy."""
    async with asyncio.timeout(seconds):
        while not await page.evaluate(expression):
            await asyncio.sleep(0.02)


async def text(page: "Page", selector: str) -> str:
    """Return what stands there."""
    return await page.inner_text(selector)


async def grey_after(page: "Page", selector: str = ".card:not(.stale)") -> float:
    """Return the seconds until everything is greyed."""
    began = time.monotonic()
    await so(page, f"document.querySelectorAll({selector!r}).length === 0")
    return time.monotonic() - began


def said(page: "Page") -> list[str]:
    """Return what the console said."""
    return list(page.said)  # type: ignore[attr-defined]


# What it looks like -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("size", SIZES)
async def test_it_shows_a_box_that_quotes(browser: "Browser", size: str, theme: str) -> None:
    """Nothing fails or is refused by the policy, it is as wide as the screen, numbers move, axe finds nothing."""
    async with looking(browser, Feed(past_s=DAY_S), SIZES[size], theme) as page:
        assert await text(page, "#sign") == "practice"
        assert (await text(page, "#device"), await text(page, "#panel-facts")) == (
            "kitchen-shelf",
            "latch\narmed\ndead-man switch\narmed\norders at the venue\n8\nlast stop\nnone in this run",
        )
        assert await page.locator("#chart path.series").count() == 5
        dashes = "all => all.map(line => line.getAttribute('stroke-dasharray'))"
        assert len(set(await page.eval_on_selector_all("#chart path.series", dashes))) == 5
        assert await page.locator(".ladder tr.mine").count() == 8
        before = {name: await text(page, name) for name in ("#instruments .mid >> nth=0", "#quoter", "#total")}
        await page.get_by_role("button", name="24 h").click()
        await shoot(page, f"{size}-{theme}")
        await shoot(page, f"{size}-{theme}-first", whole=False)
        assert await page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
        if why := missing_axe():
            pytest.skip(why)
        assert await violations(page) == []
        await asyncio.sleep(1.0)
        after = {name: await text(page, name) for name in before}
        assert after["#quoter"] != before["#quoter"]
        assert after["#instruments .mid >> nth=0"] != before["#instruments .mid >> nth=0"]
        assert said(page) == []


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("size", SIZES)
async def test_it_shows_a_box_in_trouble(browser: "Browser", size: str, theme: str) -> None:
    """Latched, with alerts, and then silent: both are readable for everybody, too."""
    feed = Feed(panel=True)
    feed.alerts = [AlertState("kill", "", "critical", "latched: the phone", time.time() - 5),
                   AlertState("feed_down", "ETH", "warning", "no market data for 12 s", time.time() - 75)]  # fmt: skip
    await feed.command("kill", "the phone")
    async with looking(browser, feed, SIZES[size], theme) as page:
        assert await text(page, "#sign") == "latched"
        assert "a person arms" in await text(page, "#causes")
        assert "critical" in await text(page, "#alerts")
        why = missing_axe()
        assert why or await violations(page) == []
        await shoot(page, f"{size}-{theme}-latched")
        feed.talk.clear()
        await grey_after(page)
        assert why or await violations(page) == []
        await shoot(page, f"{size}-{theme}-silent", whole=False)
        assert said(page) == []


async def test_the_lamps_blink_in_the_real_rhythm(browser: "Browser") -> None:
    """Each change of the lamp on the page comes when it comes on the box, and the strip below shows the same."""
    watch = """() => new Promise(done => {
        const seen = [], bulb = document.querySelector('[data-led=green]');
        new MutationObserver(() => {
            const on = bulb.classList.contains('on');
            if (!seen.length || seen.at(-1)[0] !== on) seen.push([on, performance.now()]);
        }).observe(bulb, {attributes: true});
        setTimeout(() => done(seen), 4600);
    })"""
    async with looking(browser, Feed()) as page:
        seen = await page.evaluate(watch)
        strip = await page.eval_on_selector_all("#rhythm span", "all => all.map(e => e.className)")
        lit = await page.locator(".led.on").evaluate_all("all => all.map(e => e.dataset.led)")
    lengths = [(on, round(end - start)) for (on, start), (_, end) in zip(seen, seen[1:], strict=False)]
    rhythm = PATTERNS["practice"].rhythm
    assert len(lengths) >= 6
    for on, ms in lengths:
        allowed = rhythm[0::2] if on else rhythm[1::2]
        assert min(abs(ms - each) for each in allowed) < 90, lengths
    assert {round(ms / 200) for on, ms in lengths if on} == {1, 7}
    assert strip == ["on"] * 28 + [""] * 4 + ["on"] * 4 + [""] * 4
    assert set(lit) <= {"green"}


async def test_what_the_box_says_is_never_markup(browser: "Browser") -> None:
    """Texts with tags in them are shown as they are; nothing of them becomes an element."""
    feed = Feed()
    feed.alerts = [AlertState(MARKUP, MARKUP, "warning", MARKUP, time.time())]
    feed.counters[MARKUP] = 3
    await feed.command("kill", MARKUP)
    async with looking(browser, feed) as page:
        assert MARKUP in await text(page, "#alerts")
        assert MARKUP in await text(page, "#panel-facts")
        assert MARKUP.replace("_", " ") in await text(page, "#counters")
        assert await page.locator("main img, main b").count() == 0
        assert await page.title() == "latched · kitchen-shelf"
        assert said(page) == []


async def test_a_choice_of_theme_is_kept(browser: "Browser") -> None:
    """The button goes from auto to dark to light, and the next visit begins with that."""
    async with looking(browser, Feed(), theme="dark") as page:
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = await page.evaluate(ground)
        await page.locator("#theme").click()
        assert await page.evaluate(ground) == dark
        await page.locator("#theme").click()
        light = await page.evaluate(ground)
        assert light != dark
        await page.reload()
        await is_live(page)
        assert await page.evaluate(ground) == light


async def test_a_chart_of_one_instrument_can_be_chosen(browser: "Browser") -> None:
    """Ranges and instruments are pressed buttons, and the chart says in words what it shows."""
    async with looking(browser, Feed(past_s=3600.0)) as page:
        label = "document.getElementById('chart').getAttribute('aria-label')"
        await page.get_by_role("button", name="ETH", exact=True).click()
        await page.get_by_role("button", name="1 h", exact=True).click()
        assert (await page.evaluate(label)).startswith("Profit and loss over 1 h of ETH, now ")
        assert await page.locator("#subjects [aria-pressed=true]").inner_text() == "ETH"


# Holding ------------------------------------------------------------------------------------------------------------

Press = Callable[["Page", str, float], Awaitable[None]]


async def by_mouse(page: "Page", button: str, seconds: float) -> None:
    """Hold with the mouse."""
    await page.locator(button).hover()
    await page.mouse.down()
    await asyncio.sleep(seconds)
    await page.mouse.up()


async def by_finger(page: "Page", button: str, seconds: float) -> None:
    """Hold with a finger that trembles a little."""
    box = await page.locator(button).bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    link = await page.context.new_cdp_session(page)
    await link.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    await asyncio.sleep(seconds / 2)
    await link.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x + 4, "y": y - 3}]})
    await asyncio.sleep(seconds / 2)
    await link.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def by_key(key: str) -> Press:
    """Hold with a key."""

    async def press(page: "Page", button: str, seconds: float) -> None:
        await page.locator(button).focus()
        await page.keyboard.down(key)
        await asyncio.sleep(seconds / 2)
        await page.keyboard.down(key)  # as a key that is held repeats itself
        await asyncio.sleep(seconds / 2)
        await page.keyboard.up(key)

    return press


PRESSES: dict[str, Press] = {
    "mouse": by_mouse, "finger": by_finger, "space": by_key("Space"), "enter": by_key("Enter"),
}  # fmt: skip


@pytest.mark.parametrize("how", PRESSES)
async def test_kill_is_held_for_a_second(browser: "Browser", how: str) -> None:
    """Let go early it does nothing and says so; held, it is sent once, says so, and then shows the guardian's proof."""
    feed = Feed()
    async with looking(browser, feed) as page:
        await PRESSES[how](page, "#kill", 0.5)
        assert "too early" in await text(page, "#result")
        await asyncio.sleep(1.2)
        assert feed.asked == []
        feed.hold.clear()
        await PRESSES[how](page, "#kill", 1.3)
        await until(lambda: feed.asked == [("kill", "kill on the page")])
        assert (await text(page, "#result")).startswith("Pressed.")
        feed.hold.set()
        await so(page, "document.getElementById('result').textContent.includes('verified after 244')")
        assert (await text(page, "#result")).startswith("Stopped at ")
        await so(page, "document.getElementById('sign').textContent === 'latched'")
        assert len(feed.asked) == 1
        assert said(page) == []


async def test_kill_shows_that_it_is_being_held(browser: "Browser") -> None:
    """The ring fills from nothing to full; with reduced motion it does in quarters, and lit lamps stand still."""
    shares = """() => new Promise(done => {
        const seen = [], button = document.getElementById('kill');
        const timer = setInterval(() => seen.push(Number(button.style.getPropertyValue('--held'))), 30);
        setTimeout(() => { clearInterval(timer); done(seen); }, 900);
    })"""
    for motion in ("no-preference", "reduce"):
        async with looking(browser, Feed(), reduced_motion=motion) as page:
            await page.locator("#kill").hover()
            await page.mouse.down()
            seen = await page.evaluate(shares)
            await page.mouse.up()
            assert seen == sorted(seen)
            assert seen[-1] >= 0.75
            assert (len(set(seen)) <= 5) == (motion == "reduce")
            if motion == "reduce":
                states = set()
                for _ in range(25):
                    states.add(await page.locator("[data-led=green].on").count())
                    await asyncio.sleep(0.1)
                assert states == {1}


async def test_who_cannot_hold_says_it_twice(browser: "Browser") -> None:
    """A screen reader's click asks back, and the second one within five seconds is the kill."""
    feed = Feed()
    async with looking(browser, feed) as page:
        await page.evaluate("document.getElementById('kill').click()")
        await so(page, "document.getElementById('result').innerText.includes('once more')")
        assert feed.asked == []
        await page.evaluate("document.getElementById('kill').click()")
        await until(lambda: [name for name, _ in feed.asked] == ["kill"])


async def test_a_finger_that_slides_away_cancels(browser: "Browser") -> None:
    """Whoever thinks better of it may slide off the button."""
    feed = Feed()
    async with looking(browser, feed) as page:
        await page.locator("#kill").hover()
        await page.mouse.down()
        await page.mouse.move(180, 200)
        await asyncio.sleep(1.3)
        await page.mouse.up()
        assert feed.asked == []


async def test_pause_and_resume_are_pressed_and_flatten_is_held(browser: "Browser") -> None:
    """Each is sent once, with what came of it; a short press on flatten does nothing; refusals are shown in words."""
    feed = Feed()
    async with looking(browser, feed) as page:
        await page.locator("#pause").click()
        await so(page, "document.getElementById('result').textContent.includes('verified after 231')")
        await so(page, "document.getElementById('causes').textContent.includes('by remote')")
        await page.locator("#resume").click()
        await so(page, "document.getElementById('result').textContent.startsWith('Resumed')")
        await by_mouse(page, "#flatten", 0.4)
        assert "too early" in await text(page, "#result")
        await by_mouse(page, "#flatten", 1.2)
        await until(lambda: [name for name, _ in feed.asked] == ["pause", "resume", "flatten"])
        await feed.command("kill", "tea")
        await page.locator("#resume").click()
        await so(page, "document.getElementById('result').textContent.includes('only arming ends that')")


async def test_in_the_demo_the_buttons_are_those_of_the_box(browser: "Browser") -> None:
    """The red one presses the virtual pin and lets go; arming is held for three seconds, and let go early it is not."""
    feed = Feed(panel=True)
    async with looking(browser, feed) as page:
        await by_mouse(page, "#kill", 1.2)
        await until(lambda: [name for name, _ in feed.asked] == ["red_down", "red_up"])
        await so(page, "document.getElementById('result').textContent.includes('verified after')")
        feed.asked.clear()
        # Pressed again though it is stopped: there is no new proof to wait for.
        await by_mouse(page, "#kill", 1.2)
        await until(lambda: [name for name, _ in feed.asked] == ["red_down", "red_up"])
        await so(page, "document.getElementById('result').textContent.startsWith('Stopped at')")
        feed.asked.clear()
        await by_mouse(page, "#arm", 0.6)
        await until(lambda: [name for name, _ in feed.asked] == ["arm_down", "arm_up"])
        assert "not armed" in await text(page, "#result")
        feed.asked.clear()
        await by_mouse(page, "#arm", 3.3)
        await until(lambda: [name for name, _ in feed.asked] == ["arm_down", "arm_up"])
        await so(page, "document.getElementById('sign').textContent === 'practice'")
        assert said(page) == []


async def test_a_box_with_real_pins_has_no_arm_button(browser: "Browser") -> None:
    """Only hands at the box arm."""
    async with looking(browser, Feed()) as page:
        assert not await page.locator("#arm").is_visible()


# Old words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_it_greys_by_its_own_clock_and_recovers(browser: "Browser", size: str) -> None:
    """Within two seconds of the last word everything is grey, with its age, though the socket stands; news end that."""
    feed = Feed()
    async with looking(browser, feed, SIZES[size]) as page:
        colour = "getComputedStyle(document.getElementById('total')).color"
        bright = await page.evaluate(colour)
        feed.talk.clear()
        assert await grey_after(page) < 2.0
        assert await page.evaluate(colour) != bright
        assert await text(page, "#sign") == "unknown"
        assert await page.locator(".led.on, .led[data-used]").count() == 0
        assert "old" in await text(page, ".panel .age")
        assert "silent" in await text(page, "#link-text")
        await asyncio.sleep(0.5)
        feed.talk.set()
        await is_live(page)
        assert await text(page, "#sign") == "practice"
        assert await text(page, ".panel .age") == ""


async def test_it_lives_through_a_restart_of_telemetry(browser: "Browser") -> None:
    """Without a server it greys and says that a kill was not sent; with a new one, and its new token, all works."""
    async with AsyncExitStack() as stack:
        first = Feed()
        async with serving(first) as address:
            page = await stack.enter_async_context(page_at(browser, address))
            await is_live(page)
        assert await grey_after(page) < 2.0
        await by_mouse(page, "#kill", 1.2)
        await so(page, "document.getElementById('result').textContent.startsWith('NOT sent')", 8.0)
        second = Feed(seed=2)
        began = time.monotonic()
        await stack.enter_async_context(serving(second, int(address.rpartition(":")[2])))
        await is_live(page)
        assert time.monotonic() - began < 7.0
        await by_mouse(page, "#kill", 1.2)
        await until(lambda: [name for name, _ in second.asked] == ["kill"])
        await so(page, "document.getElementById('sign').textContent === 'latched'")


async def test_only_what_is_old_is_greyed(browser: "Browser") -> None:
    """A quoter that hangs greys what it said; a guardian that is silent greys lamps, causes and machine."""
    feed = Feed()
    async with looking(browser, feed) as page:
        feed.quoter_age = 2.5
        await grey_after(page, "[data-of=quoter]:not(.stale)")
        assert await page.locator("[data-of=guardian].stale, [data-of=telemetry].stale").count() == 0
        feed.quoter_age, feed.guardian_age = 0.1, 9.0
        await grey_after(page, "[data-of=guardian]:not(.stale)")
        await so(page, "document.querySelectorAll('[data-of=quoter].stale').length === 0")
        assert await text(page, "#sign") == "unknown"
        assert "guardian does not answer" in await text(page, "#says")
        feed.guardian_age = 0.2
        await is_live(page)


# Many ---------------------------------------------------------------------------------------------------------------


async def test_a_full_house_with_a_sleeper_is_served(browser: "Browser") -> None:
    """With sixteen clients, one of which takes nothing, the page goes on moving, and a kill goes through."""
    feed = Feed()
    async with looking(browser, feed) as page, ClientSession() as session, AsyncExitStack() as stack:
        address = page.url.rstrip("/")
        _, sleeper = await stalled(int(address.rpartition(":")[2]))
        stack.callback(sleeper.close)
        for _ in range(MAX_CLIENTS - 2):
            await stack.enter_async_context(session.ws_connect(f"{address}/live", headers={"Origin": address}))
        before = await text(page, "#quoter")
        await asyncio.sleep(2.0)
        assert await text(page, "#quoter") != before
        assert await page.locator(".card.stale").count() == 0
        async with session.get(f"{address}/status.json") as answer:
            assert json.loads(await answer.read())["kind"] == "state"
        with pytest.raises(WSServerHandshakeError, match="503"):
            await session.ws_connect(f"{address}/live", headers={"Origin": address})
        await by_mouse(page, "#kill", 1.2)
        await until(lambda: [name for name, _ in feed.asked] == ["kill"])
