"""A planted key is nowhere but in its own file: not in what is written, shown, logged or raised, by real processes."""

import base64
import os
import resource
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runtime_builders import write_keys
from stack import MMPI, QUOTES, ROOT, Process, Stack

from mmpi.errors import ConfigError
from mmpi.runtime.secret_files import read_address, read_secret
from mmpi.venues.hyperliquid.signing import Signer, parse_key

pytestmark = pytest.mark.slow

PLANTED = bytes.fromhex("5ec3e7" * 10 + "5ec3")
"""A key that is easily found."""
COMMANDS = (
    ("status",), ("status", "--json"), ("check",), ("check", "--json"), ("check", "--resolve"), ("check", "--online"),
    ("check", "--online", "--json"), ("journal", "cat"), ("replay", "--verify"),
)  # fmt: skip


def spellings(key: bytes) -> list[bytes]:
    """Return every way in which a key might be written down, and the halves of its digits."""
    digits = key.hex()
    texts = [digits, digits[:32], digits[32:], str(int.from_bytes(key, "big")), base64.b64encode(key).decode()[:40]]
    return [key, key[::-1], *(text.encode() for text in texts), *(text.upper().encode() for text in texts[:3])]


def leaks(data: bytes, keys: list[bytes]) -> list[bytes]:
    """Return the spellings of keys that are in the data."""
    return [spelling for key in keys for spelling in spellings(key) if spelling in data]


def files(folder: Path, *but: Path) -> Iterator[Path]:
    """Return every file below a folder, outside some others."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return (path for path in found if not any(path.is_relative_to(other) for other in but))


def test_the_scan_finds_what_it_looks_for(tmp_path: Path) -> None:
    """Every spelling is found in the middle of other bytes, so that an empty result means something."""
    for spelling in spellings(PLANTED):
        (tmp_path / "some.log").write_bytes(b"x" + spelling + b"x")
        assert leaks(next(files(tmp_path)).read_bytes(), [PLANTED]) != []
    assert leaks(b"0x" + bytes(range(256)), [PLANTED]) == []


def test_a_practice_run_leaks_nothing(tmp_path: Path) -> None:
    """Server, guardian and quoter trade, are asked everything, pressed, and killed: no key is in any file or output."""
    said: dict[str, bytes] = {}
    with Stack(tmp_path) as stack:
        stack.start()
        keys = [parse_key((stack.secrets / name).read_text(), name) for name in ("quoter.key", "guardian.key")]
        stack.wait(lambda: stack.summary()["orders"]["placed"] > QUOTES, 30, "orders to move")
        for words in COMMANDS:
            done = stack.mmpi(*words)
            said[" ".join(words)] = done.stdout.encode() + done.stderr.encode()
            assert done.stdout, f"{words}: {done.stderr}"
        shutil.copytree(stack.runtime, tmp_path / "running", ignore=shutil.ignore_patterns("*.sock"))
        stack.press()
        for process in (stack.quoter, stack.guardian, stack.server):
            said[f"command line of {process.log.name}"] = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        stack.quoter.send(signal.SIGKILL)
        stack.guardian.send(signal.SIGTERM)
        stack.guardian.wait(10)
    written = {str(path.relative_to(tmp_path)): path.read_bytes() for path in files(tmp_path, stack.secrets)}
    for part in ("guardian.log", "quoter.log", "config.json", "run/journal/", "status", "latch.json", "running/"):
        assert any(part in name for name in written), sorted(written)
    assert sum(map(len, written.values())) > 100_000
    assert {name: found for name, data in (written | said).items() if (found := leaks(data, keys))} == {}


def spoilt(name: str, text: str, mode: int = 0o600) -> Callable[[Path], None]:
    """Return what puts a text into a file of secrets."""

    def spoil(keys: Path) -> None:
        (keys / name).write_text(text)
        (keys / name).chmod(mode)

    return spoil


MISTAKES = {
    "no agent": spoilt("quoter.key", PLANTED.hex()),
    "world-readable": spoilt("quoter.key", PLANTED.hex(), 0o644),
    "one digit too many": spoilt("quoter.key", PLANTED.hex() + "0"),
    "no digit": spoilt("quoter.key", PLANTED.hex()[:-1] + "x"),
    "two lines": spoilt("quoter.key", f"{PLANTED.hex()}\n{PLANTED.hex()}\n"),
    "a key for an account": spoilt("account", "0x" + PLANTED.hex()),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_leak_nothing(tmp_path: Path, mistake: str) -> None:
    """Whatever is wrong with the files of keys, no process that meets it tells the key: it ends with 2, and words."""
    with Stack(tmp_path) as stack:
        stack.start_server()
        MISTAKES[mistake](stack.secrets)
        shutil.copy(stack.secrets / "quoter.key", stack.secrets / "guardian.key")
        for words in (("check", "--online"), ("guardian",)):
            done = stack.mmpi(*words, timeout=30)
            assert done.returncode == 2, done.stderr
            assert leaks(done.stdout.encode() + done.stderr.encode(), [PLANTED]) == [], words
            assert "Traceback" not in done.stderr


def test_exceptions_and_representations_leak_nothing(tmp_path: Path) -> None:
    """A signer's text, and every exception about a key with its traceback, are without the key."""
    signer = Signer(PLANTED, mainnet=True)
    texts = [repr(signer), str(signer), f"{signer!r:>100}", repr([signer]), repr({"signer": signer})]
    folder = write_keys(tmp_path / "keys", quoter=PLANTED)
    path = folder / "quoter.key"
    for wrong in (lambda: parse_key(PLANTED.hex() + "0", "k"), lambda: read_address(path)):
        with pytest.raises(ConfigError) as caught:
            wrong()
        texts += [str(caught.value), "".join(traceback.format_exception(caught.value))]
    path.chmod(0o644)
    with pytest.raises(ConfigError) as caught:
        read_secret(path)
    texts.append("".join(traceback.format_exception(caught.value)))
    with pytest.raises(TypeError) as unsigned:
        signer.sign({"a": object()}, 1, None)
    texts.append("".join(traceback.format_exception(unsigned.value)))
    assert [leaks(text.encode(), [PLANTED]) for text in texts] == [[]] * len(texts)


