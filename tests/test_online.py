"""mmpi check --online: every finding of its own, its exit code, and that nothing is ever signed."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from info_server import HANG_UP, SILENT, Answer, Payload, book, but, info_server, sound
from practice_builders import MASTER, QUOTER, STRANGER
from runtime_builders import box_environ, practice_thread, write_keys
from stack import Stack

from mmpi.cli import main
from mmpi.commands import online
from mmpi.commands.online import examine
from mmpi.config import load_config
from mmpi.practice.hyperliquid.tls import server_context
from mmpi.practice.hyperliquid.venue import Venue
from mmpi.runtime import inquiry, websocket
from mmpi.runtime.findings import exit_code
from mmpi.settings import Settings
from mmpi.venues.hyperliquid.signing import Signer

pytestmark = pytest.mark.slow

ALL = [
    "clock_sync", "secrets", "venue", "clock", "instruments.BTC", "instruments.ETH", "quoter_key", "guardian_key",
    "account", "money", "budget", "dead_man",
]  # fmt: skip
Found = dict[str, tuple[str, str]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask and connect again at once, hold the kernel's clock for right, and leave this process's core dumps alone."""
    monkeypatch.setattr(online, "keep_out_of_core_dumps", lambda: True)
    monkeypatch.setattr(inquiry, "QUESTION_S", 0.1)
    monkeypatch.setattr(websocket, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(online, "is_synchronised", lambda: True)


@pytest.fixture(autouse=True)
def unsigned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hold at the end of every test that nothing was signed, and that no action reached the practice venue."""
    done: list[str] = []
    monkeypatch.setattr(Signer, "sign", lambda *_: done.append("signed"))
    monkeypatch.setattr(Venue, "act", lambda *_: done.append("acted"))
    yield
    assert done == []


def settings(folder: Path, url: str, **environ: str) -> Settings:
    """Return the settings of a box with keys that practises at a server."""
    write_keys(folder / "keys")
    return load_config(None, box_environ(folder, url) | environ).settings


def found(told: Settings) -> Found:
    """Return level and text of each finding, by check; two of one check would hide one another."""
    findings = examine(told)
    by_check = {each.check: (each.level, each.text) for each in findings}
    assert len(by_check) == len(findings)
    return by_check


def failed(told: Found) -> dict[str, str]:
    """Return the texts of what failed."""
    return {check: text for check, (level, text) in told.items() if level == "FAIL"}


@contextmanager
def box(folder: Path, answer: Callable[[Payload], Answer] = sound, **environ: str) -> Iterator[Settings]:
    """Give the settings of a box at a venue with these answers."""
    with info_server(answer) as venue:
        yield settings(folder, venue.url, **environ)


# All is well ------------------------------------------------------------------------------------------------------


def test_a_practice_box(tmp_path: Path) -> None:
    """At the practice server everything is looked at, in this order, and nothing fails; nothing is signed."""
    with practice_thread(tmp_path) as venue:
        told = found(settings(tmp_path, venue.url, MMPI_INSTRUMENTS__BTC__QUOTER="layered"))
    assert [each for each in told if each != "instruments.ETH"] == [each for each in ALL if each != "instruments.ETH"]
    assert failed(told) == {}
    assert told["venue"][1].startswith(f"{venue.url.replace('ws', 'http').removesuffix('/http')} answers in ")
    assert "tick 0.1, lot 0.00001; 6 orders worth" in told["instruments.BTC"][1]


def test_a_sound_live_box(tmp_path: Path) -> None:
    """At a venue where all is well every finding of a live box is OK."""
    with box(tmp_path) as sound_box:
        live = msgspec.structs.replace(sound_box, venue=msgspec.structs.replace(sound_box.venue, mode="live"))
        told = found(live)
    assert list(told) == ALL
    assert {level for level, _ in told.values()} == {"OK"}


def test_paper_needs_no_keys(tmp_path: Path) -> None:
    """On paper at the venue only the market and the time are asked about."""
    with box(tmp_path, MMPI_VENUE__MODE="paper") as paper:
        (tmp_path / "keys" / "account").unlink()
        told = found(paper)
    assert list(told) == ["clock_sync", "venue", "clock", "instruments.BTC", "instruments.ETH"]
    assert failed(told) == {}


def test_the_generated_market_has_nobody_to_ask(tmp_path: Path) -> None:
    """Without an address there is one finding."""
    told = found(load_config(None, box_environ(tmp_path)).settings)
    assert list(told) == ["venue"]
    assert told["venue"][0] == "OK"


# The venue --------------------------------------------------------------------------------------------------------


def test_a_venue_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer the exit code is 4; what needs no venue is looked at all the same."""
    monkeypatch.setattr(online, "PATIENCE_S", 0.3)
    with box(tmp_path) as away:
        pass
    told = found(away)
    assert list(told) == ["clock_sync", "secrets", "venue"]
    assert "no answer within 0.3 s" in failed(told)["venue"]
    assert "Connect call failed" in failed(told)["venue"]
    assert exit_code(examine(away)) == 4


@pytest.mark.parametrize("fault", [SILENT, HANG_UP])
def test_a_venue_that_falls_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Answer) -> None:
    """What was found before the venue fell silent is told, and that it did."""
    monkeypatch.setattr(online, "PATIENCE_S", 0.5)
    with box(tmp_path, but({"userRole": fault})) as half:
        findings = examine(half)
    assert [each.check for each in findings] == [
        "clock_sync", "secrets", "venue", "clock", "instruments.BTC", "instruments.ETH", "venue"
    ]  # fmt: skip
    assert exit_code(findings) == 4


