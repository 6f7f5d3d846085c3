"""The rig for power cuts: it misses no kept promise and finds a broken one, and its troubles reach the writer."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hil.disk_log import FLUSH, MARK, WRITE, DiskLog, LogWriter, Request
from hil.logged_disk import LoggedDisk, ServedDisk
from hil.mounts import ensure_disk_tools, ensure_mounts
from hil.power_cut import BLOCK, SECTOR, Replay, cuts, fsck, image_at, mounted
from hil.virtual_pi import VirtualPi
from image.archive import file
from image.debian import UnavailableError
from mmpi.device.durable import sync_folder

ROOT = Path(__file__).resolve().parents[1]
RECORDS = 24
SETTINGS: list[dict[str, Any]] = [
    {"keep": 0.5, "torn": "sectors"},
    {"keep": 0.0, "torn": "prefix"},
    {"keep": 1.0},
    {"keep": 0.5, "torn": "prefix"},
    {"keep": 0.8, "torn": "none"},
]
"""Beside keep=0, which every cut is looked at with."""
GUEST = """\
import mmap, os, sys
if sys.argv[1] == "direct":
    data = mmap.mmap(-1, 4096)
    data.write(sys.argv[3].encode() * 4096)
    fd = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    os.write(fd, data)
else:
    fd = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
    os.write(fd, sys.argv[3].encode() * 4096)
    try:
        os.fsync(fd)
    except OSError as error:
        sys.exit(error.errno)
"""


class Ledger(NamedTuple):
    """A way to write records one after the other into a file."""

    name: str
    sizes: tuple[int, ...]
    room: int = 0
    """Bytes written beforehand, so that a record changes no length and takes no new block."""

    def record(self, number: int) -> bytes:
        """Return a record, which tells at every byte whose it is."""
        return bytes([number + 1]) * self.sizes[number % len(self.sizes)]

    def until(self, number: int) -> bytes:
        """Return what the file begins with once that record is there."""
        return b"".join(self.record(each) for each in range(number + 1))

    def open(self, disk: LoggedDisk) -> int:
        """Return the descriptor of a new file whose name is safe."""
        fd = os.open(disk.path / self.name, os.O_WRONLY | os.O_CREAT)
        os.write(fd, bytes(self.room))
        os.fsync(fd)
        os.lseek(fd, 0, os.SEEK_SET)
        sync_folder(disk.path)
        return fd

    def write(self, disk: LoggedDisk, promised_early: bool = False) -> None:
        """Write all records, each promised when it is safe, or just before."""
        fd = self.open(disk)
        try:
            for number in range(RECORDS):
                os.write(fd, self.record(number))
                if promised_early:
                    disk.mark(str(number))
                os.fdatasync(fd)
                if not promised_early:
                    disk.mark(str(number))
        finally:
            os.close(fd)


APPENDED = Ledger("appended", (300, 4096, 20_000, 9000))
IN_PLACE = Ledger("in-place", (300, 5000, 40), room=RECORDS * 2048)


@pytest.fixture(scope="module")
def mounts() -> None:
    """Skip where this machine cannot mount the rig's disks."""
    try:
        ensure_mounts()
    except UnavailableError as error:
        pytest.skip(f"no disks to mount: {error}")


@pytest.fixture
def disk(mounts: None, tmp_path: Path) -> Iterator[LoggedDisk]:
    """Give a fresh disk."""
    del mounts
    with LoggedDisk(tmp_path / "disk") as each:
        yield each


def broken(disk: LoggedDisk, ledger: Ledger, folder: Path, settings: list[dict[str, Any]], step: int = 1) -> list[str]:
    """Return the cuts at which a promised record is not on the disk, each tried with the next of the settings."""
    found = []
    with DiskLog(disk.log) as log, Replay(log, disk.base, folder) as replay:
        for number, (cut, how) in enumerate(zip(cuts(log)[::step], cycle(settings))):
            with mounted(replay.image(cut.at, seed=number, **how)) as path:
                promised = ledger.until(int(log.marks(cut.at)[-1])) if log.marks(cut.at) else b""
                there = path / ledger.name
                if not (there.read_bytes() if there.exists() else b"").startswith(promised):
                    found.append(f"{cut.why}, {how}")
    return found


