"""Certificates for tests: an authority, and what it signs for servers and clients on this machine."""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @cached_property
    def pem(self) -> str:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @cached_property
    def key_pem(self) -> str:
        """The private key."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def server(self, *, clients: str | None = None) -> ssl.SSLContext:
        """Return what a server is made with; `clients` is the authority whose certificates it demands."""
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        with tempfile.NamedTemporaryFile() as file:
            file.write((self.pem + self.key_pem).encode())
            file.flush()
            made.load_cert_chain(file.name)
        if clients is not None:
            made.load_verify_locations(cadata=clients)
            made.verify_mode = ssl.CERT_REQUIRED
        return made


class Authority(Issued):
    """What signs certificates."""

    @classmethod
    def make(cls) -> Self:
        """Return a new authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Test authority")
        built = _builder(name, name, key, days=30).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        return cls(built.sign(key, hashes.SHA256()), key)

    def issue(self, *names: str, days: int = 30) -> Issued:
        """Return a certificate for these names or addresses; with `days` below zero it has run out."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names]
        built = _builder(_name(names[0]), self.certificate.subject, key, days=days).add_extension(
            x509.SubjectAlternativeName(alternatives), critical=False
        )
        return Issued(built.sign(self.key, hashes.SHA256()), key)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
    )
