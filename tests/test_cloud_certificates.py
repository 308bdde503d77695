"""The cloud's certificates: who accepts them, how long they live, what a damaged file does."""

from __future__ import annotations

import base64
import datetime as dt
import shutil
import ssl
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from support_tls import shake, strict_client

from sim.cloud.certificates import GIZWITS_NAMES, Authority, CertificateError, KeyPair, general_names
from sim.cloud.errors import AddressError, StoreError
from sim.cloud.tls_identity import TlsIdentity, machine_names
from sim.cloud.trust import trust_text

NOW = 1_760_000_000.0
DAY = 86400
HOSTS = ("Bench.Lan.", "192.168.7.5", "[fd00::7]", "fe80::1%eth0", "b\u00fccher.example", "my_host")


class Kept:
    """Opens the identity of one data directory again and again."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.told: list[str] = []

    def __call__(self, *hosts: str, now: float = NOW) -> TlsIdentity:
        self.told.clear()
        return TlsIdentity.kept(self.data, hosts=hosts, now=now, told=self.told.append, machine=list)

    def file(self, name: str) -> Path:
        return self.data / "tls" / name


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "data")


def in_memory(*hosts: str, now: float | None = None) -> TlsIdentity:
    told: list[str] = []
    made = TlsIdentity.kept(
        None, hosts=hosts, now=time.time() if now is None else now, told=told.append, machine=list
    )
    assert not told
    return made


@pytest.fixture(scope="module")
def today() -> Iterator[TlsIdentity]:
    identity = in_memory(*HOSTS)
    yield identity
    identity.close()


# --- who accepts them


@pytest.mark.parametrize(
    "name",
    [
        *("localhost", "127.0.0.1", "::1"),
        *("api.gizwits.com", "euapi.gizwits.com", "usapi.gizwits.com"),  # open-api.md §1
        *("m2m.gizwits.com", "sandbox.gizwits.com", "eum2m.gizwits.com", "eusandbox.gizwits.com"),
        *("usm2m.gizwits.com", "ussandbox.gizwits.com"),  # websocket-api.md §1
        *("enterpriseapi.gizwits.com", "snoti.gizwits.com", "noti.gizwits.com"),
        *("bench.lan", "192.168.7.5", "fd00::7", "fe80::1", "b\u00fccher.example", "my_host"),
    ],
)
def test_a_strict_client_accepts_every_name(today: TlsIdentity, name: str) -> None:
    connection = shake(today.server_context(), strict_client(today.ca_pem), name)
    assert connection.version() == "TLSv1.3"


def test_no_other_name_and_no_other_authority(today: TlsIdentity) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake(today.server_context(), strict_client(today.ca_pem), "www.gizwits.com")
    other = Authority.make(time.time())
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        shake(today.server_context(), strict_client(other.certificate_pem), "localhost")


def test_versions_of_tls(today: TlsIdentity) -> None:
    server, client = today.server_context(), strict_client(today.ca_pem)
    assert server.minimum_version is ssl.TLSVersion.TLSv1_2
    assert server.verify_mode is ssl.CERT_NONE
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shake(server, client, "localhost").version() == "TLSv1.2"


@pytest.mark.parametrize(
    ("served", "offered", "chosen"),
    [
        (("http/1.1",), ["h2", "http/1.1"], "http/1.1"),
        (("http/1.1",), [], None),
        (("http/1.1",), ["h2"], None),
        ((), ["http/1.1"], None),
    ],
)
def test_application_protocols(
    today: TlsIdentity, served: tuple[str, ...], offered: list[str], chosen: str | None
) -> None:
    client = strict_client(today.ca_pem)
    if offered:
        client.set_alpn_protocols(offered)
    connection = shake(today.server_context(alpn=served), client, "localhost")
    assert connection.selected_alpn_protocol() == chosen


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_verifies(kept: Kept) -> None:
    kept("bench.lan", now=time.time())
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "bench.lan"]
    command += ["-CAfile", str(kept.file("ca.pem")), str(kept.file("server.pem"))]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_stands_in_the_certificates(today: TlsIdentity) -> None:
    ca = x509.load_pem_x509_certificate(today.ca_pem or b"")
    leaf = today.certificate

    def extension(of: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.Extension[x509.ExtensionType]:
        return of.extensions.get_extension_for_class(kind)

    for certificate, is_ca in ((ca, True), (leaf, False)):
        constraints = extension(certificate, x509.BasicConstraints)
        usage = extension(certificate, x509.KeyUsage)
        assert (constraints.critical, usage.critical) == (True, True)
        assert isinstance(constraints.value, x509.BasicConstraints)
        assert isinstance(usage.value, x509.KeyUsage)
        assert constraints.value.ca is usage.value.key_cert_sign is is_ca
        assert usage.value.digital_signature is not is_ca
        assert certificate.serial_number.bit_length() > 64
    identifier = extension(ca, x509.SubjectKeyIdentifier).value
    authority = extension(leaf, x509.AuthorityKeyIdentifier).value
    assert isinstance(identifier, x509.SubjectKeyIdentifier)
    assert isinstance(authority, x509.AuthorityKeyIdentifier)
    assert authority.key_identifier == identifier.digest
    assert extension(leaf, x509.ExtendedKeyUsage).value == x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.SERVER_AUTH]
    )
    # Apple and the browsers: no more than 397 days.
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= dt.timedelta(days=397)
    assert ca.not_valid_after_utc - ca.not_valid_before_utc > dt.timedelta(days=3650)
    assert ca.not_valid_before_utc <= leaf.not_valid_before_utc
    assert len(GIZWITS_NAMES) == 12


def test_every_authority_has_a_name_and_a_serial_of_its_own() -> None:
    one, other = (Authority.make(NOW).pair.certificate for _ in range(2))
    assert one.subject != other.subject
    assert one.serial_number != other.serial_number


def test_an_address_for_everything_stands_for_this_machine() -> None:
    identity = TlsIdentity.kept(
        None, hosts=["0.0.0.0"], now=NOW, told=print, machine=lambda: ["desk.local", "10.1.2.3"]
    )
    names = identity.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(general_names(["desk.local", "10.1.2.3"])) == set(names)


def test_the_names_of_this_machine_can_stand_in_a_certificate() -> None:
    assert general_names(machine_names())


@pytest.mark.parametrize(
    "host", ["two words", "-a.lan", "a..b", "*.lan", "x" * 64, "a." * 127 + "b", "http://a"]
)
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(AddressError, match="no host name and no IP address"):
        in_memory(host)


# --- how long they live


def test_a_restart_keeps_both(kept: Kept) -> None:
    first = kept("bench.lan")
    again = kept("bench.lan", now=NOW + 200 * DAY)
    assert (again.ca_pem, again.certificate) == (first.ca_pem, first.certificate)
    assert kept().certificate == first.certificate  # fewer hosts need no new one
    assert kept.told == []
    assert first.ca_file == kept.file("ca.pem")
    assert kept.file("ca.pem").read_bytes() == first.ca_pem
    assert b"PRIVATE" not in kept.file("ca.pem").read_bytes()


def test_only_the_owner_reads_them(kept: Kept) -> None:
    kept()
    kept.file("authority.pem").chmod(0o644)
    kept()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in kept.file("").iterdir()}
    assert modes == {"authority.pem": 0o600, "server.pem": 0o600, "ca.pem": 0o600}
    assert stat.S_IMODE(kept.file("").stat().st_mode) == 0o700
    assert stat.S_IMODE(kept.data.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("hosts", "now"),
    [((), NOW + 310 * DAY), ((), NOW + 1000 * DAY), ((), NOW - 30 * DAY), (("new.lan",), NOW)],
    ids=["ends soon", "ended", "clock set back", "another host"],
)
def test_the_servers_certificate_is_renewed(kept: Kept, hosts: tuple[str, ...], now: float) -> None:
    first = kept()
    again = kept(*hosts, now=now)
    assert again.ca_pem == first.ca_pem
    assert again.certificate != first.certificate
    assert again.certificate.not_valid_before_utc.timestamp() <= now
    assert again.certificate.not_valid_after_utc.timestamp() > now + 300 * DAY
    assert kept(*hosts, now=now).certificate == again.certificate
    assert ["clock" in text for text in kept.told] == ([True] if now < NOW else [])


def test_renewed_while_it_runs(kept: Kept) -> None:
    identity = kept(now=time.time())
    context, client = identity.server_context(), strict_client(identity.ca_pem)
    before = shake(context, client, "localhost").getpeercert()
    assert not identity.renew(time.time())
    later = time.time() + 310 * DAY
    assert identity.renew(later)
    assert kept(now=later).certificate == identity.certificate
    # The new one is from tomorrow on only, seen from today: compare what is sent.
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    shown = shake(context, client, "localhost").getpeercert(binary_form=True)
    assert shown == identity.certificate.public_bytes(Encoding.DER)
    assert before


def test_an_authority_that_ends_is_replaced_and_kept(kept: Kept) -> None:
    first = kept()
    old = kept.file("authority.pem").read_bytes()
    again = kept(now=NOW + 3600 * DAY)
    assert again.ca_pem != first.ca_pem
    assert len(kept.told) == 1
    assert "ends on 2035-10-08, so a new authority was made" in kept.told[0]
    assert kept.file("authority.pem.ended-1").read_bytes() == old
    assert kept.file("ca.pem").read_bytes() == again.ca_pem


# --- damage


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda _pem: b"", "no certificate"),
        (lambda pem: pem[: len(pem) // 2], "no certificate"),
        (lambda pem: pem[pem.index(b"-----BEGIN CERT") :], "no private key"),
        (lambda _pem: b"\xff" * 100, "no certificate"),
        (lambda _pem: b"x" * 300_000, "too large"),
        (
            lambda pem: (
                Authority.make(NOW).pair.pem.split(b"-----BEGIN CERT")[0]
                + b"-----BEGIN CERT"
                + pem.split(b"-----BEGIN CERT")[1]
            ),
            "does not belong",
        ),
        (
            lambda _pem: Authority.make(NOW).issue(general_names([]), NOW).pem,
            "no certificate of an authority",
        ),
    ],
    ids=["empty", "cut", "no key", "noise", "large", "another key", "a server's"],
)
def test_a_damaged_authority_is_set_aside(kept: Kept, damage: Callable[[bytes], bytes], reason: str) -> None:
    first = kept()
    damaged = damage(kept.file("authority.pem").read_bytes())
    kept.file("authority.pem").write_bytes(damaged)
    again = kept()
    (sentence,) = kept.told
    assert reason in sentence
    assert "it was kept as authority.pem.damaged-1, clients have to be told to trust the new" in sentence
    assert kept.file("authority.pem.damaged-1").read_bytes() == damaged
    assert again.ca_pem != first.ca_pem
    assert again.certificate.issuer == x509.load_pem_x509_certificate(again.ca_pem or b"").subject
    assert kept().certificate == again.certificate
    assert kept.told == []


def test_a_damaged_certificate_of_the_servers(kept: Kept) -> None:
    first = kept()
    kept.file("server.pem").write_bytes(b"noise")
    again = kept()
    assert len(kept.told) == 1
    assert "it was kept as server.pem.damaged-1, a new one was made" in kept.told[0]
    assert again.ca_pem == first.ca_pem


def test_a_certificate_of_another_authority(kept: Kept) -> None:
    first = kept()
    kept.file("server.pem").write_bytes(Authority.make(NOW).issue(general_names([]), NOW).pem)
    again = kept()
    assert len(kept.told) == 1
    assert "was not issued by" in kept.told[0]
    assert again.ca_pem == first.ca_pem
    assert again.certificate.issuer == first.certificate.issuer


def test_an_authority_that_is_missing(kept: Kept) -> None:
    kept()
    kept.file("authority.pem").unlink()
    kept()
    assert len(kept.told) == 1
    assert "authority.pem is missing, so a new authority was made" in kept.told[0]


def test_the_copy_for_clients_is_always_right(kept: Kept) -> None:
    kept()
    kept.file("ca.pem").write_bytes(b"noise")
    assert kept().ca_pem == kept.file("ca.pem").read_bytes()
    assert kept.told == []


def test_what_is_in_the_way(kept: Kept) -> None:
    kept.data.mkdir()
    (kept.data / "tls").touch()
    with pytest.raises(StoreError, match="it is a file; name another one with --data"):
        kept()
    (kept.data / "tls").unlink()
    kept.file(".server.pem.new").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"server\.pem cannot be written"):
        kept()
    kept.file(".server.pem.new").rmdir()
    kept.file("server.pem").mkdir()
    kept()
    assert len(kept.told) == 1
    assert "no regular file" in kept.told[0]


def test_what_a_crash_left_is_overwritten(kept: Kept) -> None:
    first = kept()
    kept.file(".server.pem.new").write_bytes(b"half")
    assert kept("new.lan").ca_pem == first.ca_pem
    assert not kept.file(".server.pem.new").exists()


# --- in memory


def test_in_memory_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    identity = in_memory()
    context = identity.server_context()
    assert list(tmp_path.iterdir()) == []
    path = identity.ca_file
    assert path is not None
    assert path == identity.ca_file
    assert path.read_bytes() == identity.ca_pem
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    identity.close()
    identity.close()
    assert list(tmp_path.iterdir()) == []
    shake(context, strict_client(identity.ca_pem), "localhost")


def test_no_directory_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StoreError, match="name one with TMPDIR"):
        in_memory().server_context()


def test_the_ca_for_clients(today: TlsIdentity, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("old")
    today.write_ca(path)
    assert path.read_bytes() == today.ca_pem
    with pytest.raises(CertificateError, match="its directory does not exist"):
        today.write_ca(tmp_path / "missing" / "ca.pem")


# --- the user's own


class Own:
    """Files of a user with a certificate of his own."""

    def __init__(self, directory: Path, pair: KeyPair, root: Authority) -> None:
        self.pair, self.root = pair, root
        self.certificate, self.key = directory / "cert.pem", directory / "key.pem"
        self.certificate.write_bytes(pair.certificate.public_bytes(Encoding.PEM))
        self.key.write_bytes(pair.pem.split(b"-----BEGIN CERT")[0])
        self.told: list[str] = []

    def open(self, now: float | None = None) -> TlsIdentity:
        now = time.time() if now is None else now
        return TlsIdentity.own(self.certificate, self.key, now=now, told=self.told.append)

    def refused(self) -> str:
        with pytest.raises(CertificateError) as caught:
            self.open()
        return str(caught.value)


@pytest.fixture
def own(tmp_path: Path) -> Own:
    root = Authority.make(time.time())
    return Own(tmp_path, root.issue(general_names(["mine.lan"]), time.time()), root)


def test_own_certificate(own: Own, tmp_path: Path) -> None:
    identity = own.open()
    assert own.told == []
    shake(identity.server_context(), strict_client(own.root.certificate_pem), "mine.lan")
    assert not identity.renew(time.time() + 1000 * DAY)
    assert (identity.ca_pem, identity.ca_file) == (None, None)
    with pytest.raises(CertificateError, match="there is no CA certificate to write"):
        identity.write_ca(tmp_path / "ca.pem")


def test_own_chain_and_key_in_one_file(own: Own) -> None:
    own.certificate.write_bytes(own.pair.pem + own.root.certificate_pem)
    identity = TlsIdentity.own(own.certificate, now=time.time(), told=own.told.append)
    assert identity.ca_pem == own.root.certificate_pem
    shake(identity.server_context(), strict_client(identity.ca_pem), "mine.lan")
    path = identity.ca_file
    assert path is not None
    assert path.read_bytes() == identity.ca_pem
    identity.close()


def test_own_certificate_out_of_its_time(own: Own) -> None:
    own.open(now=time.time() + 400 * DAY)
    own.open(now=time.time() - 400 * DAY)
    assert ["expired on" in text for text in own.told] == [True, False]
    assert "clients refuse it until then" in own.told[1]


def test_own_certificate_that_cannot_be_used(own: Own) -> None:
    plain = load_pem_private_key(own.key.read_bytes(), None)
    for locked in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        own.key.write_bytes(plain.private_bytes(Encoding.PEM, locked, BestAvailableEncryption(b"secret")))
        assert own.refused() == (
            f"{own.key}: the private key is encrypted; write a plain one with: openssl pkey -in KEY -out"
            " PLAIN"
        )
    own.key.write_bytes(plain.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    assert "no private key in PEM form; convert it with: openssl pkey -inform DER" in own.refused()
    own.key.write_bytes(own.certificate.read_bytes())
    assert own.refused() == f"{own.key}: it holds no private key in PEM form"
    own.key.write_bytes(own.root.pair.pem)
    assert (
        own.refused()
        == f"{own.certificate} and {own.key}: the private key does not belong to the certificate"
    )
    own.certificate.write_bytes(own.certificate.read_bytes() + own.root.certificate_pem)
    assert "has to be the first one" in own.refused()
    own.key.unlink()
    assert own.refused() == f"{own.key} cannot be read: there is no such file or directory"
    own.certificate.write_bytes(own.pair.certificate.public_bytes(Encoding.DER))
    assert "no certificate in PEM form; convert it with: openssl x509 -inform DER" in own.refused()
    own.certificate.write_bytes(b"x" * 300_000)
    assert "too large" in own.refused()
    own.certificate.unlink()
    own.certificate.mkdir()
    assert "it is a directory" in own.refused()


def test_own_certificate_of_an_unknown_version(own: Own) -> None:
    der = own.pair.certificate.public_bytes(Encoding.DER)
    version = bytes.fromhex("a003020102")
    assert version in der
    odd = base64.encodebytes(der.replace(version, bytes.fromhex("a003020107"), 1))
    own.certificate.write_bytes(b"-----BEGIN CERTIFICATE-----\n" + odd + b"-----END CERTIFICATE-----\n")
    assert own.refused() == f"{own.certificate}: it holds no certificate in PEM form"


def test_own_key_that_is_too_weak(own: Own) -> None:
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([])
    weak = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2049, 1, 1, tzinfo=dt.UTC))
    )
    own.certificate.write_bytes(weak.sign(key, SHA256()).public_bytes(Encoding.PEM))
    own.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert "the TLS library refuses it: EE_KEY_TOO_SMALL" in own.refused()


def test_no_key_is_ever_printed(own: Own) -> None:
    assert "key" not in repr(own.pair).replace("gizsim", "")


# --- what the user reads


def test_how_to_trust(tmp_path: Path) -> None:
    lines = trust_text(Path("/srv/my cloud/ca.pem"), "0.0.0.0:8443")
    assert lines[0].endswith("curl --cacert '/srv/my cloud/ca.pem' https://localhost:8443/status")
    text = "\n".join(lines)
    for word in ("requests", "NODE_EXTRA_CA_CERTS", "keytool", "Firefox", "Chrome", "macOS", "Windows"):
        assert word in text
    assert "{" not in text
    assert "https://[::1]:8443/status" in trust_text(tmp_path, "[::1]:8443")[0]
