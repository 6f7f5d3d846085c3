"""Image cuts: the shipped image in an emulated machine whose power goes, again and again, on a disk with a lossy cache.

    .venv/bin/python -m tests.image_cuts --cuts 20 --folder campaign/image       (goes on where it was ended)

Each round boots the card as the last cut left it, judges what it finds, quotes, is latched or armed, and loses its
power. Where in the round's writes, and which of the last unflushed ones are lost, kept or torn, is drawn from the seed.
The first round is the first boot: growth of the data partition and set-up are cut like everything else. Exit 1 if a
promise was broken; the card as it was found then is kept.
"""

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent))

from image_box import arm, card_for, press, release, settle  # noqa: E402

from hil.disk_log import DiskLog  # noqa: E402
from hil.logged_disk import ServedDisk  # noqa: E402
from hil.power_cut import VARIANTS, image_at  # noqa: E402
from hil.rigs.card import Build, Card  # noqa: E402
from hil.rigs.virt import PINS, Key, Virt  # noqa: E402
from image.debian import UnavailableError  # noqa: E402

CONFIG = PINS + """
[market]
trades_per_s = 8
book_interval_ms = 200

[journal]
commit_s = 2

[risk]
max_fills_per_minute = 0
session_loss = 1000
max_drawdown = 1000
"""
ROUND_S = (5.0, 30.0)
NAME = "shelf"
"""In force from the second start on."""
FILLS = "mmpi journal cat --ledger --kind event --json"


class Promise(msgspec.Struct, frozen=True):
    """What the box had said for good when it stood in the log; "" or None = nothing certain."""

    name: str = ""
    machine: str = ""
    latched: bool | None = None
    fills: tuple[str, ...] = ()


class Campaign(msgspec.Struct):
    """How far it is: what is kept between rounds."""

    seed: int
    image: str
    """The key of what the image is made from: another one is another campaign."""
    done: int = 0
    promise: Promise = Promise()
    failures: list[str] = []
    told: list[str] = []
    """A line for each round."""


class Round:
    """One machine, from power on to the cut."""

    def __init__(self, box: Virt, disk: ServedDisk, dice: random.Random, before: Promise) -> None:
        self.box, self.disk, self.dice, self.before = box, disk, dice, before
        self.promise = before

    def judge(self) -> list[str]:
        """Return what was promised before, and is not so."""
        self.box.wait_up(600)
        settle(self.box)
        found = []
        if failed := self.box.check("systemctl --failed --no-legend").strip():
            found.append(f"failed units: {failed}")
        verified = json.loads(self.box.run("mmpi journal verify --json").stdout or b"{}")
        if verified.get("damage") != []:
            found.append(f"the journal: {verified}")
        now = self.now()
        if self.before.name and now.name != NAME:
            found.append(f"host name {now.name}, not {NAME}")
        if self.before.machine and now.machine != self.before.machine:
            found.append(f"machine id {now.machine}, not {self.before.machine}")
        if self.before.latched is not None and now.latched != self.before.latched:
            found.append(f"latched {now.latched}, not {self.before.latched}")
        if missing := set(self.before.fills) - set(now.fills):
            found.append(f"{len(missing)} of {len(self.before.fills)} fills are gone: {sorted(missing)[:3]}")
        boot = self.box.status()["guardian"]["boot"]
        if not boot["healthy"]:
            found.append(f"not healthy: {boot}")
        self.promise = now
        return found

    def now(self) -> Promise:
        """Return what the box says of itself."""
        said = self.box.check("hostname; cat /etc/machine-id").split()
        return Promise(said[0], said[1], self.box.status()["latch"] == "latched", self.fills())

    def fills(self) -> tuple[str, ...]:
        """Return the ids of the fills that the ledger has."""
        lines = (json.loads(line) for line in self.box.check(FILLS).splitlines())
        return tuple(sorted({line["value"]["exec_id"] for line in lines if line["value"].get("exec_id")}))

    def live(self) -> None:
        """Do what changes the state, and say in the disk's log what is promised by then."""
        self.mark()
        if self.dice.random() < 0.6:
            self.promise = msgspec.structs.replace(self.promise, latched=None)
            self.mark()
            latch = self.box.status()["latch"] != "latched"
            self.latch() if latch else arm(self.box)
            self.promise = msgspec.structs.replace(self.promise, latched=latch)
            self.mark()
        end = time.monotonic() + self.dice.uniform(*ROUND_S)
        while time.monotonic() < end:
            seen, commits = self.fills(), self.commits()
            while self.commits() <= commits and time.monotonic() < end:
                time.sleep(1)
            if self.commits() > commits:
                # What was read before a commit is in that commit, or in one before it.
                self.promise = msgspec.structs.replace(self.promise, fills=seen)
                self.mark()

    def latch(self) -> None:
        """Press the red button until the box says that it is latched."""
        press(self.box)
        release(self.box)

    def commits(self) -> int:
        """Return how often the ledger was committed."""
        return int(self.box.status()["storage"]["commits"])

    def mark(self) -> None:
        """Write the promise into the disk's log."""
        self.disk.mark(msgspec.json.encode(self.promise).decode())


