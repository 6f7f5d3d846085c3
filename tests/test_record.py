"""mmpi record as people type it: what it writes, every way to end, and what a backtest makes of it."""

import gzip
import json
import os
import pty
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ended import Ended
from recording_builders import numbered
from runtime_builders import Practice, practice_thread
from stack import MMPI, ROOT, Process, rss_mb

from mmpi.cli import main
from mmpi.commands.record import base_url, chosen, coin_names
from mmpi.commands.record_words import Progress, Report, in_words
from mmpi.errors import ConfigError
from mmpi.instrument import SECOND
from mmpi.runtime import capture, venue_facts
from mmpi.runtime.board import lock
from mmpi.runtime.gzip_part import GzipPart
from mmpi.runtime.recording import GAP, file_name, recorded_files
from mmpi.runtime.venue_facts import VenueFacts
from mmpi.venues.hyperliquid.answers import AssetMeta, Meta, SpotMeta, SpotPair, SpotToken

pytestmark = pytest.mark.slow


Run = Callable[..., Ended]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Return what runs a command in this process."""

    def command(*argv: str | Path) -> Ended:
        capfd.readouterr()
        try:
            code = main([str(word) for word in argv])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        return Ended(code, *capfd.readouterr())

    return command


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[Practice]:
    """Give a practice server with one book."""
    with practice_thread(tmp_path) as served:
        yield served


def record(served: Practice, folder: Path, *more: str | Path, coins: str = "BTC") -> list[str]:
    """Return the words that record from a server."""
    url = f"http://127.0.0.1:{served.port}"
    words = ["record", "hyperliquid", "--coins", coins, "--out", folder, "--url", url, *more]
    return [str(word) for word in words]


def texts(folder: Path) -> list[str]:
    """Return the lines of a folder's finished files."""
    whole = b"".join(gzip.decompress(path.read_bytes()) for path in sorted(folder.glob("*.gz")))
    return whole.decode().splitlines()


# In this process -------------------------------------------------------------------------------------------------


def test_a_short_recording(run: Run, venue: Practice, tmp_path: Path) -> None:
    """One JSON object says what was recorded; the folder has it, and what it needs to be read."""
    folder = tmp_path / "deep" / "folder"
    report = run(*record(venue, folder, "--seconds", "0.2", "--json")).json()
    (path,) = recorded_files(folder)
    assert report == {
        "files": 1,
        "messages": len(texts(folder)) - 1,
        "bytes": path.stat().st_size,
        "gaps": 0,
        "coins": ["BTC"],
        "seconds": report["seconds"],
        "dropped": 0,
        "pruned": 0,
        "mended": 0,
        "ended": "seconds",
        "dir": str(folder),
    }
    assert 0.2 <= report["seconds"] < 5
    assert report["messages"] >= 1
    stamp, _, frame = texts(folder)[1].partition(" ")
    assert json.loads(frame)["channel"] == "l2Book"
    assert abs(int(stamp) - time.time_ns()) < 60 * SECOND
    about = json.loads((folder / "recording.json").read_text())
    assert about["instruments"]["BTC"]["tick_size"] == "0.1"
    assert (about["venue"], about["network"], about["url"]) == ("hyperliquid", "", f"http://127.0.0.1:{venue.port}")


def test_a_recording_in_words(run: Run, venue: Practice, tmp_path: Path) -> None:
    """Without --json people are told how to play it; nothing is said on the way where nobody looks."""
    ended = run(*record(venue, tmp_path / "r", "--seconds", "0.1"))
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"^recorded    \d+ messages of BTC in 0 s$", ended.out, re.M)
    assert f"mmpi backtest --data {tmp_path / 'r'} --instrument BTC" in ended.out


