"""Browser box: Debian's Chromium under Playwright, and axe-core, for tests that look at the page as a person does.

What is missing is installed from the machine's own package sources; what cannot be had is said, and the test skipped.
Everything that is fetched and made lies under dist/, which is not kept.
"""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Page

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = "chromium"
AXE = ROOT / "dist" / "browser" / "node_modules" / "axe-core" / "axe.min.js"
SHOTS = ROOT / "dist" / "screenshots"
PHONE, SCREEN = (360, 800), (1280, 800)
INSTALL_S = 300.0


def missing() -> str:
    """Return why no browser can be had here, "" if one can."""
    if find_spec("playwright") is None:
        return "the package playwright is not installed in this environment"
    if shutil.which(CHROMIUM) is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            return "there is no chromium, and only root can install it, by apt-get"
        words = ["apt-get", "-qq", "-y", "--no-install-recommends", "install", CHROMIUM]
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=INSTALL_S,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
        if done.returncode != 0 or shutil.which(CHROMIUM) is None:
            return f"chromium cannot be installed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
    return ""


def missing_axe() -> str:
    """Return why axe-core cannot be had, "" if it can."""
    if AXE.is_file():
        return ""
    if shutil.which("npm") is None:
        return "there is no npm to fetch axe-core with"
    folder = AXE.parents[2]
    folder.mkdir(parents=True, exist_ok=True)
    words = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
    done = subprocess.run([*words, "axe-core"], capture_output=True, text=True, check=False, timeout=INSTALL_S)
    if done.returncode != 0 or not AXE.is_file():
        return f"axe-core cannot be fetched: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
    return ""


@asynccontextmanager
async def chromium() -> AsyncIterator["Browser"]:
    """Give a browser of its own, without a window."""
    from playwright.async_api import async_playwright

    async with async_playwright() as player:
        browser = await player.chromium.launch(
            executable_path=shutil.which(CHROMIUM), args=["--no-sandbox", "--disable-gpu"], headless=True
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def page_at(
    browser: "Browser", address: str, size: tuple[int, int] = PHONE, theme: str = "dark", **more: Any
) -> AsyncIterator["Page"]:
    """Give the page at this size; what its console says is in `page.said`, refusals by the policy included."""
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=theme, has_touch=size == PHONE,
        device_scale_factor=2 if size == PHONE else 1, **more,
    )  # fmt: skip
    page = await context.new_page()
    said: list[str] = []

    def hear(message: "ConsoleMessage") -> None:
        if message.type in ("error", "warning"):
            said.append(f"{message.type}: {message.text}")

    page.on("console", hear)
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.said = said  # type: ignore[attr-defined]
    try:
        await page.goto(address)
        yield page
    finally:
        await context.close()


async def violations(page: "Page") -> list[str]:
    """Return what axe-core finds wrong with the page as it is now."""
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    found = await page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {node['html'][:160]} {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


async def shoot(page: "Page", name: str, *, whole: bool = True) -> Path:
    """Keep a picture of the page."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    path = SHOTS / f"{name}.png"
    await page.screenshot(path=path, full_page=whole)
    return path
