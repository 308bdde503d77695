"""The certificates of a cloud: an authority of its own, and what it issues for the servers.

Nothing here opens a file or reads a clock; :mod:`sim.cloud.tls_identity` does. Keys are EC P-256. The
extensions are those of RFC 5280, so that strict verifiers (OpenSSL's X509_STRICT) find nothing missing.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sim.cloud.errors import AddressError, CloudError

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
GIZWITS_NAMES: Final = (
    *("api.gizwits.com", "euapi.gizwits.com", "usapi.gizwits.com"),
    *("m2m.gizwits.com", "sandbox.gizwits.com"),
    *("eum2m.gizwits.com", "eusandbox.gizwits.com"),
    *("usm2m.gizwits.com", "ussandbox.gizwits.com"),
    *("enterpriseapi.gizwits.com", "snoti.gizwits.com", "noti.gizwits.com"),
)
"""Names under which clients know the real service (open-api.md §1, §19; websocket-api.md §1; snoti.md §2)."""

DAY: Final = 86400
AUTHORITY_DAYS: Final = 3652
SERVER_DAYS: Final = 396
"""Browsers and Apple refuse what is valid for more than 397 days; one is before now, for slow clocks."""
RENEW_DAYS: Final = 90
"""A certificate that ends sooner is replaced: a cloud may run for long after its start."""

_UNUSABLE: Final = (
    *(x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
    *(InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError),
)
"""What cryptography raises about a certificate that it can read, but not use."""
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


class CertificateError(CloudError, ValueError):
    """A certificate or private key that cannot be used."""


@dataclasses.dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate with its private key, and the certificates that clients may need to get to its issuer."""

    certificate: x509.Certificate
    key: PrivateKeyTypes = dataclasses.field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()

    @classmethod
    def read(cls, pem: bytes) -> Self:
        """Read :attr:`pem`.

        :raises CertificateError: as :func:`read_certificates`, :func:`read_key` and :meth:`joined`.
        """
        return cls.joined(read_certificates(pem), read_key(pem))

    @classmethod
    def joined(cls, certificates: Sequence[x509.Certificate], key: PrivateKeyTypes) -> Self:
        """A certificate, followed by its chain, and the key that belongs to it.

        :raises CertificateError: it does not.
        """
        certificate, *chain = certificates
        if _public(key) != _public(certificate):
            if any(_public(key) == _public(other) for other in chain):
                raise CertificateError("the certificate that the key belongs to has to be the first one")
            raise CertificateError("the private key does not belong to the certificate")
        return cls(certificate, key, tuple(chain))

    @property
    def pem(self) -> bytes:
        """Key, certificate and chain: one text, so that they cannot get out of step."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key + b"".join(one.public_bytes(Encoding.PEM) for one in (self.certificate, *self.chain))

    def ends_within(self, days: float, now: float) -> bool:
        """Whether it is no longer valid so many days from now."""
        return self.certificate.not_valid_after_utc.timestamp() < now + days * DAY

    def is_early(self, now: float) -> bool:
        """Whether it is not valid yet."""
        return self.certificate.not_valid_before_utc.timestamp() > now

    def covers(self, names: Iterable[x509.GeneralName]) -> bool:
        """Whether every one of the names is in its subject alternative names."""
        try:
            known = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except _UNUSABLE:
            return False
        return set(names) <= set(known)


class Authority:
    """A certificate authority for one cloud. Clients that trust it trust everything that it issues.

    :raises CertificateError: its key is no EC key.
    """

    def __init__(self, pair: KeyPair) -> None:
        if not isinstance(pair.key, ec.EllipticCurvePrivateKey):
            raise CertificateError("the key of the authority is no EC key")
        self.pair: Final = pair
        self._key = pair.key

    @classmethod
    def make(cls, now: float) -> Self:
        """A new one, for ten years."""
        key = ec.generate_private_key(ec.SECP256R1())
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        # Each has a name of its own: stores of trusted certificates tell them apart by it.
        name = _name(f"gizsim local CA {identifier.digest.hex()[:8]}")
        start = _time(now - DAY)
        certificate = (
            _builder(key, subject=name, issuer=name)
            .not_valid_before(start)
            .not_valid_after(start + dt.timedelta(days=AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(identifier, critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(KeyPair(certificate, key))

    @classmethod
    def read(cls, pem: bytes) -> Self:
        """Read the :attr:`KeyPair.pem` of one.

        :raises CertificateError: it is none. The message is the end of a sentence.
        """
        pair = KeyPair.read(pem)
        certificate = pair.certificate
        try:
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
            usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
            certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
            certificate.verify_directly_issued_by(certificate)
        except _UNUSABLE as error:
            raise CertificateError("it holds no certificate of an authority") from error
        if not (constraints.ca and usage.key_cert_sign):
            raise CertificateError("it holds no certificate of an authority")
        return cls(pair)

    @property
    def certificate_pem(self) -> bytes:
        """What clients have to trust."""
        return self.pair.certificate.public_bytes(Encoding.PEM)

    def issue(self, names: Iterable[x509.GeneralName], now: float) -> KeyPair:
        """A certificate for servers under these names, with a new key."""
        key = ec.generate_private_key(ec.SECP256R1())
        mine, start = self.pair.certificate, _time(now - DAY)
        identifier = mine.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        end = min(start + dt.timedelta(days=SERVER_DAYS), mine.not_valid_after_utc)
        certificate = (
            _builder(key, subject=_name("localhost"), issuer=mine.subject)
            .not_valid_before(start)
            .not_valid_after(max(end, start))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return KeyPair(certificate, key)

    def issued(self, pair: KeyPair) -> bool:
        """Whether a certificate is from this authority."""
        try:
            pair.certificate.verify_directly_issued_by(self.pair.certificate)
        except _UNUSABLE:
            return False
        return True


def general_name(host: str) -> x509.GeneralName:
    """A host as it stands in a certificate: an IP address or a DNS name.

    :raises AddressError: it is neither.
    """
    text = host.strip().removeprefix("[").removesuffix("]")
    try:
        return x509.IPAddress(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        pass
    try:
        name = text.removesuffix(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        name = ""
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise AddressError(f"{host!r} is no host name and no IP address, so no certificate can be for it")
    return x509.DNSName(name)


def general_names(hosts: Iterable[str]) -> tuple[x509.GeneralName, ...]:
    """What a certificate of the cloud is for: this machine, the real service's names, and these hosts.

    :raises AddressError: one is neither a name nor an address.
    """
    return tuple(dict.fromkeys(general_name(host) for host in (*LOCAL_NAMES, *GIZWITS_NAMES, *hosts)))


def read_certificates(pem: bytes) -> list[x509.Certificate]:
    """The certificates of a text in PEM form.

    :raises CertificateError: there is none, or one is damaged. The message is the end of a sentence.
    """
    try:
        return x509.load_pem_x509_certificates(pem)
    except (x509.InvalidVersion, ValueError) as error:
        raise CertificateError(f"it holds no certificate in PEM form{_hint(pem, 'x509')}") from error


def read_key(pem: bytes) -> PrivateKeyTypes:
    """The private key of a text in PEM form.

    :raises CertificateError: there is none, or it is damaged or encrypted. The message is the end of a
        sentence.
    """
    try:
        return load_pem_private_key(pem, None)
    except TypeError as error:
        raise CertificateError(
            "the private key is encrypted; write a plain one with: openssl pkey -in KEY -out PLAIN"
        ) from error
    except UnsupportedAlgorithm as error:
        raise CertificateError("the private key is of an unknown kind") from error
    except ValueError as error:
        raise CertificateError(f"it holds no private key in PEM form{_hint(pem, 'pkey')}") from error


def _hint(data: bytes, command: str) -> str:
    if data[:1] == b"\x30":  # DER
        return f"; convert it with: openssl {command} -inform DER -in FILE -out PEM"
    return ""


def _public(owner: PrivateKeyTypes | x509.Certificate) -> bytes:
    try:
        return owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (UnsupportedAlgorithm, ValueError) as error:
        raise CertificateError("its public key is of an unknown kind") from error


def _builder(
    key: ec.EllipticCurvePrivateKey, *, subject: x509.Name, issuer: x509.Name
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
    )


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "gizsim"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _time(now: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(now), dt.UTC)
