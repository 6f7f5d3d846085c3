"""image.reproduce and image.tested: how builds are compared, what is kept of a difference, what counts as tested."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from image import reproduce, tested
from image.builder import _other_clock
from image.debian import UnavailableError
from image.reproduce import Build, different, keep, read
from image.stage import Stage, Stages, Work

STAGES = ("root", "image")
SUITE = '<testsuites><testsuite errors="{}" failures="{}" skipped="{}" tests="{}">{}</testsuite></testsuites>'
PROPERTY = '<property name="{}" value="{}"/>'


def tarred(**files: str) -> bytes:
    """Return a tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


def build(folder: Path, word: str = "same", extra: bool = False) -> Build:
    """Return a build of two stages, the first with an archive that has this word in it."""
    folders = {name: folder / name for name in STAGES}
    for path in folders.values():
        path.mkdir(parents=True)
    root = tarred(motd=f"hello\n{word}\n", other="x\n")
    (folders["root"] / "root.tar").write_bytes(root)
    if extra:
        (folders["root"] / "left").symlink_to("nowhere")
    digest = hashlib.sha256(root).hexdigest()
    (folders["image"] / "SHA256SUMS").write_text(f"{digest}  a.img\n")
    return read(folders)


def test_two_builds_that_are_the_same(tmp_path: Path) -> None:
    """Nothing differs, wherever they lie and whenever their files were made."""
    first, second = build(tmp_path / "1"), build(tmp_path / "2")
    os.utime(second.folders["root"] / "root.tar", (1, 1))
    assert different(first, second) == {}
    assert list(first.sums) == ["a.img"]


def test_every_file_of_every_stage_is_compared(tmp_path: Path) -> None:
    """One byte, one file too many, one link: each stage that differs is named, in the order in which they are made."""
    first, second = build(tmp_path / "1"), build(tmp_path / "2", word="s4me", extra=True)
    assert different(first, second) == {"root": ["left", "root.tar"], "image": ["SHA256SUMS"]}
    assert different(second, first) == different(first, second)


@pytest.mark.slow
def test_a_difference_is_kept_and_explained(tmp_path: Path) -> None:
    """Of the first stage that differs both forms are kept, and diffoscope names the line in the file in the archive."""
    try:
        reproduce.ensure("compare", "diffoscope")
    except UnavailableError as error:
        pytest.skip(str(error))
    first, second = build(tmp_path / "1"), build(tmp_path / "2", word="other")
    made = keep(first, second, tmp_path / "out")
    assert [path.name for path in made] == ["first", "second", "root.tar.diffoscope.txt"]
    assert (tmp_path / "out" / "second" / "root.tar").read_bytes() == tarred(motd="hello\nother\n", other="x\n")
    said = made[-1].read_text()
    assert "motd" in said and "-same" in said and "+other" in said


def test_a_tool_that_cannot_be_had_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a way to install anything the error says what to install by hand."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="no apt-get here; install faketime taskset by hand"):
        reproduce.ensure("clock", "faketime", "taskset")


