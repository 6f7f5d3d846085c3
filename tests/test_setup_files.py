"""The files of the set-up folder: every wrong one is a sentence with file, key or line, and what is allowed."""

import base64
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from setup_builders import (
    ACCOUNT,
    GUARDIAN,
    LIVE,
    OWN_ADDRESS,
    PASSPHRASE,
    PRACTICE,
    QUOTER,
    SECRETS,
    WIFI,
    Box,
    Sealer,
)  # fmt: skip

from mmpi.setup import secrets_file, ssh_keys, wifi_file
from mmpi.setup.folder import NAMES, is_ignored, look, text_of
from mmpi.setup.judging import Stored, judge
from mmpi.setup.wifi_file import Wifi

TYPES = (
    "ssh-ed25519, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384, ecdsa-sha2-nistp521, sk-ssh-ed25519@openssh.com, "
    "sk-ecdsa-sha2-nistp256@openssh.com, ssh-rsa"
)
PUB = "; allowed: the line of a .pub file as it is"
KEY = "; allowed: 64 hex digits, with or without 0x, below the order of secp256k1"
LABEL = "; allowed: one name of letters, digits and -, at most 63, with no - at its ends and no dot"
PLAIN = "; allowed: plain text, saved as UTF-8"
PHRASE = "; allowed: 8 to 63 printable ASCII characters, or 64 hex digits"
ALL = f"; allowed: {', '.join(secrets_file.NAMES)}"
FILES = f" allowed: {', '.join(NAMES)}"


def blob(*fields: bytes) -> str:
    """Return an SSH blob in base64."""
    return base64.b64encode(b"".join(struct.pack(">I", len(field)) + field for field in fields)).decode()


def line(kind: str, *fields: bytes) -> str:
    """Return the line of a public key."""
    return f"{kind} {blob(kind.encode(), *fields)}"


