"""Power cuts: whatever a disk lost or tore of what was not flushed, the ledger's promises hold and the disk mounts."""

import os
import time
from pathlib import Path

import pytest
from cut_campaign import COMMIT_S, campaign

from hil.logged_disk import LoggedDisk
from image.debian import UnavailableError
from mmpi.events import ExecReport, ExecType
from mmpi.journal.budget import Budget, DiskLimits
from mmpi.journal.entries import CLEAN, FIRST, Ending, Run, Session
from mmpi.journal.ledger import Ledger
from mmpi.journal.record import BLOCK, RUN
from mmpi.journal.recovery import LedgerEnd

pytestmark = pytest.mark.slow

CUTS, GUESTS = 200, 5
COMMIT_BYTES = 19_000
"""Of a commit with a block of data, by the device's own counter; 257 in an hour (one in 14 s) are 4.9 MB."""


def test_cuts_around_every_flush(tmp_path: Path) -> None:
    """Just before and after each flush and between, with the rest lost, kept or torn: nothing promised is missing."""
    try:
        judged = campaign(tmp_path, CUTS)
    except UnavailableError as error:
        pytest.skip(f"no logged disk: {error}")
    assert judged.failures == []
    assert judged.cuts == CUTS and judged.lost > CUTS and COMMIT_S == 1.0


def test_cuts_in_a_guest(tmp_path: Path) -> None:
    """The same in an emulated Pi, with its own kernel's ext4 before and after."""
    from guest_cuts import guest_campaign

    try:
        judged = guest_campaign(tmp_path, GUESTS)
    except UnavailableError as error:
        pytest.skip(f"no virtual Pi with a disk: {error}")
    assert judged.failures == [] and judged.cuts == GUESTS


def test_what_a_commit_costs(tmp_path: Path) -> None:
    """The device counts the bytes of a commit: small enough for 5 MB an hour with a fill in every commit."""
    try:
        with LoggedDisk(tmp_path / "disk") as disk:
            out = Ledger(disk.path / "journal", commit_s=1000, budget=Budget(DiskLimits(2**30, 2**30, 0)))
            begin = Run("0x0", "s", "", "", "", 0, Ending(FIRST))
            out.open(LedgerEnd(sessions={}, repaired=[]), Session("s", "0x0", b"{}" * 400), [(RUN, begin)])
            commits, before = 6, 0
            for number in range(commits + 1):
                out.keep_fill(ExecReport(1, "A", 1, "0x1", "1", ExecType.TRADE, 1, 5, 1, exec_id=str(number)))
                out.keep_session(Session("s", "0x0", b"{}" * 400))
                out.urge()
                time.sleep(6)  # ext4 commits its own journal every 5 s
                if number == 0:
                    os.sync()
                    before = disk.bytes_written()
            cost = (disk.bytes_written() - before) / commits
            print(f"\na commit: {cost:.0f} bytes")
            assert out.close(Ending(CLEAN), 5)
    except UnavailableError as error:
        pytest.skip(f"no logged disk: {error}")
    assert BLOCK < cost <= COMMIT_BYTES
