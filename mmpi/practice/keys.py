"""Practice accounts: their key files, and the registry in which a server finds the account of an agent.

Invariant: a registry holds addresses only; private keys are in files of mode 0600 and nowhere else.
It must not know servers or orders.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from coincurve import PrivateKey

from mmpi.errors import ConfigError
from mmpi.practice.hyperliquid.signatures import address_bytes, address_of

ACCOUNT_FILE: Final = "account"
VAULT_FILE: Final = "vault"
AGENTS: Final = ("quoter", "guardian")
REGISTRY_FILE: Final = "agents.json"


class PracticeAccount(msgspec.Struct, frozen=True):
    """What `make_keys` made: the addresses of the account, of each agent by its name, of the vault ("" = none)."""

    account: str
    agents: Mapping[str, str]
    vault: str = ""


class VaultEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a registry says of a vault: the account whose agents act for it."""

    leader: str


def make_keys(out: Path, registry: Path, *, force: bool = False, vault: bool = False) -> PracticeAccount:
    """Return a new practice account whose keys are now in `out`; ConfigError if one of its files exists already.

    Written: `account` (its address; nobody holds its key, as an agent must not), one `<agent>.key` for each of AGENTS,
    and `agents.json`; with `vault` also `vault`, the address of a vault that the account leads. Account and vault are
    appended to `registry` too, where a practice server finds them.
    """
    keys = {name: PrivateKey().secret for name in AGENTS}
    account = address_of(PrivateKey().secret)
    agents = {name: address_of(key) for name, key in keys.items()}
    led = address_of(PrivateKey().secret) if vault else ""
    lines = json.dumps({account: list(agents.values())}) + "\n"
    files = {out / ACCOUNT_FILE: account + "\n"}
    if vault:
        lines += json.dumps({led: {"leader": account}}) + "\n"
        files[out / VAULT_FILE] = led + "\n"
    files[out / REGISTRY_FILE] = lines
    files |= {out / f"{name}.key": f"0x{key.hex()}\n" for name, key in keys.items()}
    for path in files:
        if path.exists() and not force:
            raise ConfigError(f"{path}: exists already; choose another folder with --out, or replace it with --force")
    try:
        # The registry first: an account without keys is harmless, keys without an account are not.
        _append(registry, lines)
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, text in files.items():
            _write_private(path, text)
    except OSError as error:
        raise ConfigError(f"{error.filename or out}: cannot be written: {error.strerror}") from None
    return PracticeAccount(account=account, agents=agents, vault=led)


class _Entries(msgspec.Struct):
    """A registry's content: the account of each agent, and the leader of each vault."""

    owners: dict[str, str]
    leaders: dict[str, str]


def read_registry(path: Path) -> dict[str, str]:
    """Return the account of each agent in a registry, {} if there is no file; ConfigError names a wrong line."""
    return _read(path).owners


def _read(path: Path) -> _Entries:
    entries = _Entries({}, {})
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return entries
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    for number, line in enumerate(lines, start=1):
        for address, entry in _registry_line(line, f"{path}: line {number}").items():
            if isinstance(entry, VaultEntry):
                entries.leaders[address.lower()] = entry.leader.lower()
            else:
                entries.owners |= {agent.lower(): address.lower() for agent in entry}
    return entries


def _registry_line(line: str, where: str) -> dict[str, list[str] | VaultEntry]:
    try:
        entries = msgspec.json.decode(line, type=dict[str, list[str] | VaultEntry])
        for address, entry in entries.items():
            named = (entry.leader,) if isinstance(entry, VaultEntry) else entry
            for each in (address, *named):
                address_bytes(each)
    except (msgspec.MsgspecError, ValueError) as error:
        forms = '{"account": ["agent", ...]} or {"vault": {"leader": "account"}}'
        raise ConfigError(f"{where} is not {forms} with 0x addresses: {error}") from None
    return entries


class Registry:
    """Which account an agent trades for; it reads its file again when an unknown address asks and the file changed."""

    def __init__(self, path: Path, *, strict: bool) -> None:
        """Read `path`. Strict: an address in no registry does not exist; otherwise it is an account of its own."""
        self.strict = strict
        self._path = path
        self._stamp = _stamp(path)
        self._entries = _read(path)

    def master(self, agent: str) -> str | None:
        """Return the account that `agent` trades for, None if it is no agent."""
        if agent not in self._entries.owners:
            self._refresh()
        return self._entries.owners.get(agent)

    def leader(self, vault: str) -> str | None:
        """Return the account that leads a vault, None if there is no such vault."""
        if vault not in self._entries.leaders:
            self._refresh()
        return self._entries.leaders.get(vault)

    def account(self, signer: str) -> str | None:
        """Return the account in whose name `signer` acts, None if the venue knows no such user."""
        master = self.master(signer)
        if master is None and (not self.strict or self.is_account(signer)):
            return signer
        return master

    def is_account(self, address: str) -> bool:
        """Return whether the registry lists `address` as an account."""
        return address in self._entries.owners.values()

    def agents(self, account: str) -> list[str]:
        """Return the agents of `account`."""
        return [agent for agent, owner in self._entries.owners.items() if owner == account]

    def vaults(self, account: str) -> list[str]:
        """Return the vaults that `account` leads."""
        return [vault for vault, leader in self._entries.leaders.items() if leader == account]

    def _refresh(self) -> None:
        if (stamp := _stamp(self._path)) != self._stamp:
            self._entries, self._stamp = _read(self._path), stamp


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def _append(path: Path, line: str) -> None:
    """Append one line with one write, so that two commands at the same time cannot tear each other's."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
