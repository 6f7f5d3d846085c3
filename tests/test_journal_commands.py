"""mmpi journal verify, cat, tail, stats, prune: what a careful person sees of a journal, whatever is in it."""

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import msgspec
import pytest
from journal_box import (
    PREFIX,
    START,
    JournalBox,
    LedgerMaker,
    Running,
    events,
    fill_entry,
    ran,
    run_entry,
    session,
)
from journals import flipped, records

from mmpi.commands import journal_places, journals
from mmpi.instrument import SECOND
from mmpi.journal.budget import ARCHIVE, Budget, DiskLimits
from mmpi.journal.cold import compress, segment_paths
from mmpi.journal.entries import CLEAN, KILLED, Ending
from mmpi.journal.ledger import Ledger
from mmpi.journal.ledger_file import LedgerFile
from mmpi.journal.record import FIXED_HEADER, RUN, SESSION, decode_header, encode_header, frame, header_length
from mmpi.journal.recovery import read_ledger

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> JournalBox:
    """Be in a box without a journal."""
    return JournalBox(tmp_path, monkeypatch, capfd)


def two_tiers(box: JournalBox) -> Running:
    """Give a box a journal in memory and a ledger; return the run in memory."""
    run = ran(box.memory)
    config = zlib.compress(b'{"device_id":"pi"}')
    LedgerMaker(box.ledger).run(START).config(START, "d" * 64, config).fill(START + 9 * SECOND).end(
        START + 20 * SECOND
    ).close()
    return run


def add_records(segment: Path, *pairs: tuple[int, bytes]) -> None:
    """Put records behind the last one of a segment."""
    data = segment.read_bytes()
    header = decode_header(data[: header_length(data[:FIXED_HEADER])])
    last = records(segment)[-1].number
    segment.write_bytes(data + b"".join(frame(header.marker, last + n, *pair) for n, pair in enumerate(pairs, 1)))


# verify -----------------------------------------------------------------------------------------------------------


def test_verify_looks_at_both_tiers(box: JournalBox) -> None:
    """Without PATH memory is on top, the ledger under its name, and --ledger shows that alone; people see labels."""
    run = two_tiers(box)
    found = box.journal("verify", "--json")
    content = found.json()
    assert (found.code, content["actions"], content["missing"], found.err) == (0, run.actions, [], "")
    assert content["ledger"]["kinds"] == {"session": 1, "commit": 4, "run": 1, "config": 1, "event": 1, "end": 1}
    assert box.journal("verify", "--ledger", "--json").json() == {"ledger": content["ledger"]}
    text = box.journal("verify").out
    assert f"memory {box.memory}: whole" in text
    assert f"ledger {box.ledger}: whole" in text


@pytest.mark.parametrize("missing", ["memory", "ledger"])
def test_a_tier_that_is_not_there(box: JournalBox, missing: str) -> None:
    """One tier alone is whole, and the other is said to be missing; without any it is exit 2 and one line for each."""
    none = box.journal("verify")
    assert (none.code, none.out, len(none.err.splitlines())) == (2, "", 2)
    if missing == "ledger":
        ran(box.memory)
    else:
        LedgerMaker(box.ledger).run(START).close()
    found = box.journal("verify", "--json")
    content = found.json()
    folder = getattr(box, missing)
    assert (found.code, content["missing"]) == (0, [f"{folder}: no such file or folder"])
    assert (content["segments"], content["ledger"] is None) == ((1, True) if missing == "ledger" else (0, False))
    assert f"missing: {folder}: no such file or folder" in box.journal("verify").out


def test_damage_in_the_ledger_is_damage(box: JournalBox) -> None:
    """A flipped bit in the middle of the ledger: exit 1, and stderr says in which tier."""
    two_tiers(box)
    segment = box.ledger / "00000001.mmj"
    place = next(record for record in records(segment) if record.name == "run")
    segment.write_bytes(flipped(segment.read_bytes(), 8 * (place.offset + 20)))
    found = box.journal("verify")
    assert found.code == 1
    assert found.err.startswith("mmpi journal: ledger: record ")
    assert f"ledger {box.ledger}: damaged" in found.out


