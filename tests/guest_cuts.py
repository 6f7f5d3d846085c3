"""Cuts in an emulated Pi: Debian's arm64 kernel with ext4 on a disk whose power goes, and a quoter on it.

One guest runs the quoter (paper, the generated market) while the disk's writes are logged; the power goes meanwhile.
Another guest is given what each cut left, mounts it, reads the ledger as a start does, and begins a run on it.
"""

import json
import random
import subprocess
import sys
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from cut_campaign import MKFS, SETTINGS, Judged, Promise

from hil.disk_log import DiskLog
from hil.logged_disk import ServedDisk
from hil.power_cut import VARIANTS, image_at
from hil.trixie import SITE
from hil.virtual_pi import VirtualPi
from image.archive import file

QUOTER = """
import json, sys, time
from pathlib import Path
from mmpi.device.latch import Latch
from mmpi.app import run_quoter
from mmpi.sections import load_resolved
from mmpi.settings import Settings
settings = load_resolved(Path(sys.argv[1]), Settings)
Latch(settings.paths.latch).arm("test", "a new box", time.time_ns())
run_quoter(settings, service=False)
"""
BOARD = """
import json
from pathlib import Path
from mmpi.runtime.board import StatusBoard
board = StatusBoard.open(Path("/run/mmpi/status"))
text = board.read() if board is not None else None
print("COMMITS", json.loads(text)["storage"]["commits"] if text else 0, json.loads(text)["fills"] if text else 0)
"""
READER = """
import json, sys
from pathlib import Path
from mmpi.device.latch import Latch
from mmpi.journal.budget import Budget, DiskLimits
from mmpi.journal.entries import Ending, Run
from mmpi.journal.ledger import Ledger
from mmpi.journal.record import RUN
from mmpi.journal.recovery import Memory, read_ledger, resumption
from mmpi.journal.survey import verify_journal
state, scope = Path(sys.argv[1]), "generated paper"
ledger = state / "journal"
end = read_ledger(ledger)
before = verify_journal(ledger)
found = resumption(end, Memory(), scope, 0)
out = Ledger(ledger, commit_s=1.0, budget=Budget(DiskLimits(2**30, 2**30, 0)))
out.open(end, end.sessions[scope].session, [(RUN, Run("0x0", scope, "", "", "", 0, Ending("first")))])
ended = out.close(Ending("clean"), 30)
after = verify_journal(ledger)
print("READ", json.dumps({
    "commits": end.commits, "damage": before.damage + after.damage, "ended": ended and after.clean_stop,
    "counted": found[1].state.fills + len(found[1].later), "fills": before.events,
    "latched": Latch(state / "latch.json").load().latched, "epoch": int((state / "epoch").read_text()),
}))
"""


def resolved(folder: Path) -> str:
    """Return the resolved configuration of the guest's box: it has no pydantic."""
    env = {"HOME": str(folder), "MMPI_PATHS__STATE_DIR": "/mnt/state", "MMPI_PATHS__RUNTIME_DIR": str(folder / "run")}
    command = [sys.executable, "-m", "mmpi", "check", "--resolve"]
    subprocess.run(command, env=env | SETTINGS, check=True, stdout=subprocess.DEVNULL)
    content = json.loads((folder / "run" / "config.json").read_text())
    content["paths"]["runtime_dir"] = "/run/mmpi"
    return json.dumps(content)


def guest_campaign(folder: Path, many: int, seed: int = 1, seconds: int = 20) -> Judged:
    """Return what so many cuts showed; UnavailableError if this machine cannot run a guest with a disk."""
    folder.mkdir(exist_ok=True)
    judged, dice = Judged(), random.Random(seed)
    files = {
        "opt/quoter.py": file(QUOTER),
        "opt/board.py": file(BOARD),
        "opt/read.py": file(READER),
        "etc/config.json": file(resolved(folder)),
        # What an installation leaves, and a copied checkout has not: the version stands in checkpoints.
        f"{SITE}/mmpi-{version('mmpi')}.dist-info/METADATA": file(f"Name: mmpi\nVersion: {version('mmpi')}\n"),
    }
    with ServedDisk(folder / "disk", mkfs=MKFS) as disk, VirtualPi(files=files, disks=[disk.socket]) as pi:
        assert pi.run("mkdir -p /mnt /run/mmpi && mount -t ext4 -o lazytime,noatime /dev/vda /mnt") == (0, "")
        assert pi.run("mkdir /mnt/state") == (0, "")
        pi.start("python3 /opt/quoter.py /etc/config.json 2>/run/quoter.log &")
        commits = fills = 0
        for _ in range(60):
            pi.run(f"sleep {seconds / 20}")
            commits, fills = _board(pi)
            disk.mark(msgspec.json.encode(Promise(commits, 0)).decode())
            if commits >= 6 and fills:
                break
        disk.cut()
        if not fills:
            judged.failures.append(f"no fills in the guest: {pi.run('cat /run/quoter.log')[1][-500:]}")
    with DiskLog(disk.log) as log:
        # From where on there is something to keep.
        begun = next(
            index for index, each in enumerate(log.requests)
            if each.label and msgspec.json.decode(each.label, type=Promise).commits
        )  # fmt: skip
        places = [None, *sorted(dice.randrange(begun + 1, len(log.requests)) for _ in range(many - 1))]
        cases = []
        for number, place in enumerate(places):
            told = log.marks(place)
            settings: dict[str, Any] = dict(VARIANTS[number % len(VARIANTS)]) | {"seed": number}
            image = image_at(log, place, disk.base, folder / f"cut{number}.img", **settings)
            cases.append((image, msgspec.json.decode(told[-1], type=Promise), f"guest, cut {place}, {settings}"))
    _read(folder, files, cases, judged)
    return judged


def _board(pi: VirtualPi) -> tuple[int, int]:
    _, said = pi.run("python3 /opt/board.py")
    found = [line.split()[1:] for line in said.splitlines() if line.startswith("COMMITS")]
    return (int(found[-1][0]), int(found[-1][1])) if found else (0, 0)


def _read(folder: Path, files: dict[str, Any], cases: list[tuple[Path, Promise, str]], judged: Judged) -> None:
    """Have a guest mount each disk and go on with it."""
    with ExitStack() as stack:
        disks = [
            stack.enter_context(ServedDisk(folder / f"again{number}", image=image))
            for number, (image, _, _) in enumerate(cases)
        ]
        pi = stack.enter_context(VirtualPi(files=files, disks=[disk.socket for disk in disks]))
        for number, (_, promised, where) in enumerate(cases):
            judged.cuts += 1
            place = f"/mnt/{number}"
            code, said = pi.run(f"mkdir -p {place} && mount -t ext4 /dev/vd{chr(97 + number)} {place}")
            if code:
                judged.failures.append(f"{where}: not mounted: {said[-300:]}")
                continue
            _, said = pi.run(f"python3 /opt/read.py {place}/state 2>&1")
            lines = [line[5:] for line in said.splitlines() if line.startswith("READ ")]
            if not lines:
                judged.failures.append(f"{where}: not read: {said[-500:]}")
                continue
            read = json.loads(lines[-1])
            if read["commits"] < promised.commits:
                judged.failures.append(f"{where}: {read['commits']} commits of {promised.commits} that were promised")
            if read["damage"] or not read["ended"] or read["latched"] or read["counted"] != read["fills"]:
                judged.failures.append(f"{where}: {read}")