def test_no_tls_where_https_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that speaks no TLS is not reached over https."""
    monkeypatch.setattr(online, "PATIENCE_S", 0.5)
    with info_server() as venue:
        https = venue.url.replace("ws://", "https://").removesuffix("/ws")
        assert "no answer within" in failed(found(settings(tmp_path, venue.url, MMPI_VENUE__URL=https)))["venue"]
        assert venue.asked == []


def test_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate of an authority that is trusted is fine; of another one, the remedy is named: exit code 4."""
    monkeypatch.setattr(online, "PATIENCE_S", 0.5)
    context, ca_file = server_context(tmp_path / "tls")
    with info_server(tls=context) as venue:
        https = venue.url.replace("wss://", "https://").removesuffix("/ws")
        told = settings(tmp_path, "x", MMPI_VENUE__URL=https, MMPI_VENUE__CA_FILE=str(ca_file))
        assert f"over TLS, vouched for by {ca_file}" in found(told)["venue"][1]
        findings = examine(settings(tmp_path, "x", MMPI_VENUE__URL=https))
    assert "CERTIFICATE_VERIFY_FAILED" in findings[-1].text
    assert findings[-1].text.endswith("; set venue.ca_file to its authority's certificate")
    assert exit_code(findings) == 4


def test_a_ca_file_without_certificates(tmp_path: Path) -> None:
    """A file of authorities that holds none is the configuration's fault, and named."""
    (tmp_path / "ca.pem").write_text("no certificate\n")
    told = settings(
        tmp_path, "ws://127.0.0.1:1/ws", MMPI_VENUE__URL="https://127.0.0.1:1", MMPI_VENUE__CA_FILE=f"{tmp_path}/ca.pem"
    )
    assert f"{tmp_path}/ca.pem: no certificates can be read" in failed(found(told))["venue.ca_file"]
    assert exit_code(examine(told)) == 2


@pytest.mark.parametrize(
    ("url", "network", "mode", "fails"),
    [
        ("https://api.hyperliquid.xyz", "testnet", "live", True),
        ("https://api.hyperliquid-testnet.xyz", "mainnet", "live", True),
        ("https://api.hyperliquid.xyz", "mainnet", "live", False),
        ("https://api.hyperliquid-testnet.xyz", "testnet", "live", False),
        ("https://api.hyperliquid.xyz", "testnet", "paper", False),
        ("https://proxy.example", "testnet", "live", False),
    ],
)
def test_the_wrong_chain(tmp_path: Path, url: str, network: str, mode: str, fails: bool) -> None:
    """Signatures for the other network than the address's are refused before any is made."""
    venue = settings(tmp_path, "", MMPI_VENUE__NAME="hyperliquid", MMPI_VENUE__MODE=mode, MMPI_VENUE__URL=url,
                     MMPI_VENUE__NETWORK=network).venue  # fmt: skip
    told = list(online._network(venue, signs=mode == "live"))
    assert [(each.check, each.level) for each in told] == ([("venue.network", "FAIL")] if fails else [])
    if fails:
        assert f'value "{network}": allowed: "{"mainnet" if network == "testnet" else "testnet"}"' in told[0].text