def test_what_an_archive_leaves_out_is_no_damage(box: JournalBox) -> None:
    """Segments of two boots, some of them over the budget, are verified beside the ledger, each chain on its own."""
    budget = Budget(DiskLimits(10**9, 10**9, 0))
    box.ledger.mkdir(parents=True)
    for boot in range(2):
        memory = box.folder / f"boot{boot}"
        ran(memory, 60, START + boot * 3600 * SECOND, segment_bytes=4000)
        for path in segment_paths(memory):
            compress(path, durable=False)
        for path in [path for path in segment_paths(memory) if not path.name.startswith("00000002")]:
            budget.archive(path, box.ledger, 0.0)
    LedgerMaker(box.ledger).run(START).close()
    found = box.journal("verify", "--json")
    assert (found.code, found.json()["archive"]["damage"], found.err) == (0, [], "")
    assert found.json()["archive"]["segments"] == len(segment_paths(box.ledger / ARCHIVE)) > 4
    segment = segment_paths(box.ledger / ARCHIVE)[0]
    segment.write_bytes(flipped(segment.read_bytes(), 8 * 600))
    assert box.journal("verify").code == 1


def test_a_first_segment_that_was_being_made(box: JournalBox) -> None:
    """Memory whose only segment has half a header is torn, not damaged, and the ledger is looked at all the same."""
    segment = two_tiers(box).out._path
    segment.write_bytes(segment.read_bytes()[:100])
    found = box.journal("verify", "--json")
    assert (found.code, found.json()["damage"], found.json()["ledger"]["records"]) == (0, [], 9)
    assert "the header is cut off after 100 of" in found.json()["torn"][0]
    assert [list(line) for line in box.journal("tail").lines()] == [["torn"]]


def test_one_segment_hot_or_cold(box: JournalBox) -> None:
    """PATH may be one segment, compressed or not: the same counts."""
    segment = two_tiers(box).out._path
    hot = box.journal("verify", segment, "--json").json()
    compress(segment, durable=False)
    cold = box.journal("verify", f"{segment}.zst", "--json")
    assert (cold.code, cold.json()) == (0, hot)
    assert "ledger" not in hot


@pytest.mark.parametrize("command", ["verify", "cat", "tail", "stats"])
def test_ledger_and_path_at_once(box: JournalBox, command: str) -> None:
    """--ledger beside a folder is one clear error: the folder says already what is meant."""
    two_tiers(box)
    found = box.journal(command, "--ledger", box.memory)
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert found.err.startswith("mmpi journal: --ledger: allowed without PATH, or with a bundle as PATH; ")


