"""Check: every extension module of the image is imported once, on the processors that it is made for.

Invariant: an extension that does not load, or uses an instruction that an old Pi does not have, ends the build.
It must not know how the image is made.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from image.archive import Tree, file, tar
from image.builder import Builder
from image.debian import UnavailableError
from image.root import SITE, extensions

PROCESSORS: Final = ("cortex-a53", "cortex-a72")
"""Pi 3 and Zero 2 W; Pi 4 and CM4."""
OPTIONAL: Final = ("multidict._testcapi",)
"""Not imported by anything: the distribution's own tests have it."""
PROGRAM: Final = """\
import ctypes, importlib, sys
failed = []
for name in sys.argv[1:]:
    try:
        if name.startswith("Crypto."):
            # No modules of Python: libraries that its modules open.
            ctypes.CDLL(sys.path[1] + "/" + name.replace(".", "/") + ".abi3.so")
        else:
            importlib.import_module(name)
    except Exception as error:
        failed.append(f"{name}: {type(error).__name__}: {error}")
import mmpi.app, mmpi.commands.guard, mmpi.commands.run, mmpi.config.load, hashlib, ssl
import coincurve, msgpack, msgspec, sha3
from backports import zstd
from Crypto.Hash import keccak
digest = sha3.keccak_256(b"x").digest()
assert keccak.new(digest_bits=256, data=b"x").digest() == digest
assert coincurve.PrivateKey(b"\\1" * 32).sign_recoverable(digest, hasher=None)
assert zstd.decompress(zstd.compress(msgspec.json.encode([1, 2]))) == b"[1,2]"
assert msgpack.unpackb(msgpack.packb({"a": 1})) == {"a": 1}
print(len(sys.argv) - 1 - len(failed))
sys.exit("; ".join(failed) or 0)
"""


def check_imports(tree: Tree, builder: Builder, scratch: Path, say: Callable[[str], None]) -> None:
    """Import them all; UnavailableError with those that fail."""
    names = [name for name in extensions(tree) if name not in OPTIONAL]
    wanted = {path: entry for path, entry in tree.items() if path.startswith(("usr/lib/aarch64", "usr/lib/python3",
              "usr/lib/mmpi", "usr/lib/ld-", "lib", "bin", "usr/bin/python", "etc/ssl"))}  # fmt: skip
    (scratch / "check.tar").write_bytes(tar(wanted | {"check.py": file(PROGRAM)}, 0))
    builder.script(scratch, "cd /mnt; mkdir check; tar -xf check.tar -C check --no-same-owner; rm check.tar")
    for processor in PROCESSORS:
        env = {"PYTHONHOME": "/mnt/check/usr", "PYTHONPATH": f"/mnt/check/{SITE}"}
        command = ("qemu-aarch64", "-L", "/mnt/check", "-cpu", processor, "/mnt/check/usr/bin/python3.13", "-B", "-s")
        out = builder.run(scratch, *command, "/mnt/check/check.py", *names, env=env)
        if out.strip() != str(len(names)).encode():
            raise UnavailableError(f"{processor}: {out.decode()!r} of {len(names)} extensions")
        say(f"{len(names)} extension modules imported on a {processor}")
    builder.script(scratch, "rm -rf /mnt/check")
