"""Certificates of the embedded cluster.

Two authorities, so that no client of the API server is also a client of etcd: `ca` signs the API server and its
clients, `etcd-ca` signs etcd and its only client, the API server. Client certificates carry the identities that
Kubernetes' own bootstrap RBAC knows (`system:kube-scheduler` and so on).
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kuberpa_cli.embedded import files

AUTHORITY_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=365)
RENEW_BEFORE = timedelta(days=60)
CLOCK_SKEW = timedelta(minutes=5)

_SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
_SERVER_ADDRESSES = ("127.0.0.1", "10.0.0.1")


@dataclass(frozen=True)
class Leaf:
    """A certificate to issue: its file name, its subject, and whether it is for a server."""

    file: str
    common_name: str
    organization: str | None = None
    server: bool = False


CLIENTS: tuple[Leaf, ...] = (
    Leaf("admin", "kuberpa-admin", "system:masters"),
    Leaf("kube-controller-manager", "system:kube-controller-manager"),
    Leaf("kube-scheduler", "system:kube-scheduler"),
    Leaf("kwok", "system:kuberpa:kwok"),
    Leaf("local-runtime", "system:kuberpa:local-runtime"),
)
SERVER = Leaf("kube-apiserver", "kube-apiserver", server=True)
ETCD = (Leaf("etcd", "etcd", server=True), Leaf("etcd-client", "kube-apiserver"))


@dataclass(frozen=True)
class Pki:
    """The folder of certificates; `certificate` and `key` name a file in it."""

    folder: Path

    def certificate(self, name: str) -> Path:
        """PEM certificate of an identity or authority."""
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        """PEM private key of an identity or authority."""
        return self.folder / f"{name}.key"

    @property
    def service_account_public_key(self) -> Path:
        """What the API server verifies ServiceAccount tokens with."""
        return self.folder / "service-accounts.pub"


def ensure(folder: Path, now: datetime) -> Pki:
    """Issue what is missing or expires within 60 days; the authorities stay, so kubeconfigs stay valid."""
    pki = Pki(folder)
    for authority, leaves in (("ca", (SERVER, *CLIENTS)), ("etcd-ca", ETCD)):
        _write_once(pki, authority, lambda name=authority: _authority(f"kuberpa-{name}", now))  # type: ignore[misc]
        for leaf in leaves:
            if _due(pki.certificate(leaf.file), now):
                _write(pki, leaf.file, _leaf(pki, authority, leaf, now))
    if not pki.key("service-accounts").exists():
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        files.write(pki.service_account_public_key, public)
        files.write(pki.key("service-accounts"), _pem(key))
    return pki


Issued = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _write_once(pki: Pki, name: str, issue: Callable[[], Issued]) -> None:
    if not pki.certificate(name).exists():
        _write(pki, name, issue())


def _write(pki: Pki, name: str, issued: Issued) -> None:
    certificate, key = issued
    files.write(pki.key(name), _pem(key))
    files.write(pki.certificate(name), certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _due(path: Path, now: datetime) -> bool:
    if not path.exists():
        return True
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc - now < RENEW_BEFORE


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(subject: x509.Name, issuer: x509.Name, now: datetime, life: timedelta) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + life)
    )


def _authority(name: str, now: datetime) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, subject, now, AUTHORITY_LIFE)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _leaf(pki: Pki, authority: str, leaf: Leaf, now: datetime) -> Issued:
    issuer = x509.load_pem_x509_certificate(pki.certificate(authority).read_bytes())
    issuer_key = serialization.load_pem_private_key(pki.key(authority).read_bytes(), password=None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{pki.key(authority)} is not an elliptic curve key")
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name)]
    if leaf.organization:
        names.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, leaf.organization))
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = _builder(x509.Name(names), issuer.subject, now, LEAF_LIFE).public_key(key.public_key())
    if leaf.server:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in _SERVER_NAMES]
        alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in _SERVER_ADDRESSES]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return certificate, key


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        key_encipherment=False,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