def rsa(bits: int) -> str:
    """Return an RSA key's line."""
    return line("ssh-rsa", b"\x01\x00\x01", b"\x00" + ((1 << bits - 1) + 1).to_bytes(bits // 8, "big"))


POINT = b"\x04" + bytes(64)
ED25519 = line("ssh-ed25519", bytes(32)) + " me@desk"
P256 = line("ecdsa-sha2-nistp256", b"nistp256", POINT)
SK = line("sk-ssh-ed25519@openssh.com", bytes(32), b"ssh:")
SK_P256 = line("sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", POINT, b"ssh:")

WRONG: list[tuple[str, str | bytes, str]] = [
    ("secrets.env", "ACCOUNT 0x12\n", "line 1: no = in it (12 characters, not shown); allowed: KEY=VALUE"),
    ("secrets.env", f"# mine\n\nQUOTERKEY={QUOTER}\n",
     f"line 3: unknown key (not shown); did you mean QUOTER_KEY?{ALL[1:]}"),
    ("secrets.env", f"{QUOTER}==\n", f"line 1: unknown key (not shown){ALL}"),
    ("secrets.env", f"ACCOUNT={ACCOUNT}\n" * 2, "line 2: ACCOUNT stands in line 1 already; allowed: once"),
    ("secrets.env", f"ACCOUNT={QUOTER}",
     "line 1: ACCOUNT: not an address (64 characters, not shown); allowed: 0x and 40 hex digits"),
    ("secrets.env", f"QUOTER_KEY={QUOTER[1:]}",
     f"line 1: QUOTER_KEY: not a private key (63 characters, not shown){KEY}"),
    ("secrets.env", "QUOTER_KEY=" + "0" * 64, f"line 1: QUOTER_KEY: not a private key (64 characters, not shown){KEY}"),
    ("secrets.env", "QUOTER_KEY=" + "f" * 64, f"line 1: QUOTER_KEY: not a private key (64 characters, not shown){KEY}"),
    ("secrets.env", f"QUOTER_KEY={QUOTER} {GUARDIAN}",
     "line 1: QUOTER_KEY: more than one word (129 characters, not shown); allowed: one value"),
    ("secrets.env", f"QUOTER_KEY={QUOTER}\nGUARDIAN_KEY=0x{QUOTER.upper()}",
     "line 2: GUARDIAN_KEY is the same as QUOTER_KEY; allowed: a key of its own (the venue counts nonces by key, and "
     "the guardian must be able to cancel whatever becomes of the quoter)"),
    ("secrets.env", b"\xff\xfeA\0C\0", f"byte 1 is not UTF-8{PLAIN}"),
    ("secrets.env", b"A\0C\0", f"byte 2 is zero{PLAIN}"),
    ("secrets.env", bytes(600),
     "holds nothing but zeros; copy it once more, and eject the card before you take it out"),
    ("mmpi.toml", b"#" * 70_000, "more than 64 KiB; allowed: at most that"),
    ("wifi.toml", "ssid = Net\n", 'line 1, column 8: not valid TOML; allowed: lines such as ssid = "name"'),
    ("wifi.toml", WIFI + 'psk = "x"\n', "psk: unknown key; allowed: ssid, passphrase, country, hidden"),
    ("wifi.toml", WIFI.replace(PASSPHRASE, "short"), f"passphrase: 5 characters, not shown{PHRASE}"),
    ("wifi.toml", WIFI.replace("DE", "UK"),
     "country: 2 characters, not shown; allowed: the two capital letters of ISO 3166 for where the box stands, such as "
     "DE, US or GB"),
    ("wifi.toml", WIFI.replace("Net", "x" * 33),
     "ssid: 33 bytes, not shown; allowed: text of 1 to 32 bytes, without control characters"),
    ("wifi.toml", 'ssid = "Net"\ncountry = "DE"\n', f"passphrase: missing{PHRASE}"),
    ("wifi.toml", WIFI + 'hidden = "yes"\n', "hidden: not a flag; allowed: true or false"),
    ("authorized_keys", f'{ED25519}\nfrom="10.0.0.1" {ED25519}\n',
     "line 2: options stand in front of the key; allowed: type, key and comment alone"),
    ("authorized_keys", "ssh-dss AAAA me\n", f"line 1: no key of a known type ssh-dss; allowed: {TYPES}"),
    ("authorized_keys", f"{QUOTER}\n", f"line 1: no key of a known type; allowed: {TYPES}"),
    ("authorized_keys", "ssh-ed25519 AAA*A\n", f"line 1: what follows ssh-ed25519 is not base64{PUB}"),
    ("authorized_keys", line("ssh-ed25519", bytes(31)), f"line 1: what follows ssh-ed25519 is not a whole key{PUB}"),
    ("authorized_keys", ED25519[:40], f"line 1: what follows ssh-ed25519 is not a whole key{PUB}"),
    ("authorized_keys", f"ssh-rsa {ED25519.split()[1]}",
     f"line 1: says ssh-rsa, but the key in it is of another type{PUB}"),
    ("authorized_keys", rsa(2048), "line 1: ssh-rsa of 2048 bits; allowed: 3072 and more, or better ssh-ed25519"),
    ("hostname", "my_box.local", f"value my_box.local{LABEL}"),
    ("hostname", "a\nb", f"3 characters{LABEL}"),
    ("hostname", "", f"0 characters{LABEL}"),
    ("factory-reset", "yes", "is not empty; allowed: an empty file, which deletes all that the box has stored"),
    ("secret.env", SECRETS, f"no file of this name is read; did you mean secrets.env?{FILES}"),
    ("mmpi.toml.txt", "", f"no file of this name is read; did you mean mmpi.toml?{FILES}"),
    ("a\nb", "", f"no file of this name is read; did you mean hostname?{FILES}"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "said"), WRONG, ids=[f"{name}-{said[:24]}" for name, _, said in WRONG])
def test_what_is_wrong(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    """One sentence, the very one; nothing is stored, nothing of the folder is gone, and no secret is shown."""
    box = Box(tmp_path, **{name: content})
    before = (box.folder / name).read_bytes()
    shown = name if name.isprintable() else ascii(name)
    assert box.errors() == [f"{shown}: {said}"]
    assert box.settings() == {}
    assert not box.latch()
    assert (box.folder / name).read_bytes() == before
    for secret in (QUOTER, GUARDIAN, PASSPHRASE):
        assert secret[:8] not in box.result()


def test_a_mode_that_needs_secrets(tmp_path: Path) -> None:
    """What is neither in the folder nor stored is named; what is stored counts."""
    box = Box(tmp_path, mmpi__toml=PRACTICE, secrets__env=f"ACCOUNT={ACCOUNT}\nQUOTER_KEY={QUOTER}\n")
    assert box.errors() == [
        'mmpi.toml: venue.mode = "practice" needs GUARDIAN_KEY, and none is stored yet; allowed: a secrets.env in this '
        "folder that has it"
    ]
    box.put(secrets__env=SECRETS)
    assert box.errors() == []
    box.put(mmpi__toml=LIVE)
    assert box.errors() == []
    box.put(secrets__env=f"GUARDIAN_KEY={QUOTER}")
    assert [error.partition(" is the same")[0] for error in box.errors()] == ["secrets.env: GUARDIAN_KEY"]


def test_a_broker_that_wants_a_name_needs_its_password(tmp_path: Path) -> None:
    """On paper, too: a box that could not tell its owner anything says so at once; any printable text is a password."""
    toml = '[mqtt]\nurl = "mqtt://house"\nusername = "box"\n'
    box = Box(tmp_path, mmpi__toml=toml)
    assert box.errors() == [
        "mmpi.toml: mqtt.username needs MQTT_PASSWORD, and none is stored yet; allowed: a secrets.env in this folder "
        "that has it"
    ]
    box.put(secrets__env='MQTT_PASSWORD="two words, # and =" # the broker\nWEBHOOK_TOKEN=tk_1\n')
    assert box.errors() == []
    box.put(secrets__env="MQTT_PASSWORD=caf\u00e9")
    assert box.errors() == [
        "secrets.env: line 1: MQTT_PASSWORD: 4 characters, not shown; allowed: 1 to 1000 printable ASCII characters"
    ]


def test_a_stored_secret_that_nobody_can_read_is_missing(tmp_path: Path) -> None:
    """A box that lost its host key says so, and is content with new secrets."""
    box = Box(tmp_path, mmpi__toml=LIVE, secrets__env=SECRETS)
    assert box.errors() == []
    (box.data / "settings" / "credstore" / "mmpi.account").write_bytes(b"x")
    box.version = "later"
    assert box.errors() == [
        'mmpi.toml: venue.mode = "live" needs ACCOUNT, and the stored one cannot be decrypted on this box; allowed: a '
        "secrets.env in this folder that has it"
    ]
    box.put(secrets__env=SECRETS)
    assert box.errors() == []


def test_the_accounts_own_key_is_refused_live(tmp_path: Path) -> None:
    """The key of the account itself never comes near the box."""
    box = Box(tmp_path, mmpi__toml=LIVE, secrets__env=SECRETS.replace(ACCOUNT, OWN_ADDRESS))
    assert box.errors() == [
        "secrets.env: QUOTER_KEY is the key of ACCOUNT itself; allowed: a key that the account has approved as an "
        "agent (docs/live.md)"
    ]
    box.put(mmpi__toml=PRACTICE)
    assert box.errors() == []


def test_everything_wrong_at_once(tmp_path: Path) -> None:
    """All errors of all files are found in one run."""
    box = Box(tmp_path, secrets__env="X\nACCOUNT=\n", wifi__toml="", hostname=".", junk="", **{"factory-reset": "x"})
    box.put(mmpi__toml="x")
    box.wrong = ["mmpi.toml: x: wrong", "mmpi.toml: y: wrong"]
    errors = box.errors()
    assert len(errors) == 10
    for number, error in enumerate(errors, 1):
        assert f"{number}. {error}\r\n" in box.result()
    assert "Still in this folder, readable for anyone who has the card: secrets.env and wifi.toml." in box.result()


def test_what_is_right_is_read_in_every_spelling(tmp_path: Path) -> None:
    """Names in capitals, BOM, CRLF, quotes, export, comments and capital digits are all the same."""
    box = Box(tmp_path)
    account = f"export ACCOUNT='0x{ACCOUNT[2:].upper()}'"
    text = f'\ufeff{account}\r\n\r\n# x\r\nQUOTER_KEY = "{QUOTER.upper()}" # y\r\n'
    box.put(SECRETS__ENV=text, MMPI__TOML="\ufeff[venue]\r\nmode = 'paper'\r\n", HostName=" Desk-1 \r\n")
    assert box.errors() == []
    assert box.settings() == {
        "mmpi.account": f"{ACCOUNT}\n",
        "mmpi.quoter.key": f"0x{QUOTER}\n",
        "mmpi.toml": "[venue]\nmode = 'paper'\n",
        "hostname": "desk-1\n",
    }


def test_public_keys_of_every_type() -> None:
    """Each type that OpenSSH makes today is taken, once, with its comment and without what is around it."""
    lines = [ED25519, P256, SK, SK_P256, rsa(3072)]
    text = "# mine\n\n" + "\n".join(f"  {line} " for line in [*lines, ED25519]) + "\n"
    assert ssh_keys.parse(text) == (lines, [])


def test_a_private_key_is_known_by_its_first_line() -> None:
    """OpenSSH's, PEM's and PuTTY's, in UTF-16 too; a public key is none."""
    for start in ("-----BEGIN OPENSSH PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----", "PuTTY-User-Key-File-3: x"):
        assert ssh_keys.is_private(start.encode())
        assert ssh_keys.is_private(start.encode("utf-16"))
    assert not ssh_keys.is_private(ED25519.encode())


def test_a_network_is_written_as_it_is_read() -> None:
    """Quotes, backslashes and letters of all languages survive; the key as hex digits is taken, too."""
    for ssid in ('say "hi" \\ now', "Käse ☕", " spaced "):
        wifi = Wifi(ssid, "a" * 64, "GB", True)
        assert wifi_file.parse(wifi_file.normalised(wifi).decode()) == (wifi, [])


@pytest.mark.parametrize(
    "name",
    ["RESULT.txt", "readme.TXT", "mmpi.toml.example", ".DS_Store", "._mmpi.toml", "Thumbs.db", "desktop.ini",
     ".Spotlight-V100", "System Volume Information", ".Trash-1000", "MMPIZERO.TMP.1", "RESULT.new"],
)  # fmt: skip
def test_what_computers_leave_there_is_ignored(name: str) -> None:
    """No desktop's litter is an error."""
    assert is_ignored(name)


def test_odd_things_in_the_folder(tmp_path: Path) -> None:
    """A folder in a file's place, a file that is there twice, and a link are sentences; no folder is an empty one."""
    box = Box(tmp_path, mmpi__toml="", MMPI__TOML="")
    (box.folder / "hostname").mkdir()
    (box.folder / "wifi.toml").symlink_to("/etc/passwd")
    assert list(look(box.folder).errors) == [
        "hostname: is a folder or a device; allowed: a file",
        "mmpi.toml: is there twice, as MMPI.TOML and mmpi.toml; allowed: once",
        "wifi.toml: cannot be read: Too many levels of symbolic links",
    ]
    assert not look(tmp_path / "none").there
    (tmp_path / "plain").write_text("")
    assert list(look(tmp_path / "plain").errors) == ["plain: cannot be read: Not a directory"]


any_text = st.text(max_size=300)
near_text = st.text(alphabet="ACOUNTQER_KYGDI=0x12af \"'#\n\r\t[]{}.sidpahrecn-", max_size=200)


@given(st.binary(max_size=400), st.sampled_from(NAMES))
def test_no_bytes_break_the_reading(content: bytes, name: str) -> None:
    """Whatever is in a file, judging it gives errors and never an exception."""
    verdict = judge({name: content}, Stored({}, Sealer()), lambda _: [])
    assert all(isinstance(error, str) and "\n" not in error for error in verdict.errors)


@given(any_text | near_text)
def test_no_text_breaks_a_parser(text: str) -> None:
    """Each parser gives a value or errors; what it gives is allowed."""
    secrets, _ = secrets_file.parse(text)
    assert all(value.startswith("0x") and len(value) in (42, 66) for value in secrets.values())
    wifi, faults = wifi_file.parse(text)
    assert (wifi is None) == bool(faults)
    keys, _ = ssh_keys.parse(text)
    assert all(key.isprintable() for key in keys)
    text_of("x", text.encode("utf-8", "replace"))


@given(st.binary(max_size=120), st.sampled_from(ssh_keys.TYPES))
def test_no_blob_breaks_the_keys(content: bytes, kind: str) -> None:
    """A key that is no whole key is refused, with its type and not its content."""
    keys, faults = ssh_keys.parse(f"{kind} {base64.b64encode(content).decode()}")
    assert bool(keys) != bool(faults)
    inner = struct.pack(">I", len(kind)) + kind.encode() + content
    keys, faults = ssh_keys.parse(f"{kind} {base64.b64encode(inner).decode()}")
    assert bool(keys) != bool(faults)


hex_text = st.text(alphabet="0123456789abcdefABCDEF", min_size=30, max_size=80)


@given(hex_text, st.sampled_from(["{}", "{}=", "QUOTER_KEY={}x", "ACCOUNT={}"]))
def test_no_error_shows_what_stands_in_secrets(secret: str, form: str) -> None:
    """A secret in the wrong place, or a wrong one, is never repeated, nor half of it."""
    _, faults = secrets_file.parse(form.format(secret))
    assert not any(secret[:12] in fault or secret[-12:] in fault for fault in faults)
