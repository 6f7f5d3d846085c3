"""mmpi.practice.hyperliquid.tls: the authority, the certificate, and when they are made anew."""

import os
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("cryptography", reason="the practice extra (cryptography) is not installed")

from cryptography import x509  # noqa: E402

from mmpi.errors import ConfigError  # noqa: E402
from mmpi.practice.hyperliquid.tls import LEFT, VALID, server_context  # noqa: E402

NOW = datetime(2027, 1, 1, tzinfo=UTC)
FILES = {"ca.pem", "server.pem", "server.key"}


def contents(folder: Path) -> dict[str, bytes]:
    """Return what is in the folder, the lock left out."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_what_is_made(tmp_path: Path) -> None:
    """Authority, certificate and the server's key are there, private, and the authority's own key is nowhere."""
    old = os.umask(0)
    try:
        _, ca_file = server_context(tmp_path / "tls", NOW)
    finally:
        os.umask(old)
    made = contents(tmp_path / "tls")
    assert (ca_file, set(made)) == (tmp_path / "tls" / "ca.pem", FILES)
    assert (tmp_path / "tls").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "tls" / "server.key").stat().st_mode & 0o777 == 0o600
    assert b"".join(made.values()).count(b"PRIVATE KEY-----") == 2, "one key: its first and its last line"


def test_it_is_for_this_machine_alone(tmp_path: Path) -> None:
    """The certificate names localhost and both loopback addresses, serves no other end, and cannot sign others."""
    server_context(tmp_path, NOW)
    certificate = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.not_valid_after_utc == NOW + VALID


def test_it_is_used_again(tmp_path: Path) -> None:
    """A second server has the same files, so that clients need not be told twice."""
    server_context(tmp_path, NOW)
    before = contents(tmp_path)
    server_context(tmp_path, NOW + VALID - LEFT - timedelta(seconds=1))
    assert contents(tmp_path) == before


def test_servers_that_start_together_share_it(tmp_path: Path) -> None:
    """Of several that find nothing one makes the files, and all have the same authority."""
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(lambda: server_context(tmp_path)[1].read_bytes()) for _ in range(8)]
    assert len({future.result() for future in futures}) == 1


@pytest.mark.parametrize("now", [NOW + VALID - LEFT + timedelta(seconds=1), NOW - timedelta(days=2)])
def test_it_is_made_anew_in_time(tmp_path: Path, now: datetime) -> None:
    """A certificate that ends within a week, or that a clock set back has not reached, is replaced as a whole."""
    server_context(tmp_path, NOW)
    before = contents(tmp_path)
    server_context(tmp_path, now)
    assert all(contents(tmp_path)[name] != before[name] for name in FILES)


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("damage", ["gone", "torn", "foreign"])
def test_damage_is_repaired(tmp_path: Path, name: str, damage: str) -> None:
    """A file that is missing, torn or from another authority makes everything new, and it works together again."""
    server_context(tmp_path / "mine")
    server_context(tmp_path / "other")
    file = tmp_path / "mine" / name
    if damage == "gone":
        file.unlink()
    else:
        other = (tmp_path / "other" / name).read_bytes()
        file.write_bytes(other if damage == "foreign" else other[: len(other) // 2])
    context, ca_file = server_context(tmp_path / "mine")
    assert shake_hands(context, ca_file) == "TLSv1.3"


def test_a_key_that_others_could_read_is_replaced(tmp_path: Path) -> None:
    """A key file of mode 0644 is no secret any more."""
    server_context(tmp_path, NOW)
    before = contents(tmp_path)
    (tmp_path / "server.key").chmod(0o644)
    server_context(tmp_path, NOW)
    assert contents(tmp_path)["server.key"] != before["server.key"]
    assert (tmp_path / "server.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_a_strict_client_trusts_it(tmp_path: Path, name: str) -> None:
    """With every check of today's Python a client that knows the authority accepts the server under both names."""
    context, ca_file = server_context(tmp_path)
    assert shake_hands(context, ca_file, name) == "TLSv1.3"


def test_others_do_not(tmp_path: Path) -> None:
    """A client with another authority, or that asks for another machine, is not taken in."""
    context, ca_file = server_context(tmp_path / "mine")
    _, other = server_context(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(context, other)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(context, ca_file, "example.org")


def shake_hands(context: ssl.SSLContext, ca_file: Path, name: str = "localhost") -> str | None:
    """Return the version that a strict client and this server agree on, in memory."""
    trust = ssl.create_default_context(cafile=str(ca_file))
    trust.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(to_client, to_server, server_hostname=name)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.version()


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    """A file where the folder should be is one error with the option and the path."""
    (tmp_path / "tls").touch()
    with pytest.raises(ConfigError, match=f"^--tls-dir {tmp_path}/tls: cannot be used: File exists$"):
        server_context(tmp_path / "tls")


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package is one sentence, and nothing is made."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    said = "^--tls needs the package cryptography: install mmpi with its extra `practice`"
    with pytest.raises(ConfigError, match=said):
        server_context(tmp_path / "tls")
    assert not (tmp_path / "tls").exists()