def test_a_second_run_goes_on_in_the_same_folder(run: Run, venue: Practice, tmp_path: Path) -> None:
    """Another run adds its files and coins, in any case, behind a mark; what was there stays."""
    folder = tmp_path / "r"
    run(*record(venue, folder, "--seconds", "0.1"))
    first = texts(folder)
    report = run(*record(venue, folder, "--seconds", "0.1", "--json", coins="eth")).json()
    assert report["coins"] == ["ETH"]
    assert texts(folder)[: len(first)] == first
    assert json.loads(texts(folder)[len(first)].partition(" ")[2])["channel"] == GAP
    assert list(json.loads((folder / "recording.json").read_text())["instruments"]) == ["BTC", "ETH"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--coins", "BTC,DOGE"], "--coins DOGE: the venue has no such market; it has 3: BTC, ETH, PURR/USDC"),
        (["--coins", "BTCC"], "--coins BTCC: the venue has no such market; of its 3 markets the nearest: BTC"),
        (["--coins", " , "], "--coins ' , ': no coin; allowed: names with commas between them, such as BTC,ETH"),
        (["--url", "127.0.0.1:8765"], "--url '127.0.0.1:8765': not an address; allowed: http(s)://host[:port]"),
        (["--prune"], "--prune: allowed only with --max-gb"),
        (["--max-gb", "0.1", "--prune"], "--max-gb 0.1 --rotate-mb 64: with --prune --max-gb must be at least twice"),
        (["--ca-file", "/none"], "--ca-file /none: allowed only with an https:// address, not http://127.0.0.1:"),
        (["--ca-file", "/none", "--url", "https://127.0.0.1:1"], "--ca-file /none: no certificates can be read"),
    ],
)
def test_what_cannot_be_recorded(run: Run, venue: Practice, tmp_path: Path, more: list[str], said: str) -> None:
    """Bad input is one line that names flag, value and what is allowed; nothing is recorded, and the code is 2."""
    ended = run(*record(venue, tmp_path / "r", "--seconds", "5"), *more)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"mmpi record: {said}")
    assert ended.err.count("\n") == 1
    assert not list(tmp_path.glob("r/*.gz*"))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["record"], "the following arguments are required: venue, --coins, --out"),
        (["record", "elsewhere", "--coins", "BTC", "--out", "x"], "invalid choice: 'elsewhere'"),
        (["record", "hyperliquid", "--coins", "BTC"], "required: --out"),
        (["record", "hyperliquid", "--coins", "BTC", "--out", ""], "argument --out: '' is empty; allowed: a folder"),
        (["record", "hyperliquid", "--coins", "BTC", "--out", "x", "--rotate-mb", "0"], "0 is not a number above 0"),
        (["record", "hyperliquid", "--coins", "BTC", "--out", "x", "--network", "devnet"], "invalid choice: 'devnet'"),
    ],
)
def test_bad_usage(run: Run, argv: list[str], said: str) -> None:
    """A command line that is no recording ends with 2 and says what is missing."""
    ended = run(*argv)
    assert ended.code == 2
    assert said in ended.err


def test_a_file_where_the_folder_should_be(run: Run, venue: Practice, tmp_path: Path) -> None:
    """No folder can be made over a file."""
    (tmp_path / "r").touch()
    ended = run(*record(venue, tmp_path / "r"))
    assert (ended.code, ended.err) == (2, f"mmpi record: --out {tmp_path / 'r'}: no folder can be here: File exists\n")


def test_a_folder_of_another_venue(run: Run, venue: Practice, tmp_path: Path) -> None:
    """One folder is one market: another server's messages are refused, and the folder stays as it is."""
    folder = tmp_path / "r"
    run(*record(venue, folder, "--seconds", "0.1"))
    before = texts(folder)
    ended = run(*record(venue, folder, "--seconds", "0.1", "--network", "testnet"))
    assert ended.code == 2
    assert f"--out {folder}: holds a recording of http://127.0.0.1" in ended.err
    assert texts(folder) == before


def test_one_recorder_to_a_folder(run: Run, venue: Practice, tmp_path: Path) -> None:
    """A second recorder would mend the first one's file away: it is refused, with the first one's number."""
    (tmp_path / "r").mkdir()
    held = lock(tmp_path / "r" / ".recorder.lock")
    ended = run(*record(venue, tmp_path / "r"))
    held.close()
    assert ended.code == 3
    assert ended.err == f"mmpi record: another recorder into {tmp_path / 'r'} is running (pid {os.getpid()})\n"


def test_a_clock_that_is_behind_the_files(run: Run, venue: Practice, tmp_path: Path) -> None:
    """A box that has forgotten the time does not write files that come before those that are there."""
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / file_name(time.time_ns() + 3600 * SECOND)).touch()
    ended = run(*record(venue, tmp_path / "r"))
    assert ended.code == 3
    assert re.search(r"the clock says \S+ \S+ UTC, but \S+ has files up to .*: set the clock, or record", ended.err)