def test_a_difference_is_one_without_diffoscope(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it cannot be had both forms are kept all the same, and why there is no report is said."""

    def missing(what: str, *programs: str) -> None:
        raise UnavailableError(f"no {programs[0]} for {what}")

    monkeypatch.setattr(reproduce, "ensure", missing)
    first, second = build(tmp_path / "1"), build(tmp_path / "2", word="other")
    assert [path.name for path in keep(first, second, tmp_path / "out")] == ["first", "second"]
    assert "no report of root.tar: no diffoscope for compare" in capsys.readouterr().err


def test_the_other_clock_is_for_tools_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is faked unless it is asked for, and the times of files never."""
    monkeypatch.delenv("MMPI_IMAGE_CLOCK", raising=False)
    assert _other_clock() == {}
    monkeypatch.setenv("MMPI_IMAGE_CLOCK", "+400d")
    assert _other_clock()["FAKETIME"] == "+400d" and _other_clock()["NO_FAKE_STAT"] == "1"


class Noting:
    """A project whose only stage is the image, with results of a test run."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made_of, self.folder, self.patch = b"1", folder, monkeypatch
        monkeypatch.setattr(tested, "NOTE", folder / "tested.json")
        monkeypatch.setattr(tested, "RESULTS", folder / "results.xml")
        monkeypatch.setattr(tested, "TESTS", folder)
        monkeypatch.setattr(tested, "cache", lambda: folder)
        for name in ("test_one", "test_two"):
            (folder / f"{name}.py").write_text(f"import pytest\n{tested.MARK}")
        (folder / "test_other.py").write_text("")

    def build(self) -> None:
        """Make the image."""
        self.patch.setattr(tested, "STAGES", (Stage("image", "", (), lambda: {"of": self.made_of}, self.make),))
        Stages(tested.STAGES, self.folder / "stages", self.folder, quiet=True).run("image")

    def make(self, work: Work) -> None:
        """Write what an image leaves."""
        (work.folder / "m.manifest.json").write_text(json.dumps({"sha256": "ab" * 32, "version": "1.2.3"}))

    def results(self, counts: tuple[int, int, int, int], file: str = "test_one", shortened: str = "") -> None:
        """Write JUnit's file: errors, failures, skipped, tests; the tests are of that file, and of this image."""
        key = Stages(tested.STAGES, self.folder, self.folder).key("image")
        cases = f'<testcase classname="tests.{file}"/>' * counts[3]
        said = PROPERTY.format("image", key) + PROPERTY.format("shortened", shortened)
        text = SUITE.format(*counts, f"<properties>{said}</properties>{cases}")
        (self.folder / "results.xml").write_text(text)


def test_what_was_tested_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once each file has passed, in one run or several, the same inputs are the tested ones; others are not."""
    project = Noting(tmp_path, monkeypatch)
    project.build()
    assert tested.main([]) == 1
    project.results((0, 0, 0, 2))
    assert (tested.main(["--write"]), tested.main([])) == (0, 1)
    assert "was not tested by test_two" in capsys.readouterr().out
    project.results((0, 0, 0, 3), "test_two")
    assert (tested.main(["--write"]), tested.main([])) == (0, 0)
    note = json.loads(tested.NOTE.read_text())
    assert (note["image"], note["passed"]) == ("ab" * 32, {"test_one": 2, "test_two": 3})
    capsys.readouterr()
    project.made_of = b"2"
    project.build()
    assert tested.main([]) == 1
    assert "tested was abababababababab of 1.2.3; what it is made from is different now" in capsys.readouterr().out
    project.results((0, 0, 0, 3), "test_two")
    assert (tested.main(["--write"]), tested.main([])) == (0, 1)
    assert json.loads(tested.NOTE.read_text())["passed"] == {"test_two": 3}


@pytest.mark.parametrize("counts", [(1, 0, 0, 9), (0, 1, 0, 9), (0, 0, 1, 9), (0, 0, 0, 0), None])
def test_what_did_not_pass_is_not_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: tuple[int, int, int, int] | None
) -> None:
    """An error, a failure, a skipped test, no test at all, no results: nothing is noted."""
    project = Noting(tmp_path, monkeypatch)
    project.build()
    if counts:
        project.results(counts)
    assert tested.main(["--write"]) == 4
    assert not tested.NOTE.exists()


@pytest.mark.parametrize("shortened", ["tests left out", "MMPI_IMAGE_CUTS"])
def test_a_part_of_a_file_is_not_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shortened: str) -> None:
    """A run of some tests, or of shorter ones, says nothing of the file."""
    project = Noting(tmp_path, monkeypatch)
    project.build()
    project.results((0, 0, 0, 2), shortened=shortened)
    assert tested.main(["--write"]) == 4
    assert not tested.NOTE.exists()


@pytest.mark.parametrize("built", [False, True])
def test_what_was_not_built_is_not_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: bool) -> None:
    """The checkout changed since the image was made or since it was tested: its hash would be another one's."""
    project = Noting(tmp_path, monkeypatch)
    project.build()
    project.results((0, 0, 0, 34))
    project.made_of = b"2"
    if built:
        project.build()
    assert tested.main(["--write"]) == 4
