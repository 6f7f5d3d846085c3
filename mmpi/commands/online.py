"""mmpi check --online: what the venue, the keys and this machine's clock say to a configuration.

Invariant: only questions are asked: nothing is signed, nothing is placed. It must not know who prints the findings.
"""

import asyncio
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mmpi.commands.online_market import examine_market, tokens_of
from mmpi.config.ladders import orders
from mmpi.deadman import REFRESH
from mmpi.device.clock_sync import is_synchronised
from mmpi.errors import ConfigError, RemoteError
from mmpi.instrument import MONEY_SCALE, SECOND
from mmpi.runtime.account_check import Load, account_findings, key_findings
from mmpi.runtime.account_facts import Key, ask_account
from mmpi.runtime.findings import CLOCK, VENUE, Finding
from mmpi.runtime.inquiry import ClockReading, inquiry
from mmpi.runtime.secret_files import folder_fault, keep_out_of_core_dumps, read_address, read_secret
from mmpi.runtime.venue_facts import VenueFacts, ask_facts, clock_fault
from mmpi.sections import VenueSettings
from mmpi.settings import Settings
from mmpi.venues.hyperliquid.signing import Signer, parse_key

PATIENCE_S: Final = 10.0
"""For all answers together."""
HOSTS: Final = {"api.hyperliquid.xyz": "mainnet", "api.hyperliquid-testnet.xyz": "testnet"}
"""Which network answers at the venue's own addresses ("API")."""
OWN: Final = ("quoter", "guardian")


def examine(settings: Settings) -> list[Finding]:
    """Return everything that was found; only a venue with an address is asked."""
    if settings.venue.name == "generated":
        return [Finding(VENUE, "OK", "the generated market is in this program: there is nobody to ask")]
    keep_out_of_core_dumps()
    signs = settings.venue.mode in ("practice", "live")
    told: list[Finding] = []
    secrets, account, keys = _secrets(Path(settings.paths.secrets_dir)) if signs else ([], "", [])
    try:
        asyncio.run(_ask(settings, account, keys, told))
    except RemoteError as error:
        untrusted = "CERTIFICATE_VERIFY_FAILED" in str(error)
        todo = "set venue.ca_file to its authority's certificate" if untrusted else "try again, or correct venue.url"
        told.append(Finding(VENUE, "FAIL", f"{error}; {todo}"))
    except ConfigError as error:
        told.append(Finding("venue.ca_file", "FAIL", str(error)))
    return [*_network(settings.venue, signs), *_sync(settings, signs), *secrets, *told]


