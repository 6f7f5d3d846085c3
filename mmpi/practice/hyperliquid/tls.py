"""TLS for the practice venue: a certificate authority of its own, and a certificate for this machine.

Invariant: the authority's private key is never written, so that nobody can make a second certificate that a client of
this server would trust; the server's key is in a file of mode 0600. It must not know servers or requests.

The files are made anew when they end soon, are damaged, or others could read the key; clients then read the new CA file
under the old name.
"""

import fcntl
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmpi.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

CA_FILE: Final = "ca.pem"
CERTIFICATE_FILE: Final = "server.pem"
KEY_FILE: Final = "server.key"
LOCK_FILE: Final = ".lock"
NAMES: Final = ("localhost",)
ADDRESSES: Final = ("127.0.0.1", "::1")
VALID: Final = timedelta(days=365)
LEFT: Final = timedelta(days=7)
"""With less the files are made anew: no server should outlive its certificate."""
EARLY: Final = timedelta(days=1)
"""The certificate is valid since then: a client's clock may be behind."""


def server_context(folder: Path, now: datetime | None = None) -> tuple[ssl.SSLContext, Path]:
    """Return the server's side of TLS and the file of the authority that clients are to trust.

    ConfigError if the package is not there or the folder cannot be used. `now` is a time with its zone.
    """
    try:
        import cryptography  # noqa: F401
    except ImportError:
        how = "install mmpi with its extra `practice` (in a checkout: make setup)"
        raise ConfigError(f"--tls needs the package cryptography: {how}") from None
    at = now or datetime.now(UTC)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder / LOCK_FILE):
            if not _usable(folder, at):
                _make(folder, at)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(folder / CERTIFICATE_FILE, folder / KEY_FILE)
    except OSError as error:
        raise ConfigError(f"--tls-dir {folder}: cannot be used: {error.strerror or error}") from None
    return context, folder / CA_FILE


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one server at a time look at the files and make them."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _usable(folder: Path, now: datetime) -> bool:
    """Return whether the files are there, belong together and last."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        if (folder / KEY_FILE).stat().st_mode & 0o077:
            return False
        authority, certificate = (
            x509.load_pem_x509_certificate((folder / name).read_bytes()) for name in (CA_FILE, CERTIFICATE_FILE)
        )
        key = load_pem_private_key((folder / KEY_FILE).read_bytes(), None)
        certificate.verify_directly_issued_by(authority)
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return (
            key.public_key().public_bytes(*spki) == certificate.public_key().public_bytes(*spki)
            and alternative == _alternative()
            and all(each.not_valid_before_utc <= now for each in (authority, certificate))
            and all(each.not_valid_after_utc >= now + LEFT for each in (authority, certificate))
        )
    except (FileNotFoundError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False


def _make(folder: Path, now: datetime) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _authority(authority_key, now)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(key.public_key(), authority, authority_key, now)
    _write(folder / KEY_FILE, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _write(folder / CERTIFICATE_FILE, certificate.public_bytes(Encoding.PEM), 0o644)
    _write(folder / CA_FILE, authority.public_bytes(Encoding.PEM), 0o644)


def _authority(key: "ec.EllipticCurvePrivateKey", now: datetime) -> "x509.Certificate":
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    name = _name("mmpi practice authority")
    builder = _builder(name, name, key.public_key(), now)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return builder.sign(key, SHA256())


def _certificate(
    key: "ec.EllipticCurvePublicKey",
    authority: "x509.Certificate",
    authority_key: "ec.EllipticCurvePrivateKey",
    now: datetime,
) -> "x509.Certificate":
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509.oid import ExtendedKeyUsageOID

    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = _builder(_name("mmpi practice venue"), authority.subject, key, now)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(issuer, critical=False)
    return builder.add_extension(_alternative(), critical=False).sign(authority_key, SHA256())


def _builder(
    subject: "x509.Name", issuer: "x509.Name", key: "ec.EllipticCurvePublicKey", now: datetime
) -> "x509.CertificateBuilder":
    from cryptography import x509

    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), now - EARLY, now + VALID)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs_certificates: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> "x509.Name":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative() -> "x509.SubjectAlternativeName":
    from cryptography import x509

    names = [x509.DNSName(name) for name in NAMES]
    return x509.SubjectAlternativeName([*names, *(x509.IPAddress(ip_address(each)) for each in ADDRESSES)])


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    fresh.replace(path)