@pytest.mark.parametrize("command", ["verify", "cat", "tail", "stats", "bundle", "prune", "export"])
def test_a_folder_that_may_not_be_read(box: JournalBox, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the rights do not let through is one line, with who may."""

    def refuse(_: object) -> int:
        raise PermissionError(13, "Permission denied", "/var/lib/mmpi")

    monkeypatch.setattr(journals, "command", lambda _: refuse)
    words = {"bundle": ["--around", "now"], "export": ["--parquet", box.folder / "x"]}.get(command, [])
    found = box.journal(command, *words)
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert found.err.startswith("mmpi journal: /var/lib/mmpi: Permission denied; root and members of the group mmpi ")


# cat --------------------------------------------------------------------------------------------------------------


def test_cat_opens_what_is_packed(box: JournalBox) -> None:
    """The session's state, the configuration and the checkpoint are objects, not base64; --kind picks."""
    two_tiers(box)
    lines = {line["kind"]: line["value"] for line in box.journal("cat", "--ledger").lines()}
    assert lines["session"]["state"]["began"] == START
    assert lines["config"]["text"] == {"device_id": "pi"}
    (first, last) = box.journal("cat", "--kind", "checkpoint").lines()
    assert first["value"]["engine_config"]["cl_ord_prefix"] == PREFIX
    assert isinstance(last["value"]["engine_state"], list)
    kinds = [line["kind"] for line in box.journal("cat", "--ledger", "--kind", "run", "--kind", "end").lines()]
    assert kinds == ["run", "end"]


def test_money_of_more_than_64_bits_stays_exact(box: JournalBox) -> None:
    """A state's numbers come out as they are in it."""
    LedgerMaker(box.ledger).run(START).commit(START, (SESSION, session(START, base=2**70 + 1))).close()
    assert str(2**70 + 1) in box.journal("cat", "--ledger", "--kind", "session").out


def test_cat_goes_on_behind_what_it_cannot_read(box: JournalBox) -> None:
    """A kind of a later version, a payload that is none, and packed text that is none: a line each, and the rest."""
    segment = ran(box.memory).out._path
    before = len(records(segment))
    timer = msgspec.msgpack.encode(["W", 5])
    add_records(segment, (99, msgspec.msgpack.encode([1, b"x"])), (2, b"\xc1"), (99, b"\xc1"), (6, timer), (2, timer))
    ended = box.journal("cat")
    lines = ended.lines()[before:]
    assert (ended.code, len(lines)) == (0, 5)
    assert (lines[0]["kind"], lines[0]["note"]) == ("99", "of a kind that this version does not know (99)")
    assert lines[0]["value"]["content"][0] == 1
    assert all("unreadable" in line for line in lines[1:4])
    assert lines[4]["value"]["recv_ts"] == 5


def test_a_later_versions_kind_has_its_name(box: JournalBox) -> None:
    """A kind that this version does not know is shown, and picked, by the name that its segment brings along."""
    segment = ran(box.memory).out._path
    data = segment.read_bytes()
    size = header_length(data[:FIXED_HEADER])
    header = decode_header(data[:size])
    told = msgspec.json.decode(zlib.decompress(header.description))
    told["kinds"]["99"] = ["weather", "[int]"]
    newer = msgspec.structs.replace(header, description=zlib.compress(msgspec.json.encode(told)))
    segment.write_bytes(encode_header(newer) + data[size:])
    add_records(segment, (99, msgspec.msgpack.encode([21, 3])))
    (line,) = box.journal("cat", "--kind", "weather").lines()
    assert (line["kind"], line["value"]) == ("weather", {"kind": "weather", "content": [21, 3]})


def test_a_kind_that_is_none(box: JournalBox) -> None:
    """A wrong name is an error that lists the right ones."""
    two_tiers(box)
    found = box.journal("cat", "--kind", "fils")
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith("mmpi journal: --kind 'fils': no kind of record; allowed: action, checkpoint, commit, ")


def test_cat_says_what_is_torn_and_damaged(box: JournalBox) -> None:
    """Torn tails and damage are lines among the others; with --kind they go to stderr, so that the lines are alike."""
    segment = ran(box.memory).out._path
    data = segment.read_bytes()
    place = [record for record in records(segment) if record.name == "event"][3]
    segment.write_bytes(flipped(data, 8 * (place.offset + 20))[:-3])
    notes = [line for line in box.journal("cat").lines() if "kind" not in line]
    assert [list(note) for note in notes] == [["damage"], ["torn"]]
    picked = box.journal("cat", "--kind", "action")
    assert all(line["kind"] == "action" for line in picked.lines())
    assert picked.err.count("mmpi journal: ") == 2


# tail -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 10, 150, 10_000])
def test_tail_is_the_end_of_cat(box: JournalBox, count: int) -> None:
    """The last N records, from as many segments as that takes, cold ones too."""
    ran(box.memory, 60, segment_bytes=4000)
    for path in segment_paths(box.memory)[:-2]:
        compress(path, durable=False)
    whole = box.journal("cat").out.splitlines()
    found = box.journal("tail", "-n", count)
    assert (found.code, found.out.splitlines()) == (0, whole[-count:] if count else [])
    if count == 10:
        assert box.journal("tail").out == found.out


def test_tail_of_nothing(box: JournalBox) -> None:
    """A journal that is not there is named; so is a number that is none."""
    found = box.journal("tail", "-f")
    assert (found.code, found.err) == (2, f"mmpi journal: {box.memory}: no such file or folder\n")
    assert "argument -n: -1 is not a whole number from 0 on" in box.journal("tail", "-n", "-1").err


class Tailing:
    """`mmpi journal tail -f` in a process of its own."""

    def __init__(self, box: JournalBox, *words: str) -> None:
        self.out = box.folder / "tail.out"
        with self.out.open("wb") as file:
            command = [sys.executable, "-m", "mmpi", "journal", "tail", "-f", *words]
            self.child = subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE, cwd=ROOT)

    def wait_for(self, text: str, seconds: float = 20.0) -> None:
        """Wait until it has printed this."""
        end = time.monotonic() + seconds
        while text not in self.out.read_text():
            assert time.monotonic() < end, self.out.read_text()[-2000:]
            assert self.child.poll() is None
            time.sleep(0.02)

    def end(self, number: int) -> tuple[int, bytes]:
        """Send a signal; return the exit code and what it said."""
        self.child.send_signal(number)
        assert self.child.stderr is not None
        said = self.child.stderr.read()
        self.child.stderr.close()
        return self.child.wait(10), said


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tail_follows(box: JournalBox, number: int) -> None:
    """Across rotations, compression and a new run all records come once; it hardly works, and ends when told to."""
    first = Running(box.memory, 4000).feed(events(3))
    tailing = Tailing(box, "-n", "100000")
    tailing.wait_for('"Reconciled"')
    first.feed(list(events(40, START + 10 * SECOND))[2:]).stopped()
    tailing.wait_for("clean stop")
    for path in segment_paths(box.memory)[:-1]:
        compress(path, durable=False)
    ran(box.memory, 5, START + 100 * SECOND)
    end = time.monotonic() + 20
    while tailing.out.read_text().count("clean stop") < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    before = Path(f"/proc/{tailing.child.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    time.sleep(1.0)
    after = Path(f"/proc/{tailing.child.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    ticks = sum(map(int, after)) - sum(map(int, before))
    assert tailing.end(number) == (0, b"")
    assert ticks / os.sysconf("SC_CLK_TCK") < 0.1
    # A segment's name is that of then.
    assert tailing.out.read_text().replace(".zst", "") == box.journal("cat").out.replace(".zst", "")


@pytest.mark.slow
def test_tail_ends_with_its_reader(box: JournalBox) -> None:
    """`tail -f | head -1` ends though nothing is added any more."""
    ran(box.memory)
    line = f"{sys.executable} -m mmpi journal tail -f | head -1"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, cwd=ROOT, timeout=20, check=False)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


# stats ------------------------------------------------------------------------------------------------------------


def test_stats_count_what_is_there(box: JournalBox) -> None:
    """Records and bytes by kind add up to the segments; time, commits, runs and how each ended are told."""
    run = ran(box.memory, 60, segment_bytes=4000)
    for path in segment_paths(box.memory)[:-1]:
        compress(path, durable=False)
    hour = 3600 * SECOND
    maker = LedgerMaker(box.ledger).run(START).fill(START + hour // 2, "1").fill(START + hour, "2")
    maker.run(START + 2 * hour, "0xb", KILLED).end(START + 3 * hour, "failed", "no such agent")
    maker.run(START + 4 * hour, "0xc", "failed").end(START + 5 * hour).close()
    content = box.journal("stats", "--json").json()
    memory, ledger = content["memory"], content["ledger"]
    assert memory["segments"] == memory["cold_segments"] + 1 == len(segment_paths(box.memory))
    assert memory["kinds"]["action"]["records"] == run.actions
    assert memory["record_bytes"] > sum(each["bytes"] for each in memory["kinds"].values()) > 4000
    assert memory["file_bytes"] == sum(path.stat().st_size for path in segment_paths(box.memory))
    assert (memory["first"], memory["last"]) == ("2026-11-28T20:54:00.000000000Z", "2026-11-28T20:55:00.000000000Z")
    assert memory["bytes_per_hour"] == pytest.approx(memory["record_bytes"] * 60, rel=0.001)
    assert memory["compression"] > 2
    assert (ledger["commits"], ledger["commits_per_hour"]) == (7, 1.4)
    told = [(each["cl_ord_prefix"], each["ended"], each["fills"], each["commits"]) for each in ledger["runs"]]
    assert told == [(PREFIX, KILLED, 2, 3), ("0xb", "failed", 0, 2), ("0xc", CLEAN, 0, 2)]
    assert ledger["runs"][0]["last"] == "2026-11-28T21:54:00.000000000Z"
    assert ledger["runs"][1]["reason"] == "no such agent"
    assert ledger["disk_free_bytes"] > 0
    text = box.journal("stats").out
    assert "  commits     7, 1.4 an hour\n" in text
    assert "failed: no such agent" in text


def test_stats_of_a_killed_run(box: JournalBox) -> None:
    """A run without an end, and none after it, has an end that nobody knows; torn tails and gaps are told."""
    LedgerMaker(box.ledger).run(START)
    segment = Running(box.memory).feed(events(5)).killed().out._path
    segment.write_bytes(segment.read_bytes()[:-2])
    content = box.journal("stats", "--json").json()
    assert [each["ended"] for each in content["ledger"]["runs"]] == ["unknown"]
    assert len(content["memory"]["torn"]) == 1
    only = box.journal("stats", box.memory, "--json").json()
    assert only == {"journal": only["journal"], "missing": []}
    assert only["journal"]["torn"] == content["memory"]["torn"]


# prune ------------------------------------------------------------------------------------------------------------


def aged_ledger(box: JournalBox) -> list[Path]:
    """Return the segments of a ledger and of its archive, a day apart, the newest of now."""
    maker = LedgerMaker(box.ledger, segment_bytes=16_384)
    maker.run(START)
    for number in range(14):
        maker.fill(START + number * SECOND, str(number))
    maker.close()
    archive = box.ledger / ARCHIVE
    ran(box.folder / "old", 40, segment_bytes=4000)
    archive.mkdir()
    for path in segment_paths(box.folder / "old"):
        path.rename(archive / path.name)
    paths = [*segment_paths(archive), *segment_paths(box.ledger)]
    for age, path in enumerate(reversed(paths)):
        os.utime(path, ns=(time.time_ns() - age * 86_400 * SECOND,) * 2)
    return paths


def test_prune_keeps_to_the_caps(box: JournalBox) -> None:
    """The archive goes first, the oldest before the newer; what goes and what stays is listed; --dry-run only says."""
    paths = aged_ledger(box)
    sizes = {path: path.stat().st_size for path in paths}
    least = sum(sizes[path] for path in segment_paths(box.ledger))
    words = ("prune", "--max-bytes", least, "--max-days", 0)
    dry = box.journal(*words, "--dry-run", "--json").json()
    assert all(path.exists() for path in paths)
    archived = [f"archive/{path.name}" for path in paths if path.parent.name == ARCHIVE]
    assert [each["name"] for each in dry["deleted"]] == archived
    done = box.journal(*words, "--json").json()
    assert {**dry, "dry_run": False} == done
    assert [path for path in paths if path.exists()] == segment_paths(box.ledger)
    assert done["bytes_after"] == least
    assert box.journal(*words).out.splitlines()[0].startswith("stays ")


def test_prune_never_takes_the_newest(box: JournalBox) -> None:
    """With caps of nothing the ledger's last segment stays, and is whole."""
    paths = aged_ledger(box)
    assert box.journal("prune", "--max-bytes", 0, "--max-days", 1).code == 0
    assert [path for path in paths if path.exists()] == paths[-1:]
    assert box.journal("verify", "--ledger").code == 0


def test_prune_by_the_configuration(box: JournalBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without options the caps are the configuration's; one option leaves the other to it."""
    aged_ledger(box)
    monkeypatch.setenv("MMPI_JOURNAL__DISK_MAX_DAYS", "2")
    found = box.journal("prune", "--dry-run", "--json").json()
    assert (found["max_bytes"], found["max_days"]) == (64 * 2**20, 2)
    assert len(found["kept"]) == 2
    assert box.journal("prune", "--dry-run", "--max-days", 0, "--json").json()["deleted"] == []


@pytest.mark.slow
def test_prune_beside_a_quoter(box: JournalBox) -> None:
    """While a ledger commits, rotates and compresses, pruning by hand deletes what is closed, and nothing else."""
    budget = Budget(DiskLimits(10**9, 10**9, 0))
    ledger = Ledger(box.ledger, commit_s=0.001, budget=budget, file=LedgerFile(box.ledger, segment_bytes=16_384))
    ledger.open(read_ledger(box.ledger), session(START), [(RUN, run_entry(PREFIX, START))])
    box.journal("prune", "--max-bytes", 0, "--max-days", 0)
    deleted, fills, end = 0, 0, time.monotonic() + 3
    while time.monotonic() < end:
        for _ in range(5):
            fills += 1
            ledger.keep_fill(fill_entry(START + fills * SECOND, str(fills)))
            time.sleep(0.002)
        found = box.journal("prune", "--max-bytes", 0, "--max-days", 0, "--json")
        assert (found.code, found.err) == (0, "")
        deleted += len(found.json()["deleted"])
    assert ledger.close(Ending(CLEAN), 10)
    assert deleted > 10
    assert ledger.status().fault == ""
    verified = box.journal("verify", "--ledger", "--json")
    assert (verified.code, verified.err, verified.json()["ledger"]["clean_stop"]) == (0, "", True)
    told = box.journal("cat", "--ledger").lines()
    last = [line["value"]["exec_id"] for line in told if line["kind"] == "event"]
    known = next(line["value"]["exec_ids"] for line in told if line["kind"] == "session")
    assert {*known, *last} == {str(number) for number in range(1, fills + 1)}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--max-bytes", "-1"], "argument --max-bytes: -1 is not a whole number from 0 on"),
        (["--max-days", "x"], "argument --max-days: 'x' is not a whole number from 0 on"),
        ([], "no such folder: no ledger has been kept yet"),
    ],
)
def test_prune_says_what_is_wrong(box: JournalBox, words: list[str], text: str) -> None:
    """A wrong number names the option and what is allowed; without a ledger the folder is named."""
    found = box.journal("prune", *words)
    assert (found.code, found.out) == (2, "")
    assert text in found.err


# replay -----------------------------------------------------------------------------------------------------------


def test_a_ledger_does_not_replay(box: JournalBox) -> None:
    """A ledger has no events, so to call it exact would say nothing: it is refused."""
    two_tiers(box)
    found = box("replay", "--verify", box.ledger)
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith(f"mmpi replay: {box.ledger}: a ledger, which holds no events; ")


def test_progress_is_for_terminals(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a line shows how far it is, and is wiped; with --json, or elsewhere, there is none."""
    monkeypatch.setattr(journal_places, "FIRST_S", 0.01)
    monkeypatch.setattr(journal_places, "EVERY_S", 0.01)
    for terminal, as_json in ((True, False), (True, True), (False, False)):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        args = type("Args", (), {"json": as_json, "command": "journal"})()
        with journal_places.Progress(args, "verify", 200) as progress:
            progress.moved(100)
            end = time.monotonic() + 5
            text = ""
            while terminal and not as_json and "50%" not in text and time.monotonic() < end:
                time.sleep(0.01)
                text += capfd.readouterr().err
        assert ("mmpi journal: verify 50%" in text) == (terminal and not as_json)
        assert capfd.readouterr().err.endswith("\r\x1b[K" if terminal and not as_json else "")


def test_json_is_one_line(box: JournalBox) -> None:
    """Each command that sums up prints exactly one object on one line."""
    two_tiers(box)
    bundle = ["bundle", "--around", START // SECOND, "--out", box.folder / "b.zip"]
    for words in (["verify"], ["stats"], ["prune"], bundle):
        found = box.journal(*words, "--json")
        assert (found.code, json.loads(found.out) == found.json()) == (0, True)