def test_a_venue_that_is_away(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a first answer of the venue nothing begins: exit code 4 and the reason."""
    monkeypatch.setattr(venue_facts, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ended = run("record", "hyperliquid", "--coins", "BTC", "--out", tmp_path / "r", "--url", f"http://127.0.0.1:{port}")
    assert (ended.code, ended.out) == (4, "")
    assert re.search(r"no answer within 0\.1 s \(.*[Cc]onnect", ended.err)


def test_what_a_killed_recorder_left_is_mended(run: Run, venue: Practice, tmp_path: Path) -> None:
    """The next start makes an unfinished file whole, puts an unreadable one aside, and says both."""
    folder = tmp_path / "r"
    folder.mkdir()
    hour_ago = time.time_ns() - 3600 * SECOND
    part = GzipPart(folder / file_name(hour_ago))
    part.write(b"".join(numbered(0, 10)))
    part.flush()
    with part.part.open("ab") as file:
        file.write(b"torn")
    empty = folder / (file_name(hour_ago + SECOND) + ".part")
    empty.touch()
    ended = run(*record(venue, folder, "--seconds", "0.1", "--json"))
    assert ended.json()["mended"] == 2
    assert ended.err == (
        f"mmpi record: mended {part.part.name}: {part.path.name}, 4 bytes behind its last flush cut off\n"
        f"mmpi record: mended {empty.name}: no whole line in it; put aside as {empty.name}.unreadable\n"
    )
    assert texts(folder)[:10] == [text.decode().rstrip() for text in numbered(0, 10)]
    assert not list(folder.glob("*.part"))


def test_a_full_folder_ends_it(
    run: Run, venue: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At --max-gb it ends by itself, as asked, and says why."""
    monkeypatch.setattr(capture, "TICK_S", 0.02)
    report = run(*record(venue, tmp_path / "r", "--max-gb", "1e-9", "--json")).json()
    assert (report["ended"], report["files"]) == ("--max-gb is reached", 1)
    ended = run(*record(venue, tmp_path / "r", "--max-gb", "1e-9"))
    assert ended.code == 2
    assert "holds" in ended.err
    assert "allowed: more, another folder, or --prune" in ended.err


# Words ------------------------------------------------------------------------------------------------------------


def test_coins_by_their_names() -> None:
    """Spaces and repetitions do no harm; the venue's limit of subscriptions does."""
    assert coin_names("BTC, ETH ,BTC,") == ["BTC", "ETH"]
    assert len(coin_names(",".join(map(str, range(250))))) == 250
    with pytest.raises(ConfigError, match="--coins: 251 coins; allowed: at most 250"):
        coin_names(",".join(map(str, range(251))))


@pytest.mark.parametrize(
    ("url", "network", "found"),
    [
        ("", "", "https://api.hyperliquid.xyz"),
        ("", "testnet", "https://api.hyperliquid-testnet.xyz"),
        ("http://127.0.0.1:8765/", "", "http://127.0.0.1:8765"),
        ("https://[::1]", "mainnet", "https://[::1]"),
    ],
)
def test_addresses(url: str, network: str, found: str) -> None:
    """The network's own address where none is given; one that is given wins."""
    assert base_url(url, network) == found


@pytest.mark.parametrize(
    "url", ["x", "ws://a", "http://", "http://a/ws", "http://u:p@a", "http://a:0", "http://a:", "http://a:99999", "http://[a"]
)
def test_what_is_no_address(url: str) -> None:
    """A path, a password, another scheme, a port that cannot be: each is refused with an example."""
    with pytest.raises(ConfigError, match=r"--url '.*': not an address; allowed: http\(s\)://host\[:port\], such as"):
        base_url(url, "")


FACTS = VenueFacts(
    Meta([AssetMeta("BTC", 5), AssetMeta("kPEPE", 0), AssetMeta("OLD", 1, is_delisted=True)]),
    None,
    SpotMeta([SpotPair("@107", (1, 0), 107)], [SpotToken("USDC", 8, 0), SpotToken("HYPE", 2, 1)]),
)


def test_rules_of_coins() -> None:
    """Perpetuals and spot pairs are found by the venue's names, perpetuals in any case, each once."""
    markets = chosen(FACTS, ["btc", "BTC", "kpepe", "@107"])
    assert {name: (market.sz_decimals, market.tick_size) for name, market in markets.items()} == {
        "BTC": (5, "0.1"), "kPEPE": (0, "0.000001"), "@107": (2, "0.000001"),
    }  # fmt: skip
    assert (markets["@107"].base, markets["@107"].quote) == ("HYPE", "USDC")


def test_a_market_that_is_over() -> None:
    """A delisted coin has no streams: it is refused with that reason."""
    with pytest.raises(ConfigError, match="--coins OLD: the venue has delisted this market"):
        chosen(FACTS, ["OLD"])


def test_the_report_in_words() -> None:
    """What went wrong on the way is said, and nothing is said of what did not."""
    report = Report(2, 0, 5_000_000, 1, [], 3.0, 7, 4, 0, "asked to stop", "d")
    assert in_words(report).splitlines() == [
        "recorded    0 messages of nothing in 3 s",
        "files       2, 5.00 MB, in d",
        "gaps        1, 7 messages dropped",
        "ended       asked to stop; 4 older files deleted",
    ]


def test_the_line_on_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second it shows time, rate and totals, in place; in between it says nothing."""
    now = iter([100.0, 100.5, 4000.0])
    monkeypatch.setattr("mmpi.commands.record_words.time.monotonic", lambda: next(now))
    show = Progress()
    show(10, 1, 100, 0, 0)
    assert capsys.readouterr().err == ""
    show(39_010, 2, 12_345_678, 1, 3)
    assert capsys.readouterr().err == (
        "\r\x1b[Kmmpi record: 1:05:00  10 messages/s  39010 messages  2 files  12.35 MB  1 gaps  3 dropped"
    )


# Processes of their own -------------------------------------------------------------------------------------------


class Venue:
    """A practice server in a process of its own, on one port for life."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, 0
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("MMPI_")}
        self.env |= {"XDG_STATE_HOME": str(folder / "xdg"), "PYTHONUNBUFFERED": "1"}
        self.processes: list[Process] = []

    def start(self) -> None:
        """Start it, again on the port that it had."""
        self.server = self._start("server", "practice", "hyperliquid", "--port", str(self.port))
        wait(lambda: "listening on" in self.server.said(), "the server to listen")
        found = re.search(r"127\.0\.0\.1:(\d+)", self.server.said())
        assert found is not None
        self.port = int(found[1])

    def recorder(self, folder: Path, *more: str, coins: str = "BTC,ETH") -> Process:
        """Start a recorder."""
        url = f"http://127.0.0.1:{self.port}"
        words = ("record", "hyperliquid", "--coins", coins, "--out", str(folder), "--url", url, *more)
        return self._start("recorder", *words)

    def _start(self, name: str, *words: str) -> Process:
        process = Process(name, (*MMPI, *words), self.folder, self.env)
        self.processes.append(process)
        return process


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Venue]:
    """Give a practice server of its own, and end it with all that was started beside it."""
    served = Venue(tmp_path)
    try:
        served.start()
        yield served
    finally:
        for process in served.processes:
            process.end()