async def _ask(settings: Settings, account: str, keys: list[Key], told: list[Finding]) -> None:
    """Ask the venue everything; what is known is in `told` even if it falls silent."""
    venue = settings.venue
    live = venue.mode == "live"
    async with inquiry(venue.websocket_url(), PATIENCE_S, ca_file=venue.ca_file) as talk:
        facts = await ask_facts(talk)
        told.append(_reached(venue, facts.clock))
        told.append(_clock(facts.clock, settings.clock.max_offset_ms, paper=venue.mode == "paper"))
        for wanted in settings.instruments:
            told += await examine_market(talk, facts, wanted)
        if account:
            vault = venue.vault.lower()
            known = await ask_account(talk, account, keys, vault)
            told += key_findings(known, account, keys, time.time_ns() // 1_000_000, live=live)
            told += account_findings(known, account, vault, _load(settings, facts), live=live)


def _reached(venue: VenueSettings, clock: ClockReading | None) -> Finding:
    trip = f" in {clock.round_trip / SECOND * 1000:.0f} ms" if clock is not None else ""
    tls = f"over TLS, vouched for by {venue.ca_file or 'an authority of this system'}"
    secure = venue.url.startswith("https://")
    return Finding(VENUE, "OK", f"{venue.url} answers{trip}, {tls if secure else 'without TLS'}")


def _clock(reading: ClockReading | None, max_offset_ms: int, *, paper: bool) -> Finding:
    if reading is None:
        return Finding(CLOCK, "WARN", "the venue does not tell its time")
    if fault := clock_fault(reading, max_offset_ms):
        # Nothing is signed on paper.
        return Finding(CLOCK, "WARN" if paper else "FAIL", fault)
    offset, error = reading.offset / SECOND, reading.round_trip / 2 / SECOND
    text = f"{abs(offset):.2f} s {'ahead of' if offset >= 0 else 'behind'} the venue's, give or take {error:.2f} s"
    if error * 1000 > max_offset_ms:
        return Finding(CLOCK, "WARN", f"{text}: more than clock.max_offset_ms, {max_offset_ms}, so it may be off")
    return Finding(CLOCK, "OK", text)


def _network(venue: VenueSettings, signs: bool) -> Iterator[Finding]:
    theirs = HOSTS.get(urlsplit(venue.url).hostname or "")
    if signs and theirs is not None and theirs != venue.network:
        text = f'value "{venue.network}": allowed: "{theirs}", the network at {venue.url}; it takes no other signatures'
        yield Finding("venue.network", "FAIL", text)


def _sync(settings: Settings, signs: bool) -> Iterator[Finding]:
    synchronised = is_synchronised()
    if synchronised:
        yield Finding("clock_sync", "OK", "the kernel says that the clock is synchronised")
    elif synchronised is None:
        yield Finding("clock_sync", "WARN", "the kernel does not say whether the clock is synchronised")
    else:
        text = "the kernel says that the clock is not synchronised; set up chrony or systemd-timesyncd"
        needed = signs and settings.venue.mode == "live" and settings.clock.require_sync
        yield Finding(CLOCK, "FAIL", f"{text} (clock.require_sync)") if needed else Finding("clock_sync", "WARN", text)


def _secrets(folder: Path) -> tuple[list[Finding], str, list[Key]]:
    """Return what there is to say of the secrets, the account, and the keys' addresses; "" and none if one is bad."""
    faults: list[str] = []
    account, keys = "", []
    try:
        if fault := folder_fault(folder):
            return [Finding("secrets", "FAIL", fault)], "", []
    except OSError as error:
        text = f"{folder}: {error.strerror}; put account, quoter.key and guardian.key there, or set secrets.dir"
        return [Finding("secrets", "FAIL", text)], "", []
    try:
        account = read_address(folder / "account")
    except ConfigError as error:
        faults.append(str(error))
    for name in OWN:
        file = folder / f"{name}.key"
        try:
            signer = Signer(parse_key(read_secret(file), str(file)), mainnet=False)
            keys.append(Key(name, str(file), signer.address))
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        return [Finding("secrets", "FAIL", fault) for fault in faults], "", []
    text = f"{folder}: account, quoter.key, guardian.key; nobody else can read them"
    return [Finding("secrets", "OK", text)], account, keys


def _load(settings: Settings, facts: VenueFacts) -> Load:
    """Return what the configuration asks of the account at worst: every order moved at every update."""
    risk, per_order = settings.risk, 1 if settings.venue.amend else 2
    each = [(orders(one.quoter), one.quoter.update_interval_s) for one in settings.instruments]
    per_s = sum(count * per_order / interval_s for count, interval_s in each)
    spot = {one.name: tokens_of(facts, one.name) for one in settings.instruments}
    return Load(
        orders=sum(count for count, _ in each),
        requests_per_hour=per_s * 3600,
        refreshes_per_hour=SECOND / REFRESH * 3600,
        budget_low=settings.venue.budget_low,
        budget_reserve=settings.venue.budget_reserve,
        capital=Decimal(risk.capital) / MONEY_SCALE,
        unarmed_order=Decimal(risk.max_order) / MONEY_SCALE * Decimal(str(risk.unarmed_percent)) / 100,
        perpetuals=not all(spot.values()),
        tokens=tuple(dict.fromkeys(token for pair in spot.values() for token in pair)),
    )
