"""mmpi journal bundle, mmpi replay of one: an incident in one file, without secrets, that replays anywhere."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from journal_box import PREFIX, START, Ended, JournalBox, LedgerMaker, Running, events, fill_entry, ran
from journals import flipped, largest_file, records
from runtime_builders import board_of

from mmpi.commands import journal_bundle
from mmpi.commands.journal_bundle import time_of
from mmpi.device.boot import BootRecord
from mmpi.device.latch import Latch
from mmpi.errors import ConfigError
from mmpi.instrument import SECOND
from mmpi.journal import bundle
from mmpi.journal.budget import Budget, DiskLimits
from mmpi.journal.cold import compress, segment_paths
from mmpi.journal.entries import FAILED, FIRST, KILLED, POWER
from mmpi.journal.record import EVENT
from mmpi.journal.spans import stamp
from mmpi.runtime.redact import HIDDEN, redacted, redacted_text

ROOT = Path(__file__).resolve().parents[1]
HOUR = 3600 * SECOND
KEY = "5ec3e7" * 10 + "5ec3"
ADDRESS = "0x" + "ab" * 20


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> JournalBox:
    """Be in a box without a journal."""
    return JournalBox(tmp_path, monkeypatch, capfd)


def make(box: JournalBox, around: object = "now", *words: object, out: str = "b.zip") -> Path:
    """Return a bundle."""
    path = box.folder / out
    found = box.journal("bundle", "--around", around, "--out", path, *words)
    assert (found.code, path.exists()) == (0, True), found
    return path


def manifest_of(path: Path) -> dict[str, Any]:
    """Return what a bundle says of itself."""
    with zipfile.ZipFile(path) as packed:
        found: dict[str, Any] = json.loads(packed.read("manifest.json"))
        assert {each["name"] for each in found["files"]} | {"manifest.json"} == set(packed.namelist())
    return found


def names(path: Path) -> list[str]:
    """Return the names of the segments in a bundle."""
    return sorted(each["name"] for each in manifest_of(path)["files"] if "place" in each)


def text_of(path: Path, name: str) -> str:
    """Return a text in a bundle."""
    with zipfile.ZipFile(path) as packed:
        return packed.read(name).decode()


def replayed(box: JournalBox, path: Path) -> Ended:
    """Return what replay says of a bundle."""
    return box("replay", "--verify", path, "--json")


def two_tiers(box: JournalBox, seconds: int = 60, segment_bytes: int = 4000) -> Running:
    """Give a box a journal in memory of some segments, and a ledger; return the run in memory."""
    run = ran(box.memory, seconds, segment_bytes=segment_bytes)
    LedgerMaker(box.ledger).run(START).fill(START + 9 * SECOND).end(START + seconds * SECOND).close()
    return run


# What is in it ----------------------------------------------------------------------------------------------------


def test_a_whole_box(box: JournalBox) -> None:
    """Both tiers, configuration, versions, machine, latch, boot and status are in it, with sizes, sums and times."""
    run = two_tiers(box)
    for path in segment_paths(box.memory)[:2]:
        compress(path, durable=False)
    Latch(box.state / "latch.json").trip("somebody", "smoke", START)
    BootRecord(box.state / "boot.json").remember(START)
    config = {"device_id": "pi-7", "digest": "d" * 64, "venue": {"vault": ADDRESS}}
    (box.runtime / "config.json").write_text(json.dumps(config))
    board_of(box.runtime / "status", os.getpid()).publish(b'{"state":"quoting"}')
    path = make(box, START // SECOND + 30)
    told = manifest_of(path)
    assert (told["format"], told["device_id"], told["missing"], told["redacted"]) == (1, "pi-7", [], [])
    assert path.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(path) as packed:
        for each in told["files"]:
            data = packed.read(each["name"])
            assert (len(data), bundle.hashlib.sha256(data).hexdigest()) == (each["bytes"], each["sha256"])
            if "place" in each:
                # As they were, to the byte.
                assert packed.getinfo(each["name"]).compress_type == zipfile.ZIP_STORED
                assert data == Path(each["source"]).read_bytes()
                assert each["first_ts"] <= each["last_ts"]
    texts = sorted(each["name"] for each in told["files"] if "place" not in each)
    assert texts == ["boot.json", "config.json", "host.json", "latch.json", "status.json", "versions.json"]
    assert len(names(path)) == len(segment_paths(box.memory)) + 1
    assert ADDRESS in text_of(path, "config.json")
    assert json.loads(text_of(path, "latch.json"))["reason"] == "smoke"
    assert json.loads(text_of(path, "status.json")) == {"state": "quoting"}
    host, versions = json.loads(text_of(path, "host.json")), json.loads(text_of(path, "versions.json"))
    assert host["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert host["disk_state"]["free_bytes"] > 0
    assert host["memory_kb"]["MemTotal"] > 0
    assert versions["mmpi"].startswith("0.1.0+")
    assert len(versions["lock"]["sha256"]) == 64
    found = replayed(box, path)
    assert (found.code, found.json()["exact"], found.json()["actions"]) == (0, True, run.actions)


def test_only_the_time_in_question(box: JournalBox) -> None:
    """Whole segments that touch the window, the first of them from before it: it replays from its start."""
    two_tiers(box, 200, 12_000)
    segments = segment_paths(box.memory)
    starts = [records(path)[1] for path in segments]
    times = [msgspec.msgpack.decode(record.payload)[1] for record in starts]
    assert len(segments) > 6
    around = times[3] + 1
    path = make(box, around, "--before", 0, "--after", 0)
    assert names(path) == ["ledger/00000001.mmj", "memory/00000004.mmj"]
    wider = make(box, around, "--before", (around - times[2]) / 1e9, "--after", (times[4] - around) / 1e9, out="w.zip")
    assert names(wider)[1:] == [f"memory/0000000{number}.mmj" for number in (2, 3, 4, 5)]
    for each in (path, wider):
        told = manifest_of(each)
        first = min(entry["first_ts"] for entry in told["files"] if entry.get("place") == "memory")
        assert first <= told["first_ts"] <= told["around_ts"] <= told["last_ts"]
        assert replayed(box, each).json()["exact"] is True


def test_a_segment_that_does_not_open_whole(box: JournalBox) -> None:
    """Where the opening state of the first segment is damaged, the one before it is taken, too, to begin with one."""
    two_tiers(box, 200, 12_000)
    segments = segment_paths(box.memory)
    opening = records(segments[3])[0]
    event = next(record for record in records(segments[3])[4:] if record.kind == EVENT)
    around = msgspec.msgpack.decode(event.payload)[1]
    segments[3].write_bytes(flipped(segments[3].read_bytes(), 8 * (opening.offset + 100)))
    path = make(box, around, "--before", 0, "--after", 0)
    assert names(path)[1:] == ["memory/00000003.mmj", "memory/00000004.mmj"]
    found = replayed(box, path)
    assert (found.code, found.json()["mismatch"], len(found.json()["damage"])) == (1, "", 1)


def test_what_a_ledger_was_told_late(box: JournalBox) -> None:
    """A fill that a failing disk took half an hour later is found by when it happened."""
    maker = LedgerMaker(box.ledger, segment_bytes=16_384).run(START)
    for number in range(8):
        fill = fill_entry(START + number * SECOND, str(number))
        maker.commit(START + HOUR // 2 + number * 60 * SECOND, (EVENT, fill))
    maker.end(START + HOUR).close()
    assert len(segment_paths(box.ledger)) > 2
    path = make(box, START // SECOND + 7, "--before", 0, "--after", 0)
    held = [record.segment for record in records(box.ledger) if record.kind == EVENT]
    assert f"ledger/{held[-1]}" in names(path)
    assert held[-1] != held[0]
    early = make(box, START // SECOND + 1, "--before", 0, "--after", 0, out="early.zip")
    assert len(names(early)) < len(names(path))


def test_what_was_rescued_and_archived(box: JournalBox) -> None:
    """Archives of two boots and a rescue are taken, each chain apart; what is there twice is taken once, and told."""
    budget = Budget(DiskLimits(10**9, 10**9, 0))
    box.ledger.mkdir(parents=True)
    actions = 0
    for boot in range(2):
        memory = box.folder / f"boot{boot}"
        run = ran(memory, 60, START + boot * HOUR, segment_bytes=6000)
        for path in segment_paths(memory):
            compress(path, durable=False)
        for path in segment_paths(memory):
            budget.archive(path, box.ledger, 0.0)
        actions += run.actions
    # A third boot: its journal is in memory, rescued while it was shorter, and its first segment archived, too.
    last = Running(box.memory, 6000).feed(events(40, START + 2 * HOUR))
    rescued = box.ledger / "rescued-20261128T225430Z"
    shutil.copytree(box.memory, rescued)
    (rescued / segment_paths(rescued)[-1].name).write_bytes(segment_paths(rescued)[-1].read_bytes()[:-5])
    last.feed(list(events(60, START + 2 * HOUR + 41 * SECOND))[2:]).stopped()
    shutil.copytree(box.memory, box.folder / "copy")
    first = segment_paths(box.memory)[0]
    compress(first, durable=False)
    budget.archive(Path(f"{first}.zst"), box.ledger, 0.0)
    LedgerMaker(box.ledger).run(START).close()
    path = make(box, START // SECOND + 3600, "--before", 10_000, "--after", 10_000)
    told = manifest_of(path)
    places = {name.partition("/")[0] for name in names(path)}
    assert places == {"archive-1", "archive-2", "memory", "ledger"}
    twice = [each for each in told["missing"] if each["why"] == "in this file already, from another place"]
    assert len(twice) == len(segment_paths(rescued)) + 1
    found = replayed(box, path)
    content = found.json()
    assert (found.code, content["actions"], content["damage"], content["torn"]) == (0, actions + last.actions, [], [])
    assert content["restarts"] == 2
    # Without memory, as after a power cut, the rescue takes its place, torn tail and all.
    shutil.rmtree(box.memory)
    after = make(box, START // SECOND + 3600, "--before", 10_000, "--after", 10_000, out="after.zip")
    assert any(name.startswith("rescued-20261128T225430Z/") for name in names(after))
    found = replayed(box, after)
    assert (found.code, len(found.json()["torn"]), found.json()["exact"]) == (0, 1, True)
    assert actions < found.json()["actions"] < actions + last.actions


def test_the_configuration_of_then(box: JournalBox) -> None:
    """Without config.json the ledger's last one counts; runs of that time with another one have theirs beside it."""
    ran(box.memory)
    maker = LedgerMaker(box.ledger)
    for number, name in enumerate(("old", "new")):
        at = START + number * 10 * SECOND
        text = json.dumps({"device_id": "pi", "name": name, "digest": str(number) * 64}).encode()
        maker.run(at, f"0x{number}", digest=str(number) * 64).config(at, str(number) * 64, zlib.compress(text))
    maker.run(START + 15 * SECOND, "0x2", digest="2" * 64)
    maker.close()
    path = make(box, START // SECOND + 11)
    told = manifest_of(path)
    assert json.loads(text_of(path, "config.json"))["name"] == "new"
    assert json.loads(text_of(path, f"config-{'0' * 16}.json"))["name"] == "old"
    assert told["device_id"] == "pi"
    (gone,) = [each for each in told["missing"] if each["what"] == f"config-{'2' * 16}.json"]
    assert gone["why"] == "a run of that time had this configuration; the ledger has no text"


def test_no_secret_leaves(box: JournalBox) -> None:
    """Keys and what is named like one are gone from every text; addresses and digests stay; the manifest tells."""
    two_tiers(box)
    planted = {
        "device_id": "pi", "account": ADDRESS, "digest": "d" * 64, "api_key": "hunter2",
        "deep": [{"ntfyToken": 12345, "note": f"signed with 0x{KEY} and password=hunter3", "keys": {"a": ["hunter4"]}}],
        "paths": {"secrets_dir": "/var/lib/mmpi/secrets"}, "fine": True,
    }  # fmt: skip
    (box.runtime / "config.json").write_text(json.dumps(planted))
    (box.state / "boot.json").write_text(f"not json; secret: hunter5\nKEY={KEY.upper()}\n")
    board_of(box.runtime / "status", os.getpid()).publish(json.dumps({"reason": f"refused: {KEY}"}).encode())
    path = make(box, START // SECOND)
    with zipfile.ZipFile(path) as packed:
        every = b"".join(packed.read(each) for each in packed.namelist() if not each.endswith(".mmj")).decode()
    assert KEY not in every.lower()
    assert "hunter" not in every
    assert "12345" not in every
    config = json.loads(text_of(path, "config.json"))
    assert (config["account"], config["digest"], config["fine"]) == (ADDRESS, "d" * 64, True)
    assert (config["api_key"], config["deep"][0]["ntfyToken"]) == (HIDDEN, HIDDEN)
    assert config["deep"][0]["keys"] == {"a": [HIDDEN]}
    assert config["paths"] == {"secrets_dir": "/var/lib/mmpi/secrets"}
    assert manifest_of(path)["redacted"] == ["config.json", "boot.json", "status.json"]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"0x{KEY}", HIDDEN),
        (f"a{KEY}{KEY}", HIDDEN),
        (f"digest is {KEY}.", f"digest is {HIDDEN}."),
        (ADDRESS, ADDRESS),
        (KEY[:63], KEY[:63]),
        ('token = "a b" rest', f"token = {HIDDEN} rest"),
        ("?apiKey=abc&x=1", f"?apiKey={HIDDEN}&x=1"),
        ("MY_SECRET_THING: abc", f"MY_SECRET_THING: {HIDDEN}"),
        ("nothing of that", "nothing of that"),
    ],
)
def test_what_looks_like_a_secret(text: str, clean: str) -> None:
    """64 hex digits or more, and what is named a key, secret, token or password; 40 digits are an address."""
    assert redacted_text(text) == clean
    assert redacted(text.encode()) == (clean.encode(), clean != text)
    assert json.loads(redacted(json.dumps({"digest": text}).encode())[0]) == {"digest": clean}


