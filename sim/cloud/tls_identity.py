"""Who the cloud is over TLS: its certificates in the data directory, in memory, or the user's own."""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Self, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gizserial.errors import CaptureError
from gizserial.io.files import atomic_writer, os_sentence
from sim.cloud.certificates import (
    RENEW_DAYS,
    Authority,
    CertificateError,
    KeyPair,
    general_name,
    general_names,
    read_certificates,
    read_key,
)
from sim.cloud.errors import AddressError, StoreError
from sim.cloud.tls_files import CA, MAX_SIZE, TlsFolder, Told, write_private

HTTP: Final = ("http/1.1",)
"""What the HTTPS and WebSocket servers speak (ALPN)."""

T = TypeVar("T")

_EVERYWHERE: Final = frozenset({"0.0.0.0", "::"})
_ROUTES: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses of documentation: nothing is sent to them."""


def machine_names() -> list[str]:
    """Names and addresses under which others reach this machine, without asking anybody."""
    name = socket.gethostname().partition(".")[0]
    names = [socket.gethostname(), f"{name}.local"] if name else []
    for family, there in _ROUTES:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((there, 9))
            names.append(str(probe.getsockname()[0]))
    return [one for one in names if _is_name(one)]


class TlsIdentity:
    """Certificate and key of the servers, and what clients have to trust.

    Make it with :meth:`kept` or :meth:`own`; :meth:`close` it in the end.

    """

    def __init__(
        self,
        pair: KeyPair,
        *,
        authority: Authority | None,
        names: tuple[x509.GeneralName, ...] = (),
        folder: TlsFolder | None = None,
    ) -> None:
        self._pair, self._authority, self._names, self._folder = pair, authority, names, folder
        self._contexts: list[ssl.SSLContext] = []
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def kept(
        cls,
        data: Path | None,
        *,
        hosts: Iterable[str] = (),
        now: float,
        told: Told,
        machine: Callable[[], Sequence[str]] = machine_names,
    ) -> Self:
        """The cloud's own: read from the data directory, made where missing, renewed where needed.

        :param data: The data directory; None keeps everything in memory.
        :param hosts: Where the servers listen and what clients are told: names and IP addresses. An address
            that stands for all of them (``0.0.0.0``) stands for what ``machine`` gives.
        :param now: Unix seconds.
        :param told: Takes one sentence for the user: a damaged file was set aside, a certificate was renewed.
        :raises AddressError: a host is neither a name nor an address.
        :raises StoreError: the files cannot be read or written.
        """
        plain = [host.strip().strip("[]") for host in hosts]
        if not _EVERYWHERE.isdisjoint(plain):
            plain += machine()
        names = general_names(host for host in plain if host and host not in _EVERYWHERE)
        if data is None:
            authority = Authority.make(now)
            return cls(authority.issue(names, now), authority=authority, names=names)
        folder = TlsFolder(data, told=told)
        authority, is_new = folder.authority(now)
        pair = folder.server(authority, names, now, is_new=is_new)
        return cls(pair, authority=authority, names=names, folder=folder)

    @classmethod
    def own(cls, certificate: Path, key: Path | None = None, *, now: float, told: Told) -> Self:
        """The user's own, in PEM form: the certificate of the server first, then its chain.

        :param key: None when the key is in the same file.
        :param now: Unix seconds.
        :param told: Takes one sentence for the user: it is expired, or not valid yet.
        :raises CertificateError: they cannot be read, are damaged, or do not belong together.
        """
        certificates = _own(certificate, read_certificates)
        private = _own(key or certificate, read_key)
        try:
            pair = KeyPair.joined(certificates, private)
            _load(_new_context(), pair)
        except CertificateError as error:
            raise CertificateError(f"{certificate}{f' and {key}' if key else ''}: {error}") from error
        except ssl.SSLError as error:
            raise CertificateError(
                f"{certificate}: the TLS library refuses it: {error.reason or error}"
            ) from error
        if pair.ends_within(0, now):
            ended = pair.certificate.not_valid_after_utc
            told(f"the certificate {certificate} expired on {ended:%Y-%m-%d}; clients will refuse it")
        elif pair.is_early(now):
            begins = pair.certificate.not_valid_before_utc
            told(
                f"the certificate {certificate} is valid from {begins:%Y-%m-%d} on; clients refuse it until"
                " then"
            )
        return cls(pair, authority=None)

    @property
    def certificate(self) -> x509.Certificate:
        """What the servers show."""
        return self._pair.certificate

    @property
    def ca_pem(self) -> bytes | None:
        """What clients have to trust; None when that is not in the user's file."""
        if self._authority is not None:
            return self._authority.certificate_pem
        last = (self._pair.certificate, *self._pair.chain)[-1]
        return last.public_bytes(Encoding.PEM) if last.subject == last.issuer else None

    @property
    def ca_file(self) -> Path | None:
        """A file with :attr:`ca_pem`; of a cloud in memory it goes with :meth:`close`."""
        if self._folder is not None:
            return self._folder.ca
        if self.ca_pem is None:
            return None
        if self._temporary is None:
            self._temporary = _temporary_directory()
            write_private(Path(self._temporary.name) / CA, self.ca_pem)
        return Path(self._temporary.name) / CA

    def write_ca(self, path: Path) -> None:
        """Write :attr:`ca_pem` for clients, whole or not at all.

        :raises CertificateError: there is none to write, or it cannot be written.
        """
        if self.ca_pem is None:
            raise CertificateError(
                f"there is no CA certificate to write to {path}: the issuer of your own certificate is not in"
                " its file"
            )
        try:
            with atomic_writer(path) as file:
                file.write(self.ca_pem)
        except CaptureError as error:
            raise CertificateError(f"the CA certificate cannot be written: {error}") from error

    def server_context(self, *, alpn: Sequence[str] = HTTP) -> ssl.SSLContext:
        """For servers: TLS 1.2 and 1.3, no certificate of the client.

        :param alpn: Application protocols; none for what is no HTTP (SNoti).
        """
        context = _new_context()
        if alpn:
            context.set_alpn_protocols(list(alpn))
        _load(context, self._pair)
        self._contexts.append(context)
        return context

    def renew(self, now: float) -> bool:
        """Replace the certificate if it ends soon, in every context given out; whether it was replaced.

        Connections that exist go on. The authority stays. The user's own certificate is his business.

        :raises StoreError: the new one cannot be kept.
        """
        if self._authority is None or not self._pair.ends_within(RENEW_DAYS, now):
            return False
        pair = self._authority.issue(self._names, now)
        if self._folder is not None:
            self._folder.keep_server(pair)
        self._pair = pair
        for context in self._contexts:
            _load(context, self._pair)
        return True

    def close(self) -> None:
        """Remove the temporary files. Contexts that were given out stay usable."""
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None


def _own(path: Path, read: Callable[[bytes], T]) -> T:
    """Read a file of the user's."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        raise CertificateError(f"{path} cannot be read: {os_sentence(error)}") from error
    if len(data) > MAX_SIZE:
        raise CertificateError(f"{path} is too large for a certificate or key")
    try:
        return read(data)
    except CertificateError as error:
        raise CertificateError(f"{path}: {error}") from error


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Many clients just close the connection; with OpenSSL 3 that would be an error.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


def _load(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Have new connections show this certificate."""
    # The module ssl reads files only. This one is private and gone at once.
    with _temporary_directory() as directory:
        file = Path(directory) / "server.pem"
        write_private(file, pair.pem)
        context.load_cert_chain(file)


def _temporary_directory() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="gizsim-")
    except OSError as error:
        raise StoreError(
            f"there is no directory for temporary files: {error.strerror or error}; name one with TMPDIR"
        ) from error


def _is_name(text: str) -> bool:
    try:
        general_name(text)
    except AddressError:
        return False
    return True
