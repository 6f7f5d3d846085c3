"""What the journal writes to a disk in an hour: a paper quoter at 50 messages a second, its state on ext4 of its own.

    .venv/bin/python bench/journal_bytes.py --seconds 600        (root: it makes a loop device and mounts it)

The device's own write counter is read, so that the file system's part is in it. Prints one JSON object: bytes an hour
of steady quoting, and what a start and an end cost.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

MMPI = (sys.executable, "-m", "mmpi")
BOOK_MS = 45
"""Of two instruments: 44 books a second; trades make it about 50 messages."""
SETTLE_S = 40
"""ext4 commits every 5 s and the kernel writes back within 30."""


@contextmanager
def disk(megabytes: int = 2048) -> Iterator[tuple[Path, str]]:
    """Return a folder on a fresh ext4 file system with its usual options, and the name of its device."""
    with tempfile.TemporaryDirectory(prefix="mmpi-bytes-") as place:
        image, mount = Path(place) / "disk.img", Path(place) / "disk"
        mount.mkdir()
        with image.open("wb") as file:
            file.truncate(megabytes * 2**20)
        subprocess.run(["mkfs.ext4", "-q", "-b", "4096", str(image)], check=True)
        device = subprocess.run(
            ["losetup", "-f", "--show", str(image)], check=True, capture_output=True, text=True
        ).stdout.strip()
        try:
            subprocess.run(["mount", device, str(mount)], check=True)
            try:
                yield mount, device.removeprefix("/dev/")
            finally:
                subprocess.run(["umount", str(mount)], check=True)
        finally:
            subprocess.run(["losetup", "-d", device], check=True)


def written(device: str) -> int:
    """Return the bytes written to a device so far (block/stat, kernel documentation: sectors of 512 bytes)."""
    return int(Path(f"/sys/block/{device}/stat").read_text().split()[6]) * 512


def measure(folder: Path, device: str, seconds: float, more: Mapping[str, str]) -> dict[str, float]:
    """Return what a run wrote."""
    runtime = tempfile.mkdtemp(prefix="mmpi-bytes-", dir="/dev/shm")
    env = {key: value for key, value in os.environ.items() if not key.startswith("MMPI_")} | {
        "MMPI_PATHS__STATE_DIR": str(folder / "state"),
        "MMPI_PATHS__RUNTIME_DIR": runtime,
        "MMPI_MARKET__BOOK_INTERVAL_MS": str(BOOK_MS),
        **more,
    }
    subprocess.run([*MMPI, "arm"], env=env, check=True, capture_output=True)
    os.sync()
    time.sleep(SETTLE_S)
    begin = written(device)
    quoter = subprocess.Popen([*MMPI, "run", "--json"], env=env, stdout=subprocess.PIPE)
    time.sleep(SETTLE_S)
    steady, since = written(device), time.monotonic()
    time.sleep(seconds)
    end, took = written(device), time.monotonic() - since
    quoter.send_signal(signal.SIGTERM)
    summary = json.loads(quoter.communicate(timeout=30)[0])
    os.sync()
    time.sleep(SETTLE_S)
    return {
        "bytes_per_hour": round((end - steady) * 3600 / took),
        "seconds": round(took, 1),
        "start_bytes": steady - begin,
        "end_bytes": written(device) - end,
        "commits": summary["storage"]["commits"],
        "ledger_bytes": summary["storage"]["ledger_bytes"],
        "messages_per_s": round(summary["events"] / (took + SETTLE_S), 1),
        "fills": summary["fills"],
        "worst_commit_ms": summary["storage"]["worst_commit_ms"],
    }


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="environment of the quoter")
    args = parser.parse_args()
    with disk() as (folder, device):
        print(json.dumps(measure(folder, device, args.seconds, dict(each.split("=", 1) for each in args.set))))


if __name__ == "__main__":
    main()