def one(build: Build, key: Key, folder: Path, campaign: Campaign, card: Path) -> Path:
    """Go one round with the card's content in `card`; return what the cut left."""
    number = campaign.done
    dice = random.Random(f"{campaign.seed} {number}")
    place = folder / f"round{number}"
    shutil.rmtree(place, ignore_errors=True)
    flashed = Card(build, folder / "flashed.img")
    with ServedDisk(place, image=card) as disk, Virt(build, flashed, folder, key=key, disk=disk.socket) as box:
        turn = Round(box, disk, dice, campaign.promise)
        began = time.monotonic()
        try:
            found = turn.judge()
            turn.live()
        except (TimeoutError, AssertionError, SubprocessError, TypeError, KeyError, ValueError) as error:
            found = [f"{type(error).__name__}: {error}"[-3000:]]
        disk.cut()
        box.cut()
    variant: dict[str, Any] = dict(dice.choice(VARIANTS)) | {"seed": number}
    with DiskLog(disk.log) as log:
        at = None if dice.random() < 0.4 else dice.randrange(len(log.requests))
        left = image_at(log, at, disk.base, folder / f"card{number + 1}.img", **variant)
        told = log.marks(at)
        where = f"round {number}: cut at {at if at is not None else 'the end'} of {len(log.requests)}, {variant}"
    if told:
        campaign.promise = msgspec.json.decode(told[-1], type=Promise)
    took = time.monotonic() - began
    campaign.told.append(f"{where}; {len(campaign.promise.fills)} fills promised; {took:.0f} s")
    if found:
        campaign.failures += [f"{where}: {each}" for each in found]
        shutil.copyfile(card, folder / f"failed{number}.img")
    shutil.rmtree(place)
    campaign.done += 1
    return left


def run(folder: Path, cuts: int, seed: int, say: bool = True) -> Campaign:
    """Return the campaign after so many cuts altogether; it goes on where it stood in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    build, state = Build(), folder / "campaign.json"
    campaign, key = Campaign(seed, build.key("image")), Key(folder)
    before = msgspec.json.decode(state.read_bytes(), type=Campaign) if state.exists() else campaign
    if state.exists() and (before.seed, before.image) == (campaign.seed, campaign.image):
        campaign, card = before, folder / f"card{before.done}.img"
    else:
        card = card_for(build, key, folder, CONFIG).path.rename(folder / "card0.img")
    while campaign.done < cuts:
        found = one(build, key, folder, campaign, card)
        state.with_suffix(".new").write_bytes(msgspec.json.encode(campaign))
        state.with_suffix(".new").replace(state)
        card.unlink()
        card = found
        if say:
            print(f"image cuts: {campaign.told[-1]}", file=sys.stderr, flush=True)
    return campaign


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if every promise was kept, 1 if not, 4 if this machine cannot do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("campaign/image"), help="where it stands, and goes on")
    args = parser.parse_args(argv)
    try:
        campaign = run(args.folder, args.cuts, args.seed)
    except UnavailableError as error:
        print(f"image cuts: {error}", file=sys.stderr)
        return 4
    for failure in campaign.failures:
        print(f"image cuts: FAILED: {failure}")
    print(f"image cuts: {campaign.done} cuts, {len(campaign.failures)} failures, seed {campaign.seed}")
    return 1 if campaign.failures else 0


if __name__ == "__main__":
    sys.exit(main())
