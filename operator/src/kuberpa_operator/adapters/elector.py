"""Leader election on one coordination/v1 Lease.

A replica leads only as long as it can prove it: when it has not renewed for two thirds of the Lease's duration, by
its own monotonic clock, it ends its process, well before another may take over. Whether somebody else's Lease has
expired is judged by how long it has not been seen to change, so clocks need not agree (client-go does the same).

A renewal is one request, made of what the last one answered; one that fails is tried again at once, as often as the
Lease lasts. It is read anew then: what timed out may have arrived all the same.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from kuberpa import names
from kuberpa.client import LEASES, ApiError, Cluster, ConflictError, NotFoundError
from kuberpa_operator.adapters.clock import Clock

LEASE_NAME: Final = "kuberpa-operator"
LEASE_SECONDS: Final = 8
RENEW_EVERY: Final = 1.5
RETRY_AFTER: Final = 0.1
REQUEST_SECONDS: Final = 2.0
log = logging.getLogger(__name__)
Body = dict[str, Any]


@dataclass(slots=True)
class Elector:
    """Holds, or waits for, the Lease. `lost` must end the process."""

    cluster: Cluster
    clock: Clock
    namespace: str
    identity: str
    won: Callable[[], Coroutine[Any, Any, None]]
    lost: Callable[[str], None]
    seconds: int = LEASE_SECONDS
    renew_every: float = RENEW_EVERY
    _held: Body | None = None
    """The Lease as this replica last wrote it; None when it must be read first."""
    _renewed_at: float | None = None
    _observed: tuple[str, float] = ("", 0.0)
    _begun: asyncio.Task[None] | None = None
    _released: bool = False

    def leads(self) -> bool:
        """Whether this replica certainly holds the Lease."""
        return self._renewed_at is not None and not self._expired()

    async def run(self) -> None:
        """Compete for the Lease, then hold it."""
        while not self._released:
            try:
                held = await self._attempt()
            except (ApiError, TimeoutError) as error:
                log.warning("the Lease could not be read or written: %s", str(error) or "timeout")
                held, self._held = False, None
            if self._released:
                return
            if held and self._renewed_at is None:
                self._renewed_at = self._observed[1]
                log.info("this replica leads", extra={"action": "lead", "replica": self.identity})
                # beside the renewing: what a new leader has to read first may take longer than the Lease lasts
                self._begun = asyncio.create_task(self.won())
                self._begun.add_done_callback(self._check)
            elif held:
                self._renewed_at = self._observed[1]
            elif self._renewed_at is not None and (self._expired() or self._observed[0] != self.identity):
                self.lost("the Lease could not be renewed in time")
                return
            await asyncio.sleep(self._pause(held=held))

    async def guard(self) -> None:
        """End the process as soon as the Lease is too old, even while a request hangs."""
        while True:
            await asyncio.sleep(0.25)
            if self._renewed_at is not None and self._expired() and not self._released:
                self.lost("the Lease is too old")
                return

    async def release(self) -> None:
        """Give the Lease back, so that a standby need not wait for it to expire."""
        self._released = True
        if self._renewed_at is None:
            return
        self._renewed_at = None
        try:
            lease = await asyncio.wait_for(self.cluster.get(LEASES, self.namespace, LEASE_NAME), REQUEST_SECONDS)
            if lease["spec"].get("holderIdentity") == self.identity:
                spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                body = {**lease, "spec": spec}
                await asyncio.wait_for(self.cluster.replace(LEASES, self.namespace, body), REQUEST_SECONDS)
        except (ApiError, TimeoutError) as error:
            log.warning("the Lease could not be released: %s", error)

    def _pause(self, *, held: bool) -> float:
        if self._renewed_at is None:
            return self.renew_every / 2
        return self.renew_every if held else RETRY_AFTER

    def _check(self, begun: asyncio.Task[None]) -> None:
        if not begun.cancelled() and begun.exception() is not None:
            log.error("leading could not begin", exc_info=begun.exception())
            self.lost("leading could not begin")

    def _expired(self) -> bool:
        return self._renewed_at is not None and self.clock.monotonic() - self._renewed_at > self.seconds * 2 / 3

    async def _attempt(self) -> bool:
        """Take or renew the Lease if that is allowed; whether it is held now."""
        began = self.clock.monotonic()
        if self._held is not None:
            return await self._write(self._held, self.identity, began)
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                lease = await self.cluster.get(LEASES, self.namespace, LEASE_NAME)
        except NotFoundError:
            lease = {"metadata": {"name": LEASE_NAME, "labels": {names.LABEL_COMPONENT: "operator"}}, "spec": {}}
        holder = lease["spec"].get("holderIdentity") or ""
        if holder not in {"", self.identity} and not self._is_stale(lease, began):
            return False
        return await self._write(lease, holder, began)

    def _is_stale(self, lease: Body, now: float) -> bool:
        seen = f"{lease['spec'].get('holderIdentity')} {lease['spec'].get('renewTime')}"
        if self._observed[0] != seen:
            self._observed = (seen, now)
        return now - self._observed[1] > float(lease["spec"].get("leaseDurationSeconds") or LEASE_SECONDS)

    async def _write(self, lease: Body, holder: str, began: float) -> bool:
        now = self.clock.now().astimezone(UTC)
        spec = lease["spec"]
        taken = holder != self.identity
        body = {
            **lease,
            "spec": {
                **spec,
                "holderIdentity": self.identity,
                "leaseDurationSeconds": self.seconds,
                "acquireTime": micro_time(now) if taken else spec.get("acquireTime", micro_time(now)),
                "renewTime": micro_time(now),
                "leaseTransitions": (spec.get("leaseTransitions") or 0) + (1 if taken else 0),
            },
        }
        try:
            exists = "resourceVersion" in lease["metadata"]
            write = self.cluster.replace if exists else self.cluster.create
            async with asyncio.timeout(REQUEST_SECONDS):
                self._held = await write(LEASES, self.namespace, body)
        except ConflictError:
            # somebody else wrote it, or an own write arrived that was given up: the next attempt reads
            self._held = None
            return False
        self._observed = (self.identity, began)
        return True


def micro_time(at: datetime) -> str:
    """metav1.MicroTime."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
