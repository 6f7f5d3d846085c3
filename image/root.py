"""Root: the read-only root file system, put together from packages, wheels, mmpi's own files and what is in rootfs/.

No script of a package is run: what they would have done, and is needed, is done here by the tools of the same release
(docs/DECISIONS.md, 44). Invariant: the same inputs give the same tree; no secret, host key or machine id is in it.
It must not know disks and boot loaders.
"""

import shutil
import stat
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from image.archive import Entry, Tree, file, folder, from_tar, link, tar
from image.builder import Builder
from image.debian import Package, UnavailableError, content, control, run
from image.wheels import ROOT

HERE: Final = Path(__file__).resolve().parent
APART: Final = ("linux-image-", "firmware-brcm80211", "raspi-firmware", "u-boot-")
"""Packages of which only parts go elsewhere: kernel, firmware, boot loader."""
DROPPED: Final = (
    "usr/share/bash-completion/", "usr/share/bug/", "usr/share/info/", "usr/share/lintian/", "usr/share/locale/",
    "usr/share/man/", "usr/share/menu/", "usr/share/pixmaps/", "usr/share/zsh/", "usr/share/initramfs-tools/",
    "usr/share/i18n/", "usr/lib/udev/hwdb.d/", "usr/lib/python3.13/ensurepip/", "usr/lib/python3.13/idlelib/",
    "usr/lib/python3.13/turtledemo/", "usr/lib/python3.13/pydoc_data/", "etc/cron", "etc/init.d/", "etc/rc",
    "etc/kernel/", "etc/initramfs/", "var/cache/", "var/log/", "usr/share/fish/", "usr/share/gcc/",
    "usr/share/debianutils/", "usr/share/doc-base/", "usr/share/vim/", "usr/share/apport/", "etc/apt/", "etc/dpkg/",
)  # fmt: skip
"""Documentation, other languages, and what only a machine with package management has use for."""
LICENCES: Final = "usr/share/doc/"
MERGED: Final = ("bin/", "sbin/", "lib/")
VENV: Final = "usr/lib/mmpi"
SITE: Final = f"{VENV}/lib/python3.13/site-packages"
PYTHON: Final = "usr/lib/python3.13"
PACKAGE: Final = ROOT / "mmpi"
SCRIPT: Final = """\
#!/usr/lib/mmpi/bin/python
import sys

from mmpi.cli import main

sys.exit(main())
"""
CHANGED: Final = ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow")
MASKED: Final = (
    "getty-static.service", "ldconfig.service", "proc-sys-fs-binfmt_misc.automount", "proc-sys-fs-binfmt_misc.mount",
    "sshd-unix-local.socket", "systemd-binfmt.service", "systemd-logind.service", "systemd-pcrphase.service",
    "systemd-networkd-wait-online.service", "systemd-pcrphase-sysinit.service", "systemd-update-done.service",
)  # fmt: skip
"""Nobody logs in but by SSH, nothing waits for a network, and no cache is made anew on a root that never changes."""
DAY_S: Final = 86_400