@pytest.mark.slow
@pytest.mark.parametrize("daemon", ["mmpi.app", "mmpi.guardian", "mmpi.commands.run", "mmpi.commands.guard"])
def test_the_daemons_carry_none_of_it(daemon: str) -> None:
    """No daemon loads what packs, exports or follows journals."""
    code = f"import sys, {daemon}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    ours = {f"mmpi.journal.{name}" for name in ("bundle", "bundle_writer", "follow", "readable", "runs", "spans")}
    ours |= {f"mmpi.runtime.{name}" for name in ("incident", "incident_facts", "redact", "host_facts")}
    assert loaded & (ours | {"pyarrow"}) == set()


# Which time -------------------------------------------------------------------------------------------------------

T = START + 123_456_789


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-28T20:54:00Z", START),
        ("2026-11-28T20:54:00", START),
        ("2026-11-28 21:54:00+01:00", START),
        ("20261128T205400Z", START),
        ("2026-11-28", START - 75_240 * SECOND),
        ("2026-11-28T20:54:00.123456789Z", T - 789),
        (stamp(T), T - 789),
        (str(START // SECOND), START),
        (f"{START // SECOND}.123456789", T),
        (str(T // 10**6), T // 10**6 * 10**6),
        (str(T // 1000), T // 1000 * 1000),
        (str(T), T),
        ("0", 0),
    ],
)
def test_times(text: str, time: int, capsys: pytest.CaptureFixture[str]) -> None:
    """ISO 8601 with and without zone, and seconds to nanoseconds since 1970; without a zone it says that it is UTC."""
    assert time_of(text) == time
    naive = text in ("2026-11-28T20:54:00", "2026-11-28")
    assert ("taken as UTC" in capsys.readouterr().err) == naive


@pytest.mark.parametrize("text", ["", "yesterday", "12:00", "-5", "1e9", "2026-13-01", "9" * 25, "٣", "0x10", "1.5.5"])
def test_times_that_are_none(text: str) -> None:
    """Each is refused with the option, the text and what is allowed."""
    with pytest.raises(ConfigError, match=r"--around '.*': .*; allowed: ISO 8601 .* now, or last-crash"):
        time_of(text)


def test_a_time_that_nothing_tells_of(box: JournalBox) -> None:
    """The error names what the journal covers."""
    two_tiers(box, seconds=60)
    found = box.journal("bundle", "--around", "2026-11-29T00:00:00Z", "--out", box.folder / "b.zip")
    assert (found.code, found.out, (box.folder / "b.zip").exists()) == (2, "", False)
    assert found.err == (
        "mmpi journal: --around 2026-11-29T00:00:00Z: no segment from 2026-11-28T23:50:00.000000000Z to "
        "2026-11-29T00:02:00.000000000Z; memory: it covers 2026-11-28T20:54:00.000000000Z to "
        "2026-11-28T20:55:00.000000000Z; ledger: it covers 2026-11-28T20:54:00.000000000Z to "
        "2026-11-28T20:55:00.000000000Z\n"
    )


@pytest.mark.parametrize(("how", "said"), [(KILLED, KILLED), (POWER, POWER), ("", KILLED), (FAILED, FAILED)])
def test_the_last_crash(box: JournalBox, how: str, said: str) -> None:
    """It is that of the last run with an unclean end, at the last event that is known of it."""
    maker = LedgerMaker(box.ledger).run(START - HOUR, "0x1").end(START - HOUR // 2)
    maker.run(START, PREFIX, FIRST)
    Running(box.memory).feed(events(30)).killed()
    at = START + 30 * SECOND
    if how == FAILED:
        maker.end(at + SECOND, FAILED, "no such agent")
        at += SECOND
    if how:
        maker.run(START + HOUR, "0x3", how).end(START + HOUR + SECOND)
    maker.close()
    path = box.folder / "b.zip"
    found = box.journal("bundle", "--around", "last-crash", "--out", path)
    assert found.err.startswith(f"mmpi journal: the last crash: {PREFIX} at {stamp(at)}, {said}")
    told = manifest_of(path)
    assert (told["around"], told["around_ts"]) == ("last-crash", at)
    assert "memory/00000001.mmj" in names(path)


def test_no_crash(box: JournalBox) -> None:
    """A ledger of clean ends, and one whose last run is going on, have no crash: exit 2."""
    two_tiers(box)
    found = box.journal("bundle", "--around", "last-crash")
    assert (found.code, found.out) == (2, "")
    assert f"1 run in the ledger ({box.ledger}), and none ended uncleanly" in found.err
    shutil.rmtree(box.ledger)
    LedgerMaker(box.ledger).run(START).close()
    board_of(box.runtime / "status", os.getpid()).publish(b"{}")
    assert box.journal("bundle", "--around", "last-crash").code == 2


# The file ---------------------------------------------------------------------------------------------------------


def test_the_name_of_the_file(box: JournalBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --out it is here, named by box and time."""
    two_tiers(box)
    (box.runtime / "config.json").write_text('{"device_id": "pi-7"}')
    monkeypatch.chdir(box.folder)
    found = box.journal("bundle", "--around", START, "--json").json()
    assert found["file"] == "mmpi-pi-7-2026-11-28T205400Z.zip"
    assert (box.folder / found["file"]).stat().st_size == found["bytes"]
    assert found["segments"] == {"memory": len(segment_paths(box.memory)), "ledger": 1}


def test_a_file_that_is_there_is_not_replaced(box: JournalBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """An existing file is refused, also if it appears while the bundle is made; no folder is made for it."""
    two_tiers(box)
    out = box.folder / "b.zip"
    out.write_text("mine")
    found = box.journal("bundle", "--around", START, "--out", out)
    assert (found.code, found.err) == (2, f"mmpi journal: --out {out}: exists; allowed: a new file\n")
    out.unlink()
    put = journal_bundle.put

    def meanwhile(*args: Any) -> Any:
        out.write_text("mine")
        return put(*args)

    monkeypatch.setattr(journal_bundle, "put", meanwhile)
    assert box.journal("bundle", "--around", START, "--out", out).code == 2
    assert out.read_text() == "mine"
    found = box.journal("bundle", "--around", START, "--out", box.folder / "none" / "b.zip")
    assert found.err == f"mmpi journal: --out {box.folder}/none/b.zip: cannot be made: No such file or directory\n"
    assert sorted(path.name for path in box.folder.iterdir()) == ["b.zip", "run", "state"]


def test_a_disk_that_is_full(box: JournalBox) -> None:
    """One error with the file, exit 3, and nothing is left."""
    two_tiers(box)
    with largest_file(20_000):
        found = box.journal("bundle", "--around", START, "--out", box.folder / "b.zip")
    assert (found.code, found.out, found.err.count("\n")) == (3, "", 1)
    assert found.err.startswith(f"mmpi journal: --out {box.folder}/b.zip: cannot be written: ")
    assert sorted(path.name for path in box.folder.iterdir()) == ["run", "state"]


def test_while_the_quoter_runs(box: JournalBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What grows, is compressed or deleted meanwhile: each segment is taken as it is then; what is gone is told."""
    running = Running(box.memory, 4000).feed(events(60))
    LedgerMaker(box.ledger).run(START)
    put = journal_bundle.put

    def meanwhile(*args: Any) -> Any:
        running.feed(list(events(10, START + 100 * SECOND))[2:])
        compress(segment_paths(box.memory)[1], durable=False)
        segment_paths(box.memory)[0].unlink()
        return put(*args)

    monkeypatch.setattr(journal_bundle, "put", meanwhile)
    path = make(box, START)
    running.killed()
    told = manifest_of(path)
    assert [each["what"] for each in told["missing"]][-1] == "memory/00000001.mmj"
    assert told["missing"][-1]["why"] == "deleted while the bundle was made"
    assert "memory/00000002.mmj.zst" in names(path)
    found = replayed(box, path)
    assert (found.code, found.json()["exact"]) == (0, True)


def test_a_torn_tail_is_fine(box: JournalBox) -> None:
    """The live segment with half a record at its end, and a segment whose header is being written."""
    running = Running(box.memory, 4000).feed(events(30)).killed()
    segment = running.out._path
    segment.write_bytes(segment.read_bytes()[:-2])
    (box.memory / f"{int(segment.stem) + 1:08d}.mmj").write_bytes(b"MMPI")
    path = make(box, START)
    assert len(names(path)) == len(segment_paths(box.memory))
    found = replayed(box, path)
    assert (found.code, found.json()["exact"], found.json()["damage"]) == (0, True, [])


def test_another_boxes_journal(box: JournalBox) -> None:
    """With PATH only that folder is taken, a ledger as one, and nothing of this box."""
    ran(box.folder / "theirs", segment_bytes=4000)
    (box.runtime).mkdir()
    (box.runtime / "config.json").write_text('{"device_id": "ours"}')
    path = make(box, START, box.folder / "theirs")
    told = manifest_of(path)
    assert (told["device_id"], [each["name"] for each in told["files"] if "place" not in each]) == (
        "unknown", ["versions.json"]
    )  # fmt: skip
    assert replayed(box, path).json()["exact"] is True
    LedgerMaker(box.folder / "ledger").run(START).close()
    ledger = make(box, START, box.folder / "ledger", out="l.zip")
    assert names(ledger) == ["ledger/00000001.mmj"]
    assert box("replay", ledger) == (
        2, "", f"mmpi replay: {ledger}: no journal of events in this bundle, and so nothing to replay\n"
    )  # fmt: skip
    for word in (path, box.folder / "none"):
        assert box.journal("bundle", "--around", START, word).code == 2


# Reading one ------------------------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any], dict[str, bytes]], None]


def rewritten(path: Path, change: Change, packing: int = zipfile.ZIP_STORED) -> Path:
    """Return the bundle with another manifest or other files."""
    with zipfile.ZipFile(path) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    manifest = json.loads(files.pop("manifest.json"))
    change(manifest, files)
    out = path.with_name("changed.zip")
    with zipfile.ZipFile(out, "w", packing) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
        packed.writestr("manifest.json", json.dumps(manifest))
    return out


def entry(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what a manifest says of a file."""
    found: dict[str, Any] = next(each for each in manifest["files"] if each["name"] == name)
    return found


SECOND_SEGMENT = "memory/00000002.mmj"


@pytest.mark.parametrize("which", ["flipped", "gone", "longer", "fact"])
def test_what_is_not_as_the_manifest_says(box: JournalBox, which: str) -> None:
    """A changed, missing or longer file is damage, by its name: exit 1 of replay and of verify."""
    two_tiers(box)
    name = "versions.json" if which == "fact" else SECOND_SEGMENT

    def change(_: dict[str, Any], files: dict[str, bytes]) -> None:
        if which == "gone":
            del files[name]
        elif which == "longer":
            files[name] += b"x"
        else:
            files[name] = flipped(files[name], 8 * (len(files[name]) // 2))

    path = rewritten(make(box, START), change)
    found, verified = replayed(box, path), box.journal("verify", path, "--json")
    assert (found.code, verified.code, found.json()["exact"]) == (1, 1, False)
    assert found.json()["damage"][0].startswith(f"{name}: ")
    assert verified.json()["damage"][0] == found.json()["damage"][0]
    assert f"mmpi journal: {found.json()['damage'][0]}\n" in verified.err


@pytest.mark.parametrize(
    "name", ["../evil/00000001.mmj", "/tmp/evil/00000001.mmj", "memory/../../x.mmj", "memory/x", "memory\\1.mmj", "a"]
)
def test_nothing_is_written_outside(box: JournalBox, name: str) -> None:
    """A segment's name that leads elsewhere, or is none: nothing is unpacked, exit 1."""
    two_tiers(box)

    def change(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
        files[name] = files.pop(SECOND_SEGMENT)
        entry(manifest, SECOND_SEGMENT)["name"] = name

    path = rewritten(make(box, START), change)
    before = sorted(box.folder.rglob("*"))
    found = replayed(box, path)
    assert (found.code, found.out) == (1, "")
    assert found.err == f"mmpi replay: {path}: {name!r}: not the name of a segment; nothing is unpacked\n"
    assert sorted(box.folder.rglob("*")) == before


def test_a_bomb(box: JournalBox) -> None:
    """A small file that says it holds much: packed zeros, one piece named often, a fact without end; none is read."""
    two_tiers(box)
    zeros = bytes(50 * 2**20)

    def packed(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
        files[SECOND_SEGMENT] = zeros
        entry(manifest, SECOND_SEGMENT).update(bytes=len(zeros), sha256=bundle.hashlib.sha256(zeros).hexdigest())

    def often(manifest: dict[str, Any], _: dict[str, bytes]) -> None:
        manifest["files"] += [entry(manifest, SECOND_SEGMENT)] * 1000

    def fact(manifest: dict[str, Any], _: dict[str, bytes]) -> None:
        entry(manifest, "versions.json")["bytes"] = 2**40

    good = make(box, START)
    for change in (packed, often, fact):
        path = rewritten(good, change, zipfile.ZIP_DEFLATED)
        found = replayed(box, path)
        assert (found.code, found.out) == (1, "")
        assert found.err.endswith("names more bytes than are in it; nothing is unpacked\n")


def test_no_bundle(box: JournalBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip of something else, of a later format, one that is cut off, one for which there is no room: one error."""
    two_tiers(box)
    good = make(box, START)
    other = box.folder / "other.zip"
    with zipfile.ZipFile(other, "w") as packed:
        packed.writestr("a", "b")
    nothing = f"mmpi replay: {other}: a zip file, but no bundle: there is no manifest.json in it\n"
    assert replayed(box, other) == (2, "", nothing)
    later = rewritten(good, lambda manifest, _: manifest.update(format=2))
    assert "of format 2; this version reads 'mmpi incident bundle' of format 1" in replayed(box, later).err
    strange = rewritten(good, lambda manifest, _: manifest.update(files=[{"name": 1}]))
    assert "manifest.json cannot be read: " in replayed(box, strange).err
    data = good.read_bytes()
    for size in range(4, len(data), len(data) // 20):
        other.write_bytes(data[:size])
        found = replayed(box, other)
        assert (found.code, found.out, found.err.count("\n")) == (1, "", 1)
    disk = shutil.disk_usage(box.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=1000))
    found = replayed(box, good)
    assert (found.code, "allowed: a folder with more room in TMPDIR" in found.err) == (2, True)


def test_every_flipped_byte(box: JournalBox) -> None:
    """A bundle with any byte changed never replays as exact, unless the byte is none of the content; no traceback."""
    ran(box.memory, 4)
    data = make(box, START).read_bytes()
    path = box.folder / "bad.zip"
    codes = set()
    for at in range(0, len(data), 211):
        path.write_bytes(flipped(data, 8 * at))
        found = replayed(box, path)
        codes.add(found.code)
        assert found.code in (0, 1, 2)
        assert "Traceback" not in found.err
    assert {0, 1} >= codes - {2}
    assert 1 in codes


def test_other_commands_read_bundles(box: JournalBox) -> None:
    """verify, cat, tail and stats take a bundle as they take folders; names say from which place; -f is refused."""
    run = two_tiers(box)
    path = make(box, START)
    here = Path(bundle.tempfile.gettempdir())
    before = set(here.glob("mmpi-bundle-*"))
    verified = box.journal("verify", path, "--json").json()
    ours = set(here.glob("mmpi-bundle-*")) - before
    assert (verified["actions"], verified["memory"]["actions"]) == (run.actions, run.actions)
    assert verified["ledger"]["kinds"]["run"] == 1
    lines = box.journal("cat", path).lines()
    assert len(lines) == len(records(box.memory))
    assert lines[0]["segment"] == "memory/00000001.mmj"
    assert box.journal("tail", "-n", 1, path).lines()[0]["value"] == "clean stop"
    assert [line["kind"] for line in box.journal("tail", "-n", 1, path, "--ledger").lines()] == ["end"]
    stats = box.journal("stats", path, "--json").json()
    assert stats["memory"]["kinds"]["action"]["records"] == run.actions
    assert stats["ledger"]["runs"][0]["ended"] == "clean"
    found = box.journal("tail", "-f", path)
    assert (found.code, "a bundle, to which nothing is added" in found.err) == (2, True)
    # Other tests unpack at the same time: nothing of ours is left once theirs are gone.
    until_gone = time.monotonic() + 20
    while left := [each for each in Path(bundle.tempfile.gettempdir()).glob("mmpi-bundle-*") if each in ours]:
        assert time.monotonic() < until_gone, left