# The clock --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ahead_ms", "way"), [(-90_000, "90.0 s ahead of"), (90_000, "90.0 s behind")])
def test_a_clock_90_s_off(tmp_path: Path, ahead_ms: int, way: str) -> None:
    """A clock that is off fails with how far and what to do, and the exit code is 3; on paper it is a warning."""
    answer = but({"l2Book": lambda _: book(ahead_ms=ahead_ms)})
    with box(tmp_path, answer, MMPI_INSTRUMENTS__BTC__QUOTER="layered") as off:
        told = examine(off)
        assert exit_code(told) == 3
    clock = next(each for each in told if each.check == "clock")
    assert f"this machine's clock is {way} the venue's (allowed: 1 s); set the time" in clock.text
    with box(tmp_path, answer, MMPI_VENUE__MODE="paper", MMPI_INSTRUMENTS__BTC__QUOTER="layered") as paper:
        assert found(paper)["clock"][0] == "WARN"


def test_a_time_that_is_not_told(tmp_path: Path) -> None:
    """Without the venue's time the clock is not known to be right."""
    with box(tmp_path, but({"l2Book": None})) as mute:
        told = found(mute)
    assert told["clock"] == ("WARN", "the venue does not tell its time")
    assert told["instruments.BTC"][0] == "WARN"


@pytest.mark.parametrize(
    ("kernel", "mode", "needed", "check", "level"),
    [
        (True, "live", "true", "clock_sync", "OK"),
        (False, "live", "true", "clock", "FAIL"),
        (False, "live", "false", "clock_sync", "WARN"),
        (False, "practice", "true", "clock_sync", "WARN"),
        (None, "live", "true", "clock_sync", "WARN"),
    ],
)
def test_the_kernels_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    kernel: bool | None, mode: str, needed: str, check: str, level: str,
) -> None:  # fmt: skip
    """A clock that nobody keeps fails where the box would not trade for that (live, clock.require_sync)."""
    monkeypatch.setattr(online, "is_synchronised", lambda: kernel)
    url = "https://127.0.0.1:1" if mode == "live" else "http://127.0.0.1:1"
    told = settings(tmp_path, "x", MMPI_VENUE__MODE=mode, MMPI_VENUE__URL=url, MMPI_CLOCK__REQUIRE_SYNC=needed)
    (finding,) = online._sync(told, signs=True)
    assert (finding.check, finding.level) == (check, level)


# Markets ----------------------------------------------------------------------------------------------------------

DELISTED = {"universe": [{"name": "BTC", "szDecimals": 5, "isDelisted": True}, {"name": "ETH", "szDecimals": 4}]}
COARSE = {"universe": [{"name": "BTC", "szDecimals": 6}, {"name": "ETH", "szDecimals": 4}]}


@pytest.mark.parametrize(
    ("environ", "answers", "level", "says"),
    [
        ({}, {"meta": DELISTED}, "FAIL", "the venue has delisted this market; remove it"),
        ({"TICK_SIZE": "1"}, {}, "FAIL", "tick_size: value 1: allowed: 0, or 0.1 as the venue says"),
        ({"LOT_SIZE": "0.0001"}, {}, "FAIL", "lot_size: value 0.0001: allowed: 0, or 0.00001 as the venue says"),
        ({"LAYERED__SIZE": "0.000015"}, {}, "FAIL", "size 0.000015 of BTC is not a multiple of 0.00001"),
        ({"LAYERED__SIZE": "0.00009"}, {}, "FAIL", "below the venue's least, 10 USDC; raise the size"),
        ({"LAYERED__NOTIONAL": "0.5"}, {}, "FAIL", "orders would be below the lot, or below the venue's least"),
        ({"LAYERED__SIZE": "0.0001"}, {}, "WARN", "3 of them are below the venue's least, 10 USDC; raise the size"),
        ({"LAYERED__SIZE": "0.00011"}, {}, "OK", "asset 0, tick 0.1, lot 0.00001; 6 orders worth 11.00 to 11.00 USDC"),
        ({"QUOTER": "glft", "GLFT__NOTIONAL": "9"}, {}, "FAIL", "below the venue's least"),
        ({"QUOTER": "avellaneda_stoikov", "AVELLANEDA_STOIKOV__NOTIONAL": "25"}, {}, "OK", "4 orders worth"),
        ({"QUOTER": "improve"}, {}, "OK", "2 orders worth"),
        ({}, {"l2Book": lambda _: book(bid="")}, "WARN", "the book is empty on a side, so orders were not checked"),
        ({}, {"l2Book": lambda _: book(bid="100000.05")}, "FAIL", "price 100000.05 of BTC is not a multiple of 0.1"),
        ({}, {"meta": COARSE}, "OK", "tick 1, lot 0.000001"),
    ],
)
def test_a_market(tmp_path: Path, environ: dict[str, str], answers: dict[str, Any], level: str, says: str) -> None:
    """An instrument is fine if the venue trades it, on this grid, and would take the orders its strategy makes now."""
    more = {f"MMPI_INSTRUMENTS__BTC__{key}": value for key, value in environ.items()}
    with box(tmp_path, but(answers), MMPI_INSTRUMENTS__BTC__LAYERED__LEVELS="3", **more) as told:
        level_found, text = found(told)["instruments.BTC"]
    assert (level_found, says in text) == (level, True), text