def version() -> str:
    """Return mmpi's version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def packages(files: Sequence[tuple[Package, Path]]) -> Tree:
    """Return the files of the packages that make up the root, without what is dropped."""
    tree: Tree = {}
    for package, path in files:
        if package.name.startswith(APART):
            continue
        for name, entry in from_tar(content(path), folders=True).items():
            merged = f"usr/{name}" if name.startswith(MERGED) else name
            if _is_wanted(merged):
                tree.setdefault(merged, entry) if stat.S_ISDIR(entry.mode) else tree.update({merged: entry})
    return tree


def _is_wanted(path: str) -> bool:
    if path.startswith(DROPPED) or f"{path}/" in DROPPED:
        return False
    return not path.startswith(LICENCES) or path.endswith("/copyright")


def status(files: Iterable[tuple[Package, Path]]) -> Entry:
    """Return what dpkg would know of the packages, for those who list them; there is no dpkg."""
    blocks = []
    for package, path in files:
        first, _, rest = control(path).partition("\n")
        state = "installed" if not package.name.startswith(APART) else "unpacked"
        blocks.append(f"{first}\nStatus: install ok {state}\n{rest}".rstrip())
    return file("\n\n".join(blocks) + "\n")


def own(wheels: Tree) -> Tree:
    """Return the environment with mmpi in it."""
    tree: Tree = {f"{SITE}/{path}": entry for path, entry in wheels.items()}
    for path in sorted(PACKAGE.rglob("*")):
        name = path.relative_to(ROOT).as_posix()
        if path.is_file() and "__pycache__" not in name:
            tree[f"{SITE}/{name}"] = file(path.read_bytes())
    metadata = f"Metadata-Version: 2.1\nName: mmpi\nVersion: {version()}\n"
    return tree | {
        f"{SITE}/mmpi-{version()}.dist-info/METADATA": file(metadata),
        f"{VENV}/pyvenv.cfg": file("home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.13\n"),
        f"{VENV}/bin/python": link("/usr/bin/python3.13"),
        f"{VENV}/bin/mmpi": file(SCRIPT, 0o755),
        "usr/bin/mmpi": link("../lib/mmpi/bin/mmpi"),
        "usr/bin/python3": link("python3.13"),
    }


def settings(epoch: int) -> Tree:
    """Return what an empty system needs besides packages: folders, links, our own files, a first date."""
    empty = ("data", "boot/firmware", "dev", "proc", "sys", "run", "mnt", "home", "srv", "var/log", "var/cache")
    tree: Tree = {path: folder() for path in empty}
    tree |= {"root": folder(0o700), "tmp": folder(0o1777), "var/tmp": folder(0o1777), "etc/credstore": folder(0o700)}
    tree |= {
        "etc/machine-id": file("uninitialized\n", 0o444),
        "etc/localtime": link("/usr/share/zoneinfo/Etc/UTC"),
        "etc/mtab": link("../proc/self/mounts"),
        "var/run": link("/run"),
        "var/lock": link("/run/lock"),
        "etc/resolv.conf": link("../run/systemd/resolve/stub-resolv.conf"),
        "etc/mmpi": link("/data/settings/mmpi"),
        "etc/credstore.encrypted": link("/data/settings/credstore"),
        "etc/tmpfiles.d/credstore.conf": link("/dev/null"),
        "etc/tmpfiles.d/provision.conf": link("/dev/null"),
        # Nothing was updated since the image was made, so there is nothing to be made anew at a boot.
        "etc/.updated": file(f"TIMESTAMP_NSEC={epoch}000000000\n"),
        "var/.updated": file(f"TIMESTAMP_NSEC={epoch}000000000\n"),
        **{f"etc/systemd/system/{name}": link("/dev/null") for name in MASKED},
        "etc/systemd/system/default.target": link("/usr/lib/systemd/system/multi-user.target"),
        "etc/default/locale": link("../locale.conf"),
        "etc/vconsole.conf": link("default/keyboard"),
        "usr/bin/awk": link("mawk"),
        "usr/bin/pager": link("less"),
        "usr/lib/clock-epoch": file(f"{epoch}\n"),
        "var/lib/iwd": folder(0o700),
        "var/lib/mmpi": folder(),
        "var/lib/systemd": folder(),
        "var/lib/chrony": folder(),
    }
    for path in sorted((HERE / "rootfs").rglob("*")):
        if path.is_file():
            name = path.relative_to(HERE / "rootfs").as_posix()
            tree[name] = file(path.read_bytes(), 0o755 if name.startswith("usr/lib/mmpi/box/") else 0o644)
    return tree


def units(scratch: Path) -> Tree:
    """Return what scripts/install-service puts into a root."""
    target = scratch / "units"
    (target / VENV / "bin").mkdir(parents=True)
    (target / VENV / "bin" / "mmpi").write_text(SCRIPT, encoding="utf-8")
    (target / VENV / "bin" / "mmpi").chmod(0o755)
    options = ("--root", str(target), "--appliance", "--pins", "--i2c", "--command", f"/{VENV}/bin/mmpi")
    run(str(ROOT / "scripts" / "install-service"), *options)
    tree: Tree = {}
    for path in sorted(target.rglob("*")):
        name = path.relative_to(target).as_posix()
        if path.is_file() and not path.is_symlink() and not name.startswith(VENV):
            tree[name] = file(path.read_bytes())
    shutil.rmtree(target)
    rules = "usr/lib/tmpfiles.d/mmpi.conf"
    kept = [line for line in tree[rules].data.decode().splitlines(keepends=True) if not line.startswith("d /etc/")]
    return tree | {rules: file("".join(kept))}


def settled(tree: Tree, builder: Builder, scratch: Path, epoch: int) -> Tree:
    """Return the tree with accounts, enabled units, authorities and bytecode, made by the release's own tools."""
    (scratch / "root.tar").write_bytes(tar(tree | _accounts(tree), epoch))
    builder.script(scratch, SETTLE, (PYTHON, SITE, str(epoch)))
    made = from_tar((scratch / "made.tar").read_bytes(), folders=True)
    for path in ("root.tar", "made.tar"):
        (scratch / path).unlink()
    tree = tree | {path: entry._replace(uid=0, gid=0) for path, entry in made.items() if not stat.S_ISDIR(entry.mode)}
    groups = [line.split(":") for line in tree["etc/group"].data.decode().splitlines()]
    shadow = next(int(words[2]) for words in groups if words[0] == "shadow")
    for path in CHANGED:
        secret = path.endswith("shadow")
        data = _locked(tree, epoch) if path == "etc/shadow" else tree[path].data
        tree[path] = Entry(stat.S_IFREG | (0o640 if secret else 0o644), data, 0, shadow if secret else 0)
    return tree


