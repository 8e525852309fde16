"""A real Kubernetes node in namespaces of this process: containerd, kubelet, kube-proxy, CoreDNS and a control plane.

The process that runs this is root in mount, network, PID, IPC and UTS namespaces of its own, which
`python -m tests.e2e` makes. So mounts, interfaces, packet filters and processes end with it, whatever happens.
"""

import asyncio
import json
import socket
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml
from tests.e2e import images
from tests.e2e.place import CGROUP, NODE, NODE_ADDRESS, POD_RANGE
from tests.support import gotools
from tests.support.cluster import PrintedReport

from kuberpa_cli.embedded import cluster, files, kubeconfig, paths, pki
from kuberpa_cli.embedded.kubectl import KubectlError, Tool
from kuberpa_cli.embedded.part import Part, Step, Unit
from kuberpa_cli.embedded.parts import controlplane
from kuberpa_cli.embedded.site import Site

CONTAINERD: Final = Path("/run/containerd/containerd.sock")
CONFIGS: Final = Path("/run/kuberpa-e2e")
_KUBELET: Final = pki.Leaf("kubelet", f"system:node:{NODE}", "system:nodes")
_PROXY: Final = pki.Leaf("kube-proxy", "system:kube-proxy")


def prepare(folder: Path) -> Site:
    """Folders, binaries, certificates and kubeconfigs of the control plane and of the node."""
    places = replace(paths.from_environment(), state=folder / "state", shared_root=None)
    places.prepare()
    site = cluster.prepare(places, PrintedReport(), datetime.now(UTC), durable=False)  # noqa: TID251  the tests' clock
    for leaf in (_KUBELET, _PROXY):
        pki._write(site.pki, leaf.file, pki._leaf(site.pki, "ca", leaf, datetime.now(UTC)))  # noqa: TID251
        kubeconfig.write_for_certificate(site.kubeconfig(leaf.file), site.server, site.pki, leaf.file)
    return replace(site, binaries={**site.binaries, **gotools.built(gotools.NODE, gotools.COREDNS)})


def lay_out(folder: Path) -> None:
    """Folders and network of the machine that the node sees. All of it is private to this process."""
    for at in ("/run", "/tmp"):
        _run("mount", "-t", "tmpfs", "-o", "mode=1777" if at == "/tmp" else "mode=755", "tmpfs", at)
    for at in ("/var/lib/containerd", "/var/lib/kubelet", "/var/log/pods", "/var/log/containers", "/var/lib/cni"):
        own = folder / at.strip("/").replace("/", "-")
        own.mkdir(parents=True)
        Path(at).mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", str(own), at)
    _run("mount", "--make-rshared", "/")
    CONFIGS.mkdir(parents=True)
    for words in (
        "link set lo up",
        "link add node0 type veth peer name node1",
        f"address add {NODE_ADDRESS}/24 dev node0",
        "link set node0 up",
        "link set node1 up",
        "route add default dev node0",
    ):
        _run("ip", *words.split())
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    socket.sethostname(NODE)


def make_cgroups() -> None:
    """The node's own control group; `python -m tests.e2e` removes it."""
    for at in cgroups():
        at.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):  # version 1: without them nothing can be put in
            if (at / file).exists():
                (at / file).write_text((at.parent / file).read_text())


def cgroups() -> list[Path]:
    """The node's own control group in every hierarchy."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root / CGROUP]
    return [each / CGROUP for each in root.iterdir() if each.is_dir() and not each.is_symlink()]


def units(site: Site, archives: Mapping[str, Path]) -> list[Unit]:
    """Everything that runs, in the order of its needs."""
    kubectl = Tool(site.binaries["kubectl"], site.paths.admin_kubeconfig)

    async def objects() -> None:
        await kubectl.apply(yaml.safe_dump_all(_objects(site)))

    async def load() -> None:
        for archive in archives.values():
            await _check("ctr", "-n", "k8s.io", "images", "import", "--no-unpack", str(archive))

    async def node_ready() -> None:
        await kubectl("wait", "--for=create", f"node/{NODE}", "--timeout=120s")
        await kubectl("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=120s")

    return [
        controlplane.etcd(site),
        _apiserver(site),
        controlplane.controller_manager(site),
        controlplane.scheduler(site),
        Step("objects", ("kube-apiserver",), objects),
        _containerd(site),
        Step("images", ("containerd",), load),
        _kubelet(site),
        _proxy(site),
        _coredns(site),
        Step("node", ("kubelet",), node_ready),
    ]


def _apiserver(site: Site) -> Part:
    """The embedded cluster's, but pods and kubelet reach it, and it reaches kubelet."""
    part = controlplane.apiserver(site)
    changed = {
        "--bind-address": "0.0.0.0",
        "--advertise-address": NODE_ADDRESS,
        "--authorization-mode": "Node,RBAC",
    }
    command = [str(word) for word in part.command]
    command = [
        f"{w.partition('=')[0]}={changed.get(w.partition('=')[0], w.partition('=')[2])}" if "=" in w else w
        for w in command
    ]
    own = pki.CLIENTS[0].file
    reach = (
        f"--kubelet-client-certificate={site.pki.certificate(own)}",
        f"--kubelet-client-key={site.pki.key(own)}",
        "--kubelet-preferred-address-types=InternalIP",
    )
    return replace(part, command=(*command, *reach))


