"""image.wheel_set: what a host is given, for any Python and machine, whatever runs here."""

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from image.wheel_set import MACHINES, PYTHONS, ROOT, main
from image.wheels import locked

pytestmark = pytest.mark.slow


def made(folder: Path, python: str, machine: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest and the files of a set that is made now."""
    assert main(["--python", python, "--arch", machine, "--out", str(folder)]) == 0
    place = folder / f"cp{python.replace('.', '')}-{machine}"
    data = (place / "set.tar").read_bytes()
    manifest = json.loads((place / "manifest.json").read_text())
    assert manifest["sha256"] == hashlib.sha256(data).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return manifest, {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore[union-attr]


@pytest.mark.parametrize(("python", "machine"), [(PYTHONS[0], MACHINES[1]), (PYTHONS[-1], MACHINES[0])])
def test_a_set_is_whole_and_for_its_host_alone(tmp_path: Path, python: str, machine: str) -> None:
    """Every locked package is in it once, none for another machine or Python, and its lock file names these wheels."""
    manifest, files = made(tmp_path, python, machine)
    wheels = {path.partition("/")[2]: data for path, data in files.items() if path.startswith("wheels/")}
    names = {name.split("-")[0].replace("_", "-").lower() for name in wheels}
    assert names == (set(locked()) - {"setuptools"}) | {"mmpi"}
    for name in wheels:
        tags = name.removesuffix(".whl").split("-")[-3:]
        assert tags[2] == "any" or tags[2].endswith(machine), name
        assert tags[0] in (f"cp{python.replace('.', '')}", "py3", "py2.py3") or tags[1] == "abi3", name
    lines = files["requirements.txt"].decode().splitlines()
    assert sorted(line.rpartition(":")[2] for line in lines) == sorted(
        hashlib.sha256(data).hexdigest() for data in wheels.values()
    )
    assert (manifest["python"], manifest["machine"]) == (python, machine)


def test_the_same_inputs_give_the_same_set(tmp_path: Path) -> None:
    """Two runs give the same bytes, so that a host that has a set is not given it again."""
    first, second = (made(tmp_path / name, "3.13", "x86_64")[0]["id"] for name in ("one", "two"))
    assert first == second


def test_units_belong_where_the_script_puts_them(tmp_path: Path) -> None:
    """A host of Ansible's finds the same units in the same places as one of scripts/install-service."""
    manifest, files = made(tmp_path / "set", "3.13", "x86_64")
    command = tmp_path / "root" / "opt" / "mmpi"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    script = [str(ROOT / "scripts" / "install-service"), "--root", str(tmp_path / "root"), "--command", "/opt/mmpi"]
    subprocess.run([*script, "--pins", "--i2c"], check=True, capture_output=True)
    installed = {
        "/" + path.relative_to(tmp_path / "root").as_posix().replace("usr/lib/", "usr/local/lib/"): path.read_bytes()
        for path in (tmp_path / "root").rglob("*")
        if path.is_file() and not path.is_symlink() and path != command
    }
    links = dict(manifest["links"])
    for more in manifest["more_links"].values():
        links |= more
    del links["/usr/local/bin/mmpi"]
    assert {place: files[path] for place, path in links.items()} == installed


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, exit code 4, and nothing is written."""
    assert main(["--source", str(tmp_path), "--out", str(tmp_path / "out")]) == 4
    assert capsys.readouterr().err.endswith("allowed: a checkout of mmpi; there is no pyproject.toml\n")
    assert not (tmp_path / "out").exists()
