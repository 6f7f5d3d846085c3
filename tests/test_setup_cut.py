"""A power cut at any moment of a set-up: the old settings or the new ones, never a mixture, and never a lost secret."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from setup_builders import LIVE, PLAIN, PRACTICE, SECRETS, WIFI, Box, Power, failed

from mmpi.device.latch import Latch

NEW_KEY = "5ec3e8" * 10 + "5ec3"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no real disk: what a sync is worth here, the builders' power says."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "sync", lambda: None)


def fresh(root: Path) -> Box:
    """Return a new box with everything in the folder."""
    return Box(root, mmpi__toml=PRACTICE, secrets__env=SECRETS, wifi__toml=WIFI, hostname="desk")


def changed(root: Path) -> Box:
    """Return a box that was set up, with other settings and one new key in the folder."""
    box = Box(root, mmpi__toml=PRACTICE, secrets__env=SECRETS, hostname="desk")
    assert box.run().outcome.ok
    box.put(mmpi__toml=LIVE, secrets__env=f"QUOTER_KEY={NEW_KEY}\n")
    box.fills = 0
    return box


def renewed(root: Path) -> Box:
    """Return a box that was set up, with one new key in the folder and nothing else."""
    box = changed(root)
    box.put(mmpi__toml=PRACTICE)
    return box


def state(box: Box) -> dict[str, Any]:
    """Return everything that lasts, but for times."""
    record = json.loads((box.data / "setup.json").read_text())
    result = [line for line in box.result().splitlines() if not line.startswith("Time")]
    latch = Latch(box.data / "mmpi" / "latch.json").load()
    return {
        "data": sorted(path.relative_to(box.data).as_posix() for path in box.data.rglob("*")),
        "folder": box.names(),
        "settings": box.settings(),
        "record": {key: value for key, value in record.items() if key != "at"},
        "result": result,
        "latch": (latch.latched, latch.by, latch.generation),
    }


@pytest.mark.parametrize(
    ("make", "forgets"), [(fresh, False), (fresh, True), (changed, False), (changed, True), (renewed, True)]
)
def test_a_cut_at_every_step(tmp_path: Path, make: Callable[[Path], Box], forgets: bool) -> None:
    """Cut at each write, sync, rename in turn and run again: as if there had been no cut; at no time half of it.

    `forgets`: the cut takes everything with it that no sync had confirmed; otherwise it takes nothing.
    """
    model = make(tmp_path / "model")
    old = model.settings()
    counting = Power()
    assert not failed(counting, model.run)
    wanted, new = state(model), model.settings()
    assert counting.done > 60
    for step in range(1, counting.done + 1):
        box = make(tmp_path / f"{step}")
        secrets = (box.folder / "secrets.env").read_bytes()
        assert failed(Power(step, forgets=forgets), box.run)
        now = box.settings()
        assert now in (old, new)
        path = box.folder / "secrets.env"
        if not path.exists() or path.read_bytes() != secrets:
            assert now == new
        ended = box.run()
        assert (ended.outcome.ok, ended.notes, state(box)) == (True, (), wanted), step
        assert box.run().outcome.applied == ()


@pytest.mark.slow
def test_two_cuts_in_a_row(tmp_path: Path) -> None:
    """A second cut, in the run that mends the first one, changes nothing of that."""
    model = fresh(tmp_path / "model")
    counting = Power()
    failed(counting, model.run)
    wanted = state(model)
    for step in range(1, counting.done + 1, 7):
        for again in range(1, counting.done - step + 8, 5):
            box = fresh(tmp_path / f"{step}-{again}")
            failed(Power(step, forgets=True), box.run)
            failed(Power(again, forgets=True), box.run)
            assert box.run().outcome.ok
            assert state(box) == wanted, (step, again)


def test_a_new_secret_after_a_cut_is_stored(tmp_path: Path) -> None:
    """Whoever puts other secrets into the folder after a cut in the middle of wiping loses none of them."""
    model = changed(tmp_path / "model")
    counting = Power()
    failed(counting, model.run)
    other = NEW_KEY.replace("8", "9")
    for step in range(1, counting.done + 1, 3):
        box = changed(tmp_path / f"{step}")
        failed(Power(step), box.run)
        box.put(secrets__env=f"QUOTER_KEY={other}\n")
        assert box.run().outcome.ok
        assert box.settings()["mmpi.quoter.key"] == f"0x{other}\n"
        assert "secrets.env" not in box.names()


def test_a_wrong_file_after_a_cut_keeps_a_whole_secret(tmp_path: Path) -> None:
    """If the folder is wrong after a cut, what is half-wiped is wiped, and what is whole stays for the person."""
    model = fresh(tmp_path / "model")
    counting = Power()
    failed(counting, model.run)
    whole = 0
    for step in range(1, counting.done + 1):
        box = fresh(tmp_path / f"{step}")
        failed(Power(step), box.run)
        box.put(hostname="-")
        assert not box.run().outcome.ok
        path = box.folder / "secrets.env"
        if path.exists():
            whole += 1
            assert path.read_text() == SECRETS
        else:
            assert PLAIN.items() <= box.settings().items()
    assert 0 < whole < counting.done


def test_a_reset_that_is_cut_goes_on(tmp_path: Path) -> None:
    """Cut at each step of a factory reset: the next run ends it, with the buttons released as well."""
    for by_file in (True, False):
        model = changed(tmp_path / f"model{by_file}")
        counting = Power()
        model.held = not by_file
        if by_file:
            model.put(**{"factory-reset": ""})
        assert not failed(counting, model.run)
        for step in range(1, counting.done + 1):
            box = changed(tmp_path / f"{by_file}{step}")
            box.held = not by_file
            if by_file:
                box.put(**{"factory-reset": ""})
            failed(Power(step, forgets=by_file), box.run)
            begun = (box.data / "factory-reset").exists()
            box.held = False
            if begun or (box.folder / "factory-reset").exists():
                assert box.run().restart
                assert list(box.data.iterdir()) == []
            assert "factory-reset" not in box.names()
