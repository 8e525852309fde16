"""etcd and Kubernetes' own parts, each as one value."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from kuberpa_cli.embedded import files
from kuberpa_cli.embedded.part import Part
from kuberpa_cli.embedded.ports import LOOPBACK
from kuberpa_cli.embedded.probes import client_context, http
from kuberpa_cli.embedded.site import Site

SERVICE_RANGE = "10.0.0.0/16"
# Kubernetes' defaults (20 to 50 requests a second) start the pods of a large fleet at about 3 a second.
CLIENT_QPS = 400
CLIENT_BURST = 800

AUDIT_POLICY: Mapping[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # One record a request, when it has been answered; never bodies, which hold secrets.
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


def etcd(site: Site) -> Part:
    """The store. Only the API server's certificate opens it: robots run on the same machine."""
    site.paths.etcd.mkdir(mode=0o700, exist_ok=True)
    client, peer = site.url("etcd"), site.url("etcd-peer")
    certificate, key, authority = (
        site.pki.certificate("etcd"),
        site.pki.key("etcd"),
        site.pki.certificate("etcd-ca"),
    )
    flags = {
        "name": "kuberpa",
        "data-dir": site.paths.etcd,
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"kuberpa={peer}",
        "client-cert-auth": "true",
        "peer-client-cert-auth": "true",
        "auto-compaction-retention": "10m",
        "quota-backend-bytes": 4 * 1024**3,
        "log-level": "warn",
    }
    for prefix in ("", "peer-"):
        flags |= {
            f"{prefix}cert-file": certificate,
            f"{prefix}key-file": key,
            f"{prefix}trusted-ca-file": authority,
        }
    if not site.durable:
        flags["unsafe-no-fsync"] = "true"
    health = http(f"{client}/health", client_context(site.pki, "etcd-client", "etcd-ca"))
    return Part("etcd", _command(site, "etcd", flags), site.paths.state, probe=health)


def apiserver(site: Site) -> Part:
    """The API server: TLS, RBAC, default admission plugins (with both kinds of admission policies), audit log."""
    pki = site.pki
    audit_policy = site.paths.configs / "audit-policy.yaml"
    files.write(audit_policy, yaml.safe_dump(dict(AUDIT_POLICY)))
    flags = {
        "etcd-servers": site.url("etcd"),
        "etcd-cafile": pki.certificate("etcd-ca"),
        "etcd-certfile": pki.certificate("etcd-client"),
        "etcd-keyfile": pki.key("etcd-client"),
        "bind-address": LOOPBACK,
        "advertise-address": LOOPBACK,
        "secure-port": site.ports["apiserver"],
        "tls-cert-file": pki.certificate("kube-apiserver"),
        "tls-private-key-file": pki.key("kube-apiserver"),
        "client-ca-file": pki.certificate("ca"),
        "authorization-mode": "RBAC",
        "anonymous-auth": "false",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": pki.service_account_public_key,
        "service-account-signing-key-file": pki.key("service-accounts"),
        "service-account-extend-token-expiration": "false",
        "service-cluster-ip-range": SERVICE_RANGE,
        # Admission policies, not this switch, decide who may create privileged pods.
        "allow-privileged": "true",
        # A loopback address cannot be an endpoint, and no pod here looks for the kubernetes Service.
        "endpoint-reconciler-type": "none",
        "profiling": "false",
        "audit-policy-file": audit_policy,
        "audit-log-path": site.paths.logs / "audit.log",
        "audit-log-maxsize": 100,
        "audit-log-maxbackup": 3,
    }
    ready = http(f"{site.server}/readyz", client_context(pki, "admin"))
    return Part("kube-apiserver", _command(site, "kube-apiserver", flags), site.paths.state, ("etcd",), probe=ready)


def controller_manager(site: Site) -> Part:
    """Kubernetes' controllers, each under an account of its own."""
    kubeconfig = site.kubeconfig("kube-controller-manager")
    flags = {
        "kubeconfig": kubeconfig,
        "service-account-private-key-file": site.pki.key("service-accounts"),
        "root-ca-file": site.pki.certificate("ca"),
        "use-service-account-credentials": "true",
        "leader-elect": "false",
        "bind-address": LOOPBACK,
        "secure-port": site.ports["controller-manager"],
        **_serving(site),
        "kube-api-qps": CLIENT_QPS,
        "kube-api-burst": CLIENT_BURST,
        "profiling": "false",
    }
    return _client_part(site, "kube-controller-manager", flags, "controller-manager")


def scheduler(site: Site) -> Part:
    """Kubernetes' scheduler with raised client limits."""
    config = site.paths.configs / "scheduler.yaml"
    document = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {
            "kubeconfig": str(site.kubeconfig("kube-scheduler")),
            "qps": CLIENT_QPS,
            "burst": CLIENT_BURST,
        },
        "enableProfiling": False,
    }
    files.write(config, yaml.safe_dump(document))
    flags = {
        "config": config,
        "bind-address": LOOPBACK,
        "secure-port": site.ports["scheduler"],
        **_serving(site),
    }
    return _client_part(site, "kube-scheduler", flags, "scheduler")


def _serving(site: Site) -> dict[str, object]:
    """Their health endpoints use the API server's certificate: the same loopback addresses, the same user."""
    return {
        "tls-cert-file": site.pki.certificate("kube-apiserver"),
        "tls-private-key-file": site.pki.key("kube-apiserver"),
    }


def _client_part(site: Site, name: str, flags: Mapping[str, object], port: str) -> Part:
    health = http(f"{site.url(port)}/healthz", client_context(site.pki, "admin"))
    return Part(name, _command(site, name, flags), site.paths.state, ("kube-apiserver",), probe=health)


def _command(site: Site, binary: str, flags: Mapping[str, object]) -> tuple[str | Path, ...]:
    return (site.binaries[binary], *_as_arguments(flags.items()))


def _as_arguments(flags: Iterable[tuple[str, object]]) -> Iterable[str]:
    return (f"--{name}={value}" for name, value in flags)