def wait(true: Callable[[], object], what: str, patience_s: float = 20.0) -> None:
    """Wait until it is true."""
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.02)


def backtest(folder: Path, coin: str = "BTC") -> dict[str, Any]:
    """Return the summary of a backtest of a folder."""
    command = (*MMPI, "backtest", "--data", str(folder), "--instrument", coin, "--json")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def lines_so_far(folder: Path) -> int:
    """Return how many bytes are there."""
    return sum(path.stat().st_size for path in recorded_files(folder)) if folder.is_dir() else 0


@pytest.mark.slow
def test_twenty_seconds_are_recorded_and_played(away: Venue, tmp_path: Path) -> None:
    """From the practice server through rotated files into a backtest of either coin: quotes are placed and filled."""
    folder = tmp_path / "r"
    recorder = away.recorder(folder, "--seconds", "20", "--rotate-minutes", "0.1", "--json")
    assert recorder.wait(40) == 0
    report = json.loads(recorder.said())
    assert report["files"] == len(list(folder.glob("*.gz"))) >= 3
    assert report["messages"] == sum(GAP not in text for text in texts(folder)) > 200
    assert (report["gaps"], report["dropped"], report["ended"]) == (0, 0, "seconds")
    books = sum('"l2Book"' in text for text in texts(folder))
    fills = 0
    for coin in ("BTC", "ETH"):
        summary = backtest(folder, coin)
        assert summary["orders"]["placed"] > 0
        assert summary["invariant_violations"] == 0
        assert summary["data"]["gaps"] == summary["data"]["torn_files"] == summary["data"]["off_tick"] == 0
        fills += summary["fills"]
    assert books > 100
    assert fills > 0


