"""Judging: all files of the folder, and what is stored, held against each other.

Invariant: every error is found at once, and nothing is changed here. It must not know how anything is stored.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from mmpi.errors import DeviceError
from mmpi.setup import generations, secrets_file, ssh_keys, wifi_file
from mmpi.setup.configuration import WITH_SECRETS, mode_of, passwords_of
from mmpi.setup.folder import CONFIG, HOSTNAME, KEYS, RESET, SECRETS, WIFI, text_of
from mmpi.setup.sealing import Sealer

_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""RFC 1123 section 2.1: one label."""
MOST_LABEL: Final = 63

Check = Callable[[bytes], list[str]]
"""Return the errors of a mmpi.toml."""


class Verdict(msgspec.Struct):
    """What is wrong; and if nothing is, what is to be in force."""

    errors: list[str] = []
    files: dict[str, bytes] = {}
    """Contents by their paths in a generation."""
    secrets: dict[str, bytes] = {}
    """Contents by the names of their credentials, in the clear."""
    mode: str = ""
    """Of the configuration that will be in force."""
    passwords: dict[str, str] = {}
    """Secrets that this configuration needs for its brokers, each with the key that needs it."""
    said: dict[str, str] = {}
    """For each file that was read what is taken over from it."""

    def __repr__(self) -> str:
        """Return the errors alone: the rest has secrets."""
        return f"Verdict({self.errors})"


class Stored(msgspec.Struct):
    """What is in force now; its secrets are opened when they are asked for."""

    files: Mapping[str, bytes]
    sealer: Sealer

    def has(self, name: str) -> bool:
        """Return whether a credential is stored, readable or not."""
        return generations.credential(name) in self.files

    def secret(self, name: str) -> bytes | None:
        """Return a stored secret; None if there is none that this box can read."""
        try:
            sealed = self.files[generations.credential(name)]
            return self.sealer.unseal(name, sealed)
        except (KeyError, DeviceError):
            return None


def judge(files: Mapping[str, bytes], stored: Stored, check: Check) -> Verdict:
    """Return what the files come to."""
    verdict = Verdict()
    texts: dict[str, str] = {}
    for name, content in files.items():
        if name == KEYS and ssh_keys.is_private(content):
            verdict.errors.append(ssh_keys.PRIVATE)
            continue
        texts[name], faults = text_of(name, content)
        verdict.errors += faults
        if faults:
            del texts[name]
    if RESET in texts and texts[RESET].strip():
        allowed = "an empty file, which deletes all that the box has stored"
        verdict.errors.append(f"{RESET}: is not empty; allowed: {allowed}")
    given = _secrets(verdict, texts)
    _network(verdict, texts)
    _login(verdict, texts)
    _name(verdict, texts)
    fine = _configuration(verdict, texts, stored, check)
    if fine and (SECRETS in texts or SECRETS not in files) and given is not None:
        _together(verdict, given, stored)
    return verdict


def _secrets(verdict: Verdict, texts: Mapping[str, str]) -> dict[str, str] | None:
    """Return the secrets that are given; None if some of them are wrong."""
    if SECRETS not in texts:
        return {}
    given, faults = secrets_file.parse(texts[SECRETS])
    verdict.errors += faults
    verdict.secrets |= {secrets_file.CREDENTIALS[key]: f"{value}\n".encode() for key, value in given.items()}
    names = ", ".join(name for name in secrets_file.NAMES if name in given) or "nothing"
    verdict.said[SECRETS] = f"{names} stored, encrypted for this box; the file is wiped"
    return None if faults else given


def _network(verdict: Verdict, texts: Mapping[str, str]) -> None:
    if WIFI in texts:
        wifi, faults = wifi_file.parse(texts[WIFI])
        verdict.errors += faults
        if wifi is not None:
            verdict.secrets[wifi_file.CREDENTIAL] = wifi_file.normalised(wifi)
            verdict.said[WIFI] = "stored, encrypted for this box; the file is wiped"