SETTLE: Final = """\
cd /mnt
mkdir root
tar -xf root.tar -C root --no-same-owner
systemd-sysusers --root=/mnt/root
systemctl --root=/mnt/root preset-all 2>/dev/null
cat root/usr/share/ca-certificates/mozilla/*.crt >root/etc/ssl/certs/ca-certificates.crt
for each in root/usr/share/ca-certificates/mozilla/*.crt; do
    name=${each##*/}
    ln -s "/${each#root/}" "root/etc/ssl/certs/${name%.crt}.pem"
done
# Links are made to what the links of this folder will point to; here they point elsewhere.
mkdir -p /usr/share/ca-certificates
mount --bind root/usr/share/ca-certificates /usr/share/ca-certificates
openssl rehash root/etc/ssl/certs
umount /usr/share/ca-certificates
# A file's bytecode depends on what else its process compiled before: one process each, always in the same order.
for folder in "$1" "$2"; do
    python3.13 -m compileall -q --invalidation-mode unchecked-hash -s /mnt/root -p / "root/$folder" >/dev/null &
done
wait
cd root
find etc/systemd etc/ssl/certs etc/passwd etc/group etc/shadow etc/gshadow "$1" "$2" \\( -type l -o -type f \\) \\
    \\( -path 'etc/*' -o -name '*.pyc' \\) -print0 | sort -z |
    tar --null --no-recursion -T - --mtime="@$3" --owner=0 --group=0 --numeric-owner -cf ../made.tar
cd ..
rm -rf root
"""


def _accounts(tree: Tree) -> Tree:
    """Return the first users and groups, whose passwords are all locked."""
    return {
        f"etc/{name}": file(tree[f"usr/share/base-passwd/{name}.master"].data)
        for name in ("passwd", "group")
    } | {"etc/shadow": file(""), "etc/gshadow": file("")}


def _locked(tree: Tree, epoch: int) -> bytes:
    names = [line.partition(":")[0] for line in tree["etc/passwd"].data.decode().splitlines()]
    if any(line.split(":")[1] not in ("x", "*", "!*", "!") for line in tree["etc/passwd"].data.decode().splitlines()):
        raise UnavailableError("etc/passwd: an account without a locked password")
    return "".join(f"{name}:*:{epoch // DAY_S}:0:99999:7:::\n" for name in names).encode()


def extensions(tree: Mapping[str, Entry]) -> list[str]:
    """Return the names by which the environment's extension modules are imported."""
    names = []
    for path in tree:
        if path.startswith(f"{SITE}/") and path.endswith(".so"):
            inner = path.removeprefix(f"{SITE}/")
            names.append(inner.partition(".")[0].replace("/", "."))
    return sorted(names)


