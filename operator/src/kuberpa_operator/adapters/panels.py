"""The panel's replicas, as their Leases show them."""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from kuberpa import names
from kuberpa.client import LEASES, ApiError, Cluster, GoneError
from kuberpa_operator.adapters.clock import Clock

SELECTOR: Final = f"{names.LABEL_COMPONENT}=panel"
DEFAULT_SECONDS: Final = 10.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """One Lease: what it said, and when it was last seen to change, on this process's monotonic clock."""

    renewed: str
    seconds: float
    archive_ok: bool
    at: float


@dataclass(slots=True)
class PanelBook:
    """Which replicas are alive. Freshness goes by changes seen here, so that clocks need not agree."""

    clock: Clock
    _seen: dict[str, Seen] = field(default_factory=dict)

    def observe(self, body: dict[str, Any]) -> None:
        """A Lease is there, or changed."""
        meta, spec = body["metadata"], body.get("spec", {})
        name, renewed = meta["name"], spec.get("renewTime") or ""
        seconds = float(spec.get("leaseDurationSeconds") or DEFAULT_SECONDS)
        archive_ok = meta.get("annotations", {}).get(names.ANNOTATION_ARCHIVE) == "ok" and bool(
            spec.get("holderIdentity")
        )
        former = self._seen.get(name)
        if former is None:
            # nothing is known of changes yet: go by the wall clock once
            at = self.clock.monotonic() - self._age(renewed)
        elif former.renewed == renewed:
            at = former.at
        else:
            at = self.clock.monotonic()
        self._seen[name] = Seen(renewed, seconds, archive_ok, at if spec.get("holderIdentity") else float("-inf"))

    def forget(self, name: str) -> None:
        """A Lease is gone."""
        self._seen.pop(name, None)

    def replace(self, bodies: list[dict[str, Any]]) -> None:
        """All Leases that exist."""
        for name in self._seen.keys() - {body["metadata"]["name"] for body in bodies}:
            self.forget(name)
        for body in bodies:
            self.observe(body)

    def fresh(self) -> frozenset[str]:
        """Names of the replicas that are alive."""
        now = self.clock.monotonic()
        return frozenset(name for name, seen in self._seen.items() if now - seen.at <= seen.seconds)

    def archive_ok(self) -> bool:
        """Whether some live replica can store history."""
        return any(self._seen[name].archive_ok for name in self.fresh())

    def _age(self, renewed: str) -> float:
        try:
            at = datetime.fromisoformat(renewed)
        except ValueError:
            return float("inf")
        return abs((self.clock.now() - (at if at.tzinfo else at.replace(tzinfo=UTC))).total_seconds())


async def watch_panels(cluster: Cluster, namespace: str, book: PanelBook) -> None:
    """One round: list the panel's Leases, then follow them until the watch ends. Raises ApiError.

    Not by kopf: it would watch Leases in every namespace served, and need the right to.
    """
    listing = await cluster.list_all(LEASES, namespace, labelSelector=SELECTOR)
    book.replace(listing.items)
    version = listing.resource_version
    while True:
        try:
            async for kind, body in cluster.watch(LEASES, version, namespace, labelSelector=SELECTOR):
                version = body["metadata"]["resourceVersion"]
                if kind == "DELETED":
                    book.forget(body["metadata"]["name"])
                elif kind != "BOOKMARK":
                    book.observe(body)
        except GoneError:
            return
        except ApiError:
            log.warning("the watch of the panel's Leases broke; listing again")
            raise