def test_an_unknown_coin(tmp_path: Path) -> None:
    """A market that the venue has not fails by its name, with the nearest, and the exit code is 2."""
    with box(tmp_path) as told:
        slip = msgspec.structs.replace(told.instruments[0], name="BTX")
        findings = examine(msgspec.structs.replace(told, instruments=(slip,)))
    text = next(each.text for each in findings if each.check == "instruments.BTX")
    assert text == "the venue has no such market; of its 2 markets the nearest: BTC"
    assert exit_code(findings) == 2


def test_a_spot_market(tmp_path: Path) -> None:
    """A spot pair is looked at like any market, and the money that counts is that of its tokens."""
    spot = {
        "universe": [{"name": "PURR/USDC", "tokens": [1, 0], "index": 0}],
        "tokens": [{"name": "USDC", "szDecimals": 8, "index": 0}, {"name": "PURR", "szDecimals": 0, "index": 1}],
    }
    held = {"balances": [{"coin": "PURR", "token": 1, "total": "2000", "hold": "0.0", "entryNtl": "1.0"}]}
    answers = {"spotMeta": spot, "spotClearinghouseState": held, "l2Book": lambda _: book("0.20000", "0.20010")}
    with info_server(but(answers)) as venue:
        one = settings(tmp_path, venue.url, MMPI_INSTRUMENTS__BTC__QUOTER="layered")
        pair = msgspec.structs.replace(one.instruments[0], name="PURR/USDC")
        told = found(msgspec.structs.replace(one, instruments=(pair,)))
    assert told["instruments.PURR/USDC"][0] == "OK"
    assert "asset 10000, tick 0.00000001, lot 1; 6 orders" in told["instruments.PURR/USDC"][1]
    assert told["spot_money"] == ("OK", "holds 2000.00 PURR, 0 USDC")
    assert "money" not in told


# Secrets and keys -------------------------------------------------------------------------------------------------


def test_unsafe_secrets(tmp_path: Path) -> None:
    """Every file that cannot be used is named, with the remedy; then nothing is asked about keys."""
    with box(tmp_path) as told:
        keys = tmp_path / "keys"
        (keys / "quoter.key").chmod(0o644)
        (keys / "guardian.key").write_text("f" * 63)
        findings = examine(told)
    texts = [each.text for each in findings if each.check == "secrets"]
    assert texts == [
        f"{keys}/quoter.key: mode 0644 lets others read a secret; allowed: 0600 (chmod 600 {keys}/quoter.key)",
        f"{keys}/guardian.key: not a private key (63 characters, not shown); allowed: 64 hex digits, with or without "
        "0x, below the order of secp256k1",
    ]
    assert exit_code(findings) == 2
    assert [each.check for each in findings][-1] == "instruments.ETH"


@pytest.mark.parametrize(("mode", "says"), [(0, "No such file or directory; put account"), (0o777, "lets anyone put")])
def test_an_unsafe_folder(tmp_path: Path, mode: int, says: str) -> None:
    """A folder of secrets that is not there, or that anyone may write, is one finding."""
    with box(tmp_path) as told:
        keys = tmp_path / "keys"
        if mode:
            keys.chmod(mode)
        else:
            keys.rename(tmp_path / "elsewhere")
        assert says in failed(found(told))["secrets"]


def test_a_key_in_the_accounts_place_is_not_sent(tmp_path: Path) -> None:
    """A private key in the file account is neither shown nor sent to the venue."""
    key = "0x" + QUOTER.hex()
    with info_server() as venue:
        told = settings(tmp_path, venue.url)
        (tmp_path / "keys" / "account").write_text(key)
        findings = examine(told)
        assert QUOTER.hex() not in json.dumps(venue.asked)
    (text,) = (each.text for each in findings if each.check == "secrets")
    assert "not an address (66 characters, not shown)" in text
    assert QUOTER.hex() not in "".join(each.text for each in findings)