def left_of(folder: Path) -> list[str]:
    """Return the mounts, loop devices and processes that have to do with a folder."""
    loops = Path("/sys/block").glob("loop*/loop/backing_file")
    found = [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
    found += [text for loop in loops if str(folder) in (text := _text(loop))]
    for process in Path("/proc").glob("[0-9]*"):
        if process.name != str(os.getpid()) and str(folder) in (text := _text(process / "cmdline")):
            found.append(text)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def content(folder: Path, requests: list[Request], at: int | None = None, **how: Any) -> str:
    """Return what a disk of dots has on it after a cut: a letter for each sector, the number of the write's turn."""
    base = folder / "base"
    base.write_bytes(b"." * 4 * BLOCK)
    writer = LogWriter(folder / "log")
    for number, request in enumerate(requests):
        writer.add(request, b"%c" % (65 + number) * request.length if request.kind == WRITE else b"")
    writer.close()
    with DiskLog(folder / "log") as log:
        data = image_at(log, at, base, folder / "image", **how).read_bytes()
    sectors = [data[start : start + SECTOR] for start in range(0, len(data), SECTOR)]
    assert all(len(set(sector)) == 1 for sector in sectors)
    return "".join(chr(sector[0]) for sector in sectors)


def block(number: int, **more: Any) -> Request:
    """Return a write of one block."""
    return Request(WRITE, number * BLOCK, BLOCK, **more)


def test_an_honest_device_keeps_what_was_flushed(tmp_path: Path) -> None:
    """What a flush or forced access made safe stays at any cut; the rest is as much of it as one wants."""
    requests = [block(0), Request(FLUSH), block(0), block(1, fua=True), block(2), block(3, failed=True)]
    assert content(tmp_path, requests, keep=0) == "A" * 8 + "D" * 8 + "." * 16
    assert content(tmp_path, requests, keep=1) == "C" * 8 + "D" * 8 + "E" * 8 + "." * 8
    assert content(tmp_path, requests, 1, keep=0) == "." * 32
    refused = [block(0), Request(FLUSH, failed=True), block(1)]
    assert content(tmp_path, refused, keep=0) == "." * 32


def test_a_cut_takes_blocks_or_sectors_and_tears_one(tmp_path: Path) -> None:
    """Survivors are drawn by block or by sector; a torn block has its beginning only; one seed is one image."""
    requests = [Request(WRITE, 0, 4 * BLOCK)]
    images = [content(tmp_path, requests, keep=0.5, seed=seed) for seed in range(20)]
    assert {image[start : start + 8] for image in images for start in (0, 8, 16, 24)} == {"." * 8, "A" * 8}
    assert len(set(images)) > 5
    torn = content(tmp_path, requests, keep=0.5, torn="sectors")
    assert len({torn[start : start + 8] for start in (0, 8, 16, 24)}) == 4
    assert torn == content(tmp_path, requests, keep=0.5, torn="sectors")
    for seed in range(20):
        image = content(tmp_path, requests, keep=0, torn="prefix", seed=seed)
        (start,) = {place // 8 * 8 for place, letter in enumerate(image) if letter == "A"}
        written = image[start : start + 8].rstrip(".")
        assert 0 < len(written) < 8
        assert set(written) == {"A"}


def test_a_write_under_way_at_the_cut_may_be_torn(tmp_path: Path) -> None:
    """The request after the cut was sent already, so some of it may be there, even of one with forced access."""
    image = content(tmp_path, [block(0), Request(FLUSH), block(0, fua=True)], 2, keep=0, torn="prefix")
    assert set(image[:8]) == {"A", "C"}
    assert image[:8] == "".join(sorted(image[:8], reverse=True))


def test_a_forgetful_device_has_lost_what_it_refused_to_flush(tmp_path: Path) -> None:
    """A later flush that goes well does not bring it back; an honest device has it then."""
    requests = [block(0), Request(FLUSH), block(1), Request(FLUSH, failed=True), block(2), Request(FLUSH)]
    assert content(tmp_path, requests, keep=0) == "A" * 8 + "C" * 8 + "E" * 8 + "." * 8
    assert content(tmp_path, requests, device="forgetful") == "A" * 8 + "." * 8 + "E" * 8 + "." * 8
    assert content(tmp_path, requests, 4, device="forgetful", keep=1) == "A" * 8 + "." * 24


def test_a_lying_device_loses_what_was_flushed(tmp_path: Path) -> None:
    """Without its cache it is as it was at some earlier moment."""
    requests = [block(0), Request(FLUSH), block(1), Request(FLUSH), block(2), Request(FLUSH)]
    images = {content(tmp_path, requests, keep=0, seed=seed, device="lying").replace(".", "") for seed in range(30)}
    assert images == {"", "A" * 8, "A" * 8 + "C" * 8, "A" * 8 + "C" * 8 + "E" * 8}


def test_cuts_stand_at_both_sides_of_a_flush(tmp_path: Path) -> None:
    """Each flush has a cut before and after it, a longer stretch one in its middle, and none comes after the end."""
    writer = LogWriter(tmp_path / "log")
    for kind in (WRITE, WRITE, FLUSH, FLUSH, WRITE, MARK, WRITE, FLUSH, WRITE, "cut", MARK):
        writer.add(Request(kind, label="given"))
    writer.close()
    log = DiskLog(tmp_path / "log")
    assert [cut.at for cut in cuts(log)] == [1, 2, 3, 4, 5, 7, 8, 9]
    assert [cut.why for cut in cuts(log)][1:4] == ["before a flush", "before a flush", "after a flush"]
    assert [len(log.marks(at)) for at in (5, 6, 9)] == [0, 1, 1]


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that cannot serve or mount disks says why in one sentence, to be skipped with."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="no apt-get here; install nbdkit nbdfuse .* by hand"):
        ensure_disk_tools()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UnavailableError, match="only root can mount a disk"):
        ensure_mounts()


@pytest.mark.slow
@pytest.mark.parametrize("ledger", [APPENDED, IN_PLACE], ids=lambda ledger: ledger.name)
def test_a_kept_promise_is_there_at_every_cut(disk: LoggedDisk, ledger: Ledger, tmp_path: Path) -> None:
    """Promised after fdatasync a record survives every cut, whatever else is left or torn, and the disk mounts."""
    ledger.write(disk)
    assert DiskLog(disk.log).marks() == [str(number) for number in range(RECORDS)]
    assert broken(disk, ledger, tmp_path, [{"keep": 0.0}]) == []
    assert broken(disk, ledger, tmp_path, SETTINGS) == []


@pytest.mark.slow
@pytest.mark.parametrize("ledger", [APPENDED, IN_PLACE], ids=lambda ledger: ledger.name)
def test_a_broken_promise_is_found(disk: LoggedDisk, ledger: Ledger, tmp_path: Path) -> None:
    """Promised before fdatasync most records can be lost, and a lying device loses even kept promises."""
    ledger.write(disk, promised_early=True)
    assert len(broken(disk, ledger, tmp_path, [{"keep": 0.0}])) > RECORDS // 2
    assert broken(disk, ledger, tmp_path, [{"keep": 0.0, "device": "lying"}], step=5) != []


@pytest.mark.slow
def test_the_file_system_is_whole_after_a_cut(disk: LoggedDisk, tmp_path: Path) -> None:
    """With the journal replayed e2fsck has nothing to complain of."""
    APPENDED.write(disk)
    with DiskLog(disk.log) as log, Replay(log, disk.base, tmp_path) as replay:
        for number, (cut, how) in enumerate(zip(cuts(log)[::6], cycle(SETTINGS))):
            assert fsck(replay.image(cut.at, seed=number, **how)) == []


@pytest.mark.slow
def test_the_log_has_what_the_kernel_says_it_wrote(disk: LoggedDisk) -> None:
    """Bytes by the block layer's statistics and bytes in the log are the same."""
    mounting = len(DiskLog(disk.log).requests)
    assert disk.bytes_written() == 0
    APPENDED.write(disk)
    subprocess.run(["sync", "--file-system", disk.path], check=True)
    written = disk.bytes_written()
    requests = DiskLog(disk.log).requests[mounting:]
    assert Counter(request.kind for request in requests).keys() == {WRITE, FLUSH, MARK}
    assert sum(request.length for request in requests) == written
    assert written > len(APPENDED.until(RECORDS - 1))


@pytest.mark.slow
def test_a_refused_flush_or_write_reaches_fdatasync(disk: LoggedDisk) -> None:
    """EIO of the device is EIO of fdatasync, at the first call after it."""
    fd = IN_PLACE.open(disk)
    for fail in (disk.fail_flushes, disk.fail_writes):
        os.write(fd, b"x")
        fail(True)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            os.fdatasync(fd)
        fail(False)
    os.close(fd)
    assert [(request.kind, request.failed) for request in DiskLog(disk.log).requests if request.failed] == [
        (FLUSH, True), (WRITE, True),
    ]  # fmt: skip


@pytest.mark.slow
def test_trying_a_refused_flush_again_is_found(disk: LoggedDisk, tmp_path: Path) -> None:
    """A writer that takes the second fdatasync's word after an error loses its record on a device that forgets."""
    fd = IN_PLACE.open(disk)
    os.write(fd, IN_PLACE.record(0))
    disk.fail_flushes(True)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        os.fdatasync(fd)
    disk.fail_flushes(False)
    os.fdatasync(fd)
    disk.mark("0")
    os.close(fd)
    assert broken(disk, IN_PLACE, tmp_path, [{"keep": 0.0}]) == []
    assert broken(disk, IN_PLACE, tmp_path, [{"keep": 0.0, "device": "forgetful"}]) != []


@pytest.mark.slow
def test_a_slow_flush_is_waited_for(disk: LoggedDisk) -> None:
    """fdatasync takes as long as the device does, and a flush is let go when the slowness is ended."""
    fd = IN_PLACE.open(disk)
    for seconds, given_up_s in ((0.5, 20.0), (60.0, 0.5)):
        os.write(fd, b"x")
        disk.slow_flush(seconds)
        timer = threading.Timer(given_up_s, disk.slow_flush, (0,))
        timer.start()
        start = time.monotonic()
        os.fdatasync(fd)
        assert 0.4 < time.monotonic() - start < 10
        timer.cancel()
        timer.join()
    os.close(fd)


@pytest.mark.slow
def test_after_a_cut_nothing_is_written(disk: LoggedDisk, tmp_path: Path) -> None:
    """All that comes after it fails, and the image is the one of the moment of the cut."""
    fd = IN_PLACE.open(disk)
    os.write(fd, IN_PLACE.record(0))
    os.fdatasync(fd)
    disk.cut()
    os.write(fd, IN_PLACE.record(1))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        os.fdatasync(fd)
    os.close(fd)
    with DiskLog(disk.log) as log, mounted(image_at(log, None, disk.base, tmp_path / "left")) as path:
        left = (path / IN_PLACE.name).read_bytes()
    assert left == IN_PLACE.record(0).ljust(IN_PLACE.room, b"\0")


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["pass", "disk.slow_flush(600)", "disk.fail_writes()", "disk.cut()"])
def test_a_killed_user_leaves_nothing(mounts: None, tmp_path: Path, trouble: str) -> None:
    """Mounts, loop devices and processes go when the process that made them is killed, in whatever trouble."""
    del mounts
    code = f"""
import time
from pathlib import Path
from hil.logged_disk import LoggedDisk
with LoggedDisk(Path({str(tmp_path)!r})) as disk:
    (disk.path / "unwritten").write_bytes(bytes(100_000))
    {trouble}
    print("up", flush=True)
    time.sleep(60)
"""
    place = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, env=place) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == b"up\n"
        assert len(left_of(tmp_path)) >= 5
        user.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while left_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left_of(tmp_path) == []


