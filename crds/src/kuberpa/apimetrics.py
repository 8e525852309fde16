"""What operator and panel tell Prometheus alike: who they are, and how the API server answers them."""

from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_GROUPED: Final = "apis"
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ApiMetrics:
    """Counts requests to the API server; `observe` is for `Cluster.observe`."""

    def __init__(self, registry: CollectorRegistry, distribution: str) -> None:
        self.requests = Counter(
            "kuberpa_api_requests",
            "Requests to the Kubernetes API by method, resource and status (0: no answer).",
            ("method", "resource", "code"),
            registry=registry,
        )
        self.seconds = Histogram(
            "kuberpa_api_request_seconds",
            "How long requests to the Kubernetes API took, watches apart.",
            ("method", "resource"),
            buckets=BUCKETS,
            registry=registry,
        )
        build = Gauge(
            "kuberpa_build_info", "1, with the component and its version.", ("component", "version"), registry=registry
        )
        build.labels(distribution, version(distribution)).set(1)

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        """One answer, or its absence."""
        resource = resource_of(path)
        self.requests.labels(method, resource, status).inc()
        if method != "watch":
            self.seconds.labels(method, resource).observe(seconds)


def resource_of(path: str) -> str:
    """The resource of a URL path, without names: `robots/status` of /apis/GROUP/VERSION/namespaces/a/robots/b/status.

    Empty for what is no resource, such as /version.
    """
    parts = path.partition("?")[0].strip("/").split("/")
    rest = parts[3:] if parts[0] == _GROUPED else parts[2:]
    if len(rest) > 2 and rest[0] == "namespaces":  # noqa: PLR2004  namespaces, its name, and what is in it
        rest = rest[2:]
    plural, subresource = [*rest, "", "", ""][0], [*rest, "", "", ""][2]
    return f"{plural}/{subresource}" if subresource else plural