def test_a_key_in_the_configuration_leaks_nothing(tmp_path: Path) -> None:
    """A key put into the configuration file, or the environment, is refused and not repeated."""
    key = "0x" + PLANTED.hex()
    file = tmp_path / "mmpi.toml"
    file.write_text(f'[secrets]\nquoter_key = "{key}"\n[venue]\nvault = "{key}"\n[device]\nid = "{key}"\n')
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MMPI_")}
    for more in ({"MMPI_CONFIG": str(file)}, {"MMPI_SECRETS__DIR": key}, {"MMPI_SECRETS__QUOTER_KEY": key}):
        for words in (("check",), ("check", "--json"), ("run",)):
            env = environ | {"HOME": str(tmp_path)} | more
            done = subprocess.run((*MMPI, *words), env=env, cwd=ROOT, capture_output=True, check=False)
            assert done.returncode == 2, (words, more, done.stderr)
            assert leaks(done.stdout + done.stderr, [PLANTED]) == [], words


def core_limit(process: Process) -> str:
    """Return the largest core file that the kernel would write of a process."""
    lines = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
    return next(line.split()[4] for line in lines if line.startswith("Max core file size"))


def test_who_has_a_key_is_not_dumped(tmp_path: Path) -> None:
    """Quoter and guardian keep out of core dumps, however the limit was when they were started; the server need not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == 0:
        pytest.skip("the hard limit of core files is 0 here: nothing could be dumped")
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        with Stack(tmp_path) as stack:
            stack.start()
            assert core_limit(stack.server) != "0"
            assert core_limit(stack.guardian) == core_limit(stack.quoter) == "0"
            if os.geteuid():
                # What is not dumpable belongs to root (proc(5)).
                assert Path(f"/proc/{stack.server.pid}/status").stat().st_uid == os.geteuid()
                assert Path(f"/proc/{stack.quoter.pid}/status").stat().st_uid == 0
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