def _login(verdict: Verdict, texts: Mapping[str, str]) -> None:
    if KEYS in texts:
        keys, faults = ssh_keys.parse(texts[KEYS])
        verdict.errors += faults
        verdict.files[generations.KEYS] = "".join(f"{key}\n" for key in keys).encode()
        verdict.said[KEYS] = f"{len(keys)} key{'s' * (len(keys) != 1)} may log in" if keys else "nobody may log in"


def _name(verdict: Verdict, texts: Mapping[str, str]) -> None:
    if HOSTNAME in texts:
        name = texts[HOSTNAME].strip().lower()
        if _LABEL.fullmatch(name):
            verdict.files[generations.HOSTNAME] = f"{name}\n".encode()
            verdict.said[HOSTNAME] = f"{name}, from the next start on"
            return
        fits = 0 < len(name) <= MOST_LABEL and name.isprintable()
        shown = f"value {name}" if fits else f"{len(name)} characters"
        allowed = f"one name of letters, digits and -, at most {MOST_LABEL}, with no - at its ends and no dot"
        verdict.errors.append(f"{HOSTNAME}: {shown}; allowed: {allowed}")


def _configuration(verdict: Verdict, texts: Mapping[str, str], stored: Stored, check: Check) -> bool:
    """Take the configuration; return whether the one that will be in force is right."""
    content = stored.files.get(generations.CONFIG)
    if CONFIG in texts:
        content = texts[CONFIG].encode()
        if faults := check(content):
            verdict.errors += faults
            return False
        verdict.files[generations.CONFIG] = content
    verdict.mode, verdict.passwords = mode_of(content), passwords_of(content)
    if CONFIG in texts:
        verdict.said[CONFIG] = f"{verdict.mode} mode"
    return True


def _together(verdict: Verdict, given: Mapping[str, str], stored: Stored) -> None:
    """Hold configuration and secrets against each other, those that are stored already included."""
    if not given and verdict.mode not in WITH_SECRETS and not verdict.passwords:
        return
    known = dict(given)
    for key, name in secrets_file.CREDENTIALS.items():
        if key not in known and (secret := stored.secret(name)) is not None:
            known[key] = secret.decode("utf-8", "replace").strip()
    needed = dict(verdict.passwords)
    if verdict.mode in WITH_SECRETS:
        needed |= dict.fromkeys(secrets_file.TRADING, f'venue.mode = "{verdict.mode}"')
    for key, wanting in needed.items():
        if key not in known:
            there = stored.has(secrets_file.CREDENTIALS[key])
            why = "the stored one cannot be decrypted on this box" if there else "none is stored yet"
            need = f"{CONFIG}: {wanting} needs {key}, and {why}"
            verdict.errors.append(f"{need}; allowed: a {SECRETS} in this folder that has it")
    agents = [key for key in secrets_file.AGENTS if key in known]
    if len(agents) == len(secrets_file.AGENTS) and not secrets_file.are_two(known):
        verdict.errors.append(secrets_file.one_key(SECRETS))
    if verdict.mode == "live" and secrets_file.ACCOUNT in known:
        for key in agents:
            if secrets_file.address_of(known[key]) == known[secrets_file.ACCOUNT]:
                allowed = "a key that the account has approved as an agent (docs/live.md)"
                verdict.errors.append(f"{SECRETS}: {key} is the key of ACCOUNT itself; allowed: {allowed}")


def merged(verdict: Verdict, stored: Stored) -> dict[str, bytes]:
    """Return the files of the generation that is to be in force; DeviceError if a secret cannot be sealed."""
    files = dict(stored.files) | verdict.files
    for name, secret in verdict.secrets.items():
        # Each sealing of one secret is other bytes: what is stored already stays as it is.
        if stored.secret(name) != secret:
            files[generations.credential(name)] = stored.sealer.seal(name, secret)
    return files
