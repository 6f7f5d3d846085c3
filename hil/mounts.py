"""Mounts: image files mounted for as long as a block lasts, and disk tools fetched where they may be.

Invariant: what is mounted here is unmounted when the block ends, and also when this process is killed inside it: a
small process of its own waits for either and does it. It must not know what is on a disk.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from image.debian import UnavailableError

SETUP: Final = Path(__file__).with_name("setup")
SERVING: Final = ("nbdkit", "mkfs.ext4")
"""What a disk for a guest takes; these need no root."""
MOUNTING: Final = (*SERVING, "nbdfuse", "e2fsck", "mount", "setpriv")
UNMOUNT_S: Final = 60.0
_UNMOUNTER: Final = """\
read -r ended
for target; do
    tries=0
    while ! umount "$target" 2>/dev/null && grep -qF " $target " /proc/self/mounts; do
        tries=$((tries + 1))
        if [ $tries -eq 30 ]; then
            umount --lazy "$target"
            break
        fi
        sleep 0.1
    done
done
"""
"""A mount may be busy for a moment, by processes that died with us; one that stays busy is taken from its users."""


def ensure_disk_tools(programs: Sequence[str] = MOUNTING) -> None:
    """Install what is missing; UnavailableError with the reason if that cannot be done or the rest is not given."""
    if not _there(programs):
        done = subprocess.run([SETUP, "disk"], capture_output=True, text=True, check=False)
        if done.returncode != 0 or not _there(programs):
            raise UnavailableError((done.stderr.strip().splitlines() or [f"not all of {', '.join(programs)}"])[-1])


def ensure_mounts() -> None:
    """Make sure that disks can be served and mounted here; UnavailableError with the reason if not."""
    if os.geteuid() != 0:
        raise UnavailableError("only root can mount a disk")
    ensure_disk_tools()
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.access(device, os.R_OK | os.W_OK):
            raise UnavailableError(f"no {device} for us: the kernel has none, or this is a container without it")
    if "\text4\n" not in Path("/proc/filesystems").read_text(encoding="ascii"):
        raise UnavailableError("the kernel has no ext4")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        raise UnavailableError("this root may not mount anything (a container without privileges?)")


@contextmanager
def unmounted_at_end(*targets: Path) -> Iterator[None]:
    """Unmount the targets that are mounted when the block ends or this process does, in the order given."""
    command = ["sh", "-c", _UNMOUNTER, "unmounter", *(str(target.resolve()) for target in targets)]
    # A session of its own: Ctrl-C on our terminal ends us, and then it has its work to do.
    unmounter = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    assert unmounter.stdin is not None
    try:
        yield
    finally:
        unmounter.stdin.write(b"\n")
        unmounter.stdin.close()
        # Not longer: a file system that waits for its disk is let go when the disk's server is ended after this.
        unmounter.wait(UNMOUNT_S)


@contextmanager
def loop_mounted(image: Path, target: Path, options: Sequence[str] = ()) -> Iterator[str]:
    """Mount an image with ext4 on it at a folder; gives the loop device's name, which goes with the mount."""
    target.mkdir(exist_ok=True)
    with unmounted_at_end(target):
        mount(image, target, options)
        yield loop_device(target)


def mount(image: Path, target: Path, options: Sequence[str] = ()) -> None:
    """Mount an image with ext4 on it through a loop device that is freed when it is unmounted; OSError if refused."""
    command = ["mount", "-t", "ext4", "-o", ",".join(("loop", *options)), str(image), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{image.name} cannot be mounted: {done.stderr.strip()}")


def loop_device(target: Path) -> str:
    """Return the name of the device that is mounted at a folder."""
    device = target.stat().st_dev
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name


def tool(program: str) -> str | None:
    """Return where a program is; a user's own path may lack the folders of those for root."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _there(programs: Sequence[str]) -> bool:
    if not all(tool(program) for program in programs):
        return False
    plugin = subprocess.run(["nbdkit", "python", "--dump-plugin"], capture_output=True, check=False)
    return plugin.returncode == 0
