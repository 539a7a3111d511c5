"""Client certificates and authorities of an endpoint's own: checked when they are given, a TLS context when they are used."""

from __future__ import annotations

import os
import ssl
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from delivery.errors import InvalidTls
from delivery.rows import Identity
from delivery.timings import TimedTls


def read_identity(certificate: str | None, private_key: str | None, ca: str | None) -> Identity:
    """Return certificates that can be read, and whose key belongs to the first one; raises InvalidTls."""
    if ca is not None:
        _certificates(ca, "ca")
    if (certificate is None) != (private_key is None):
        raise InvalidTls("private_key", "`certificate` and `private_key` go together")
    if certificate is None or private_key is None:
        return Identity(ca=ca)
    identity = Identity(certificate=certificate, ca=ca)
    leaf = _certificates(certificate, "certificate")[0]
    try:
        key = load_pem_private_key(private_key.encode(), password=None)
    except (ValueError, TypeError):
        raise InvalidTls("private_key", "this is no private key in PEM, or it has a password") from None
    shown = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*shown) != leaf.public_key().public_bytes(*shown):
        raise InvalidTls("private_key", "the private key is not the certificate's")
    try:
        context(identity, private_key)
    except (ssl.SSLError, ValueError):
        raise InvalidTls("certificate", "OpenSSL does not take this certificate or its key") from None
    return Identity(certificate=certificate, ca=ca, expires_at=round(leaf.not_valid_after_utc.timestamp()) * 1_000_000)


def context(identity: Identity | None, private_key: str | None) -> ssl.SSLContext:
    """Return what connections to an endpoint are made with: TLS 1.2 or newer, names checked."""
    made = ssl.create_default_context(cadata=None if identity is None else identity.ca)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.sslobject_class = TimedTls
    if identity is not None and identity.certificate is not None and private_key is not None:
        _load(made, identity.certificate, private_key)
    return made


def _load(made: ssl.SSLContext, certificate: str, private_key: str) -> None:
    # OpenSSL reads keys from files only. This one has no name and is gone with the descriptor.
    pem = f"{certificate}\n{private_key}".encode()
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, pem)
            made.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        made.load_cert_chain(file.name)


def _certificates(pem: str, member: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise InvalidTls(member, "these are no certificates in PEM") from None
