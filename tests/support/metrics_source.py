"""A source of external metrics, as an adapter for Prometheus is one: what a HorizontalPodAutoscaler asks."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from tests.support.cluster import Cluster

GROUP_VERSION: Final = "external.metrics.k8s.io/v1beta1"


class MetricsSource:
    """Answers every question for a metric with `value`."""

    def __init__(self) -> None:
        self.value = 0
        self.asked = threading.Event()

    def answer(self, path: str) -> dict[str, Any]:
        parts = path.partition("?")[0].strip("/").split("/")
        if parts == ["apis", *GROUP_VERSION.split("/")]:
            metrics = {"name": "*", "singularName": "", "namespaced": True, "kind": "ExternalMetricValueList"}
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": GROUP_VERSION,
                "resources": [{**metrics, "verbs": ["get"]}],
            }
        self.asked.set()
        now = datetime.now(UTC).isoformat(timespec="seconds")  # noqa: TID251  what a metric is stamped with
        value = {"metricName": parts[-1], "metricLabels": {}, "timestamp": now, "value": str(self.value)}
        return {"kind": "ExternalMetricValueList", "apiVersion": GROUP_VERSION, "metadata": {}, "items": [value]}


@contextmanager
def metrics_source(cluster: Cluster) -> Iterator[MetricsSource]:
    """Serve it, and have the API server ask it, until the block ends."""
    source = MetricsSource()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = json.dumps(source.answer(self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pki = cluster.site.pki
    context.load_cert_chain(pki.certificate("kube-apiserver"), pki.key("kube-apiserver"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        cluster.apply(json.dumps(_service()), json.dumps(_api(server.server_address[1])))
        cluster.kubectl("wait", "--for=condition=Available", f"apiservice/{_name()}", "--timeout=60s")
        yield source
    finally:
        cluster.kubectl("delete", f"apiservice/{_name()}", "--ignore-not-found")
        cluster.kubectl("delete", "service/metrics-source", "-n", "kuberpa-system", "--ignore-not-found")
        server.shutdown()
        server.server_close()


def _name() -> str:
    group, _, version = GROUP_VERSION.partition("/")
    return f"{version}.{group}"


def _service() -> dict[str, Any]:
    meta = {"name": "metrics-source", "namespace": "kuberpa-system"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }


def _api(port: int) -> dict[str, Any]:
    group, _, version = GROUP_VERSION.partition("/")
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": _name()},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"name": "metrics-source", "namespace": "kuberpa-system", "port": port},
        },
    }