def _objects(site: Site) -> list[dict[str, Any]]:
    """What a distribution would have put there: where the API server is, and where volumes come from."""
    api = {"name": "https", "port": site.ports["apiserver"], "protocol": "TCP"}
    volume = Path("/var/lib/kubelet/volume")
    volume.mkdir(exist_ok=True)
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
    return [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
            "ports": [api],
        },
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "local-1"},
            "spec": {
                "capacity": {"storage": "8Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "local",
                "local": {"path": str(volume)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            },
        },
    ]


def _containerd(site: Site) -> Part:
    cri = "io.containerd.grpc.v1.cri"
    cni = CONFIGS / "cni"
    cni.mkdir(exist_ok=True)
    # Point to point: every packet of a pod passes the node's own stack, where kube-proxy translates it.
    network = {
        "cniVersion": "1.0.0",
        "name": "e2e",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {"type": "host-local", "ranges": [[{"subnet": POD_RANGE}]], "routes": [{"dst": "0.0.0.0/0"}]},
            }
        ],
    }
    files.write(cni / "10-e2e.conflist", json.dumps(network))
    config = CONFIGS / "containerd.toml"
    files.write(
        config,
        f"""
version = 2
[plugins."{cri}"]
  sandbox_image = "{images.PAUSE}"
  # without CAP_SYS_RESOURCE runc cannot lower what a pod asks for
  restrict_oom_score_adj = true
  [plugins."{cri}".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
""",
    )
    probe = _command_probe("ctr", "version")
    return Part("containerd", ("containerd", "--config", config), site.paths.state, probe=probe)


def _kubelet(site: Site) -> Part:
    config = CONFIGS / "kubelet.yaml"
    resolver = CONFIGS / "resolv.conf"
    files.write(resolver, f"nameserver {NODE_ADDRESS}\n")
    document = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(site.pki.certificate("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": False,
        # The disk is the machine's: how full it is, is not the node's to judge.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolver),
        "oomScoreAdj": 0,
    }
    files.write(config, yaml.safe_dump(document))
    command = (
        site.binaries["kubelet"],
        f"--config={config}",
        f"--kubeconfig={site.kubeconfig('kubelet')}",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_ADDRESS}",
    )
    return Part("kubelet", command, site.paths.state, ("objects", "images"))


def _proxy(site: Site) -> Part:
    config = CONFIGS / "kube-proxy.yaml"
    document = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": NODE,
        "clientConnection": {"kubeconfig": str(site.kubeconfig("kube-proxy"))},
        # The table of connections is the machine's.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "oomScoreAdj": 0,
    }
    files.write(config, yaml.safe_dump(document))
    return Part("kube-proxy", (site.binaries["kube-proxy"], f"--config={config}"), site.paths.state, ("node",))


def _coredns(site: Site) -> Part:
    config = CONFIGS / "Corefile"
    files.write(
        config,
        f"""
.:53 {{
    bind {NODE_ADDRESS}
    errors
    kubernetes cluster.local {{
        kubeconfig {site.paths.admin_kubeconfig}
    }}
    cache 5
}}
""",
    )
    return Part("coredns", (site.binaries["coredns"], f"-conf={config}"), site.paths.state, ("objects",))


def _command_probe(*command: str) -> Callable[[], Awaitable[str | None]]:
    async def probe() -> str | None:
        try:
            await _check(*command)
        except RuntimeError as error:
            return str(error)
        return None

    return probe


async def _check(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {output.decode(errors='replace').strip()}")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def end_pods(site: Site) -> None:
    """Before the node's parts end: what pods run would go on under containerd's shims until the namespace ends."""
    with suppress(KubectlError, subprocess.SubprocessError):
        _run(
            str(site.binaries["kubectl"]),
            f"--kubeconfig={site.paths.admin_kubeconfig}",
            "delete",
            "pods",
            "-A",
            "--all",
            "--grace-period=1",
            "--timeout=60s",
        )