@pytest.mark.slow
def test_an_error_in_the_block_leaves_nothing(mounts: None, tmp_path: Path) -> None:
    """So they do when the block ends by an error, with a file left open in the mount."""
    del mounts
    with pytest.raises(RuntimeError), LoggedDisk(tmp_path) as disk, (disk.path / "busy").open("wb"):
        raise RuntimeError
    assert left_of(tmp_path) == []


def in_guest(*disks: ServedDisk) -> VirtualPi:
    """Return a guest with the disks, and a script to write on them."""
    return VirtualPi(files={"opt/write": file(GUEST)}, disks=[disk.socket for disk in disks])


@pytest.mark.slow
def test_a_guest_loses_at_a_cut_what_it_did_not_sync(tmp_path: Path) -> None:
    """A file that the virtual Pi synced is there after a cut; one that only reached the disk's cache need not be."""
    try:
        with ServedDisk(tmp_path / "first") as disk, in_guest(disk) as pi:
            assert pi.run("mkdir /mnt && mount -t ext4 -o commit=300 /dev/vda /mnt") == (0, "")
            for name in ("sent", "synced"):
                assert pi.run(f"python3 /opt/write sync /mnt/{name} o") == (0, "")
            assert pi.run("sync; python3 /opt/write sync /mnt/synced n") == (0, "")
            disk.mark("synced")
            assert pi.run("python3 /opt/write direct /mnt/sent n") == (0, "")
            disk.cut()
            assert pi.run("python3 /opt/write sync /mnt/late n 2>/dev/null")[0] == errno.EIO
    except UnavailableError as error:
        pytest.skip(f"no virtual Pi with a disk: {error}")
    with DiskLog(disk.log) as log:
        assert log.marks() == ["synced"]
        least = image_at(log, None, disk.base, tmp_path / "least", keep=0)
        most = image_at(log, None, disk.base, tmp_path / "most", keep=1)
    with (
        ServedDisk(tmp_path / "second", image=least) as least_disk,
        ServedDisk(tmp_path / "third", image=most) as most_disk,
        in_guest(least_disk, most_disk) as pi,
    ):
        for device, sent in (("vda", "o"), ("vdb", "n")):
            assert pi.run(f"mkdir -p /mnt/{device} && mount -t ext4 /dev/{device} /mnt/{device}") == (0, "")
            assert pi.run(f"cat /mnt/{device}/synced") == (0, "n" * 4096)
            assert pi.run(f"cat /mnt/{device}/sent") == (0, sent * 4096)