@pytest.mark.slow
def test_a_killed_recorder_loses_seconds_at_most(away: Venue, tmp_path: Path) -> None:
    """After SIGKILL the unfinished file can be played at once; the next start mends it and goes on behind a gap."""
    folder = tmp_path / "r"
    recorder = away.recorder(folder)
    time.sleep(6.0)
    killed = time.time_ns()
    recorder.send(signal.SIGKILL)
    recorder.wait(10)
    (part,) = folder.glob("*.part")
    before = backtest(folder)
    assert (before["data"]["torn_files"], before["data"]["gaps"]) == (1, 0)
    again = away.recorder(folder, "--seconds", "2", "--json")
    assert again.wait(20) == 0
    assert f"mended {part.name}" in again.said()
    assert not list(folder.glob("*.part"))
    after = backtest(folder)
    assert (after["data"]["torn_files"], after["data"]["gaps"]) == (0, 1)
    stamps = [int(text.partition(" ")[0]) for text in texts(folder) if GAP not in text]
    last = max(stamp for stamp in stamps if stamp < killed)
    # A flush every two seconds, a look every half, and the market's own pauses.
    assert killed - last < 4 * SECOND


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_it_is_told_to(away: Venue, tmp_path: Path, number: int) -> None:
    """SIGTERM and Ctrl-C finish the file and end with 0, soon."""
    folder = tmp_path / "r"
    recorder = away.recorder(folder, "--json")
    wait(lambda: lines_so_far(folder) > 100, "the first lines")
    began = recorder.send(number)
    assert recorder.wait(10) == 0
    assert time.monotonic_ns() - began < 3 * SECOND
    report = json.loads(recorder.said())
    assert (report["ended"], report["messages"]) == ("asked to stop", len(texts(folder)) - 1)
    assert not list(folder.glob("*.part"))


@pytest.mark.slow
def test_a_venue_that_goes_and_comes_back(away: Venue, tmp_path: Path) -> None:
    """The recorder connects again by itself; one gap is marked, counted and said."""
    folder = tmp_path / "r"
    recorder = away.recorder(folder, "--json")
    wait(lambda: lines_so_far(folder) > 100, "the first lines")
    away.server.end()
    wait(lambda: "the connection was lost" in recorder.said(), "the loss to be told")
    away.start()
    wait(lambda: "connected again after" in recorder.said(), "the connection")
    time.sleep(3.0)
    recorder.send(signal.SIGTERM)
    assert recorder.wait(10) == 0
    assert json.loads(recorder.said().splitlines()[-1])["gaps"] == 1
    assert backtest(folder)["data"]["gaps"] == 1


@pytest.mark.slow
def test_a_full_disk_is_one_error(away: Venue, tmp_path: Path) -> None:
    """Where the disk takes no more it ends with one line and code 3; what it took before is read, and mended later."""
    folder = tmp_path / "r"
    command = (*MMPI, "record", "hyperliquid", "--coins", "BTC,ETH", "--out", str(folder), "--json")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))  # noqa: E731
    done = subprocess.run(
        (*command, "--url", f"http://127.0.0.1:{away.port}"),
        cwd=ROOT, env=away.env, preexec_fn=limit, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert re.search(r"\.part: cannot be written: File too large; what was recorded before is safe", done.stderr)
    data = backtest(folder)["data"]
    assert data["torn_files"] == 1
    again = away.recorder(folder, "--seconds", "1", "--json")
    assert again.wait(20) == 0
    assert backtest(folder)["data"]["torn_files"] == 0


@pytest.mark.slow
def test_a_terminal_sees_how_it_goes(away: Venue, tmp_path: Path) -> None:
    """On a terminal a line is rewritten every second; with --json there is none."""
    for more, shown in (((), True), (("--json",), False)):
        terminal, end = pty.openpty()
        where = ("--out", str(tmp_path / "r"), "--url", f"http://127.0.0.1:{away.port}")
        words = ("record", "hyperliquid", "--coins", "BTC", *where, "--seconds", "2.5")
        child = subprocess.Popen((*MMPI, *words, *more), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=end)
        os.close(end)
        assert child.wait(20) == 0
        os.set_blocking(terminal, False)
        try:
            said = os.read(terminal, 100_000).decode()
        except OSError:
            said = ""
        os.close(terminal)
        assert (said.count("messages/s") >= 2) is shown, said


@pytest.mark.slow
def test_the_recorder_is_small(away: Venue, tmp_path: Path) -> None:
    """It loads no engine and no strategy, and fits a small box."""
    folder = tmp_path / "r"
    recorder = away.recorder(folder)
    wait(lambda: lines_so_far(folder) > 100, "the first lines")
    assert rss_mb(recorder.pid) < 45
    code = "import sys, mmpi.commands.record; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"mmpi.engine", "mmpi.quoting", "pydantic", "aiohttp"} & set(done.stdout.split()) == set()
    recorder.send(signal.SIGTERM)
    assert recorder.wait(10) == 0