def test_keys_are_kept_out_of_core_dumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process keeps out of core dumps before it reads the first key, and on paper reads none."""
    done: list[str] = []
    monkeypatch.setattr(online, "keep_out_of_core_dumps", lambda: done.append("kept out"))
    monkeypatch.setattr(online, "parse_key", lambda *_: done.append("read") or STRANGER)
    with box(tmp_path) as told:
        examine(told)
        assert done == ["kept out", "read", "read"]
        examine(msgspec.structs.replace(told, venue=msgspec.structs.replace(told.venue, mode="paper")))
    assert done.count("read") == 2


def test_an_unapproved_key(tmp_path: Path) -> None:
    """A key that the practice venue does not know fails with its file, address and account: exit code 2."""
    with practice_thread(tmp_path) as venue:
        told = settings(tmp_path, venue.url)
        write_keys(tmp_path / "keys", quoter=STRANGER)
        findings = examine(told)
    text = next(each.text for each in findings if each.check == "quoter_key")
    assert f"{tmp_path}/keys/quoter.key: its address" in text
    assert f"is unknown to the venue, not an agent of account {MASTER}" in text
    assert exit_code(findings) == 2


def test_the_key_of_the_account(tmp_path: Path) -> None:
    """The account's own key in place of an agent's is refused, because it can withdraw."""
    own = Signer(STRANGER, mainnet=False).address
    with practice_thread(tmp_path) as venue:
        told = settings(tmp_path, venue.url)
        write_keys(tmp_path / "keys", quoter=STRANGER)
        (tmp_path / "keys" / "account").write_text(own)
        assert "this key can withdraw" in failed(found(told))["quoter_key"]


def test_one_key_for_both(tmp_path: Path) -> None:
    """In practice one key for both processes is a warning."""
    with box(tmp_path) as told:
        write_keys(tmp_path / "keys", guardian=QUOTER)
        assert found(told)["keys"][0] == "WARN"


def test_a_vault(tmp_path: Path) -> None:
    """At the practice venue a vault is no fault, whatever the case of its digits; an address that is none is one."""
    vault, nobody = "0x" + "fe" * 20, "0x" + "fd" * 20
    with practice_thread(tmp_path) as venue:
        with (tmp_path / "registry").open("a") as registry:
            registry.write(json.dumps({vault: {"leader": MASTER}}) + "\n")
        told = found(settings(tmp_path, venue.url, MMPI_VENUE__VAULT=vault.upper().replace("0X", "0x")))
        assert told["vault"][1].startswith(f"{vault} is ")
        assert failed(told) == {}
        assert list(told)[-5:] == ["account", "vault", "money", "budget", "dead_man"]
        wrong = failed(found(settings(tmp_path, venue.url, MMPI_VENUE__VAULT=nobody)))
    assert wrong["vault"].startswith(f"venue.vault: {nobody} is missing at the venue; allowed: a vault or")


# The command ------------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a finding, or one JSON object; the exit code says whether anything failed."""
    write_keys(tmp_path / "keys")
    with info_server() as venue:
        for name, value in box_environ(tmp_path, venue.url).items():
            monkeypatch.setenv(name, value)
        assert main(["check", "--online"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[1].removesuffix(":") for line in lines] == ALL
        (tmp_path / "keys" / "account").unlink()
        assert main(["check", "--online", "--json"]) == 2
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    told = json.loads(out)
    assert told["ok"] is False
    assert [list(each) for each in told["findings"]] == [["check", "level", "text"]] * len(told["findings"])
    assert {each["check"] for each in told["findings"] if each["level"] == "FAIL"} == {"secrets"}


def test_a_bad_configuration_is_not_taken_online(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the plain check refuses is refused first, and nobody is asked."""
    with info_server() as venue:
        for name, value in (box_environ(tmp_path, venue.url) | {"MMPI_RISK__CAPITAL": "-1"}).items():
            monkeypatch.setenv(name, value)
        assert main(["check", "--online"]) == 2
        assert venue.asked == []
    assert "risk.capital" in capsys.readouterr().err


@pytest.mark.slow
def test_processes(tmp_path: Path) -> None:
    """`mmpi check --online` at `mmpi practice hyperliquid`: all is told, nothing fails; without the server it is 4."""
    with Stack(tmp_path) as stack:
        stack.start_server()
        done = stack.mmpi("check", "--online", "--json")
        told = json.loads(done.stdout)
        assert (done.returncode, told["ok"]) == (0, True), told
        assert {each["check"] for each in told["findings"]} == set(ALL)
        assert stack.orders() == []
        stack.server.end()
        gone = stack.mmpi("check", "--online")
        assert gone.returncode == 4
        assert "FAIL  venue: ws://127.0.0.1" in gone.stdout
