"""Events (events.k8s.io/v1) about objects, repeated ones aggregated into a series."""

import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from kuberpa.client import EVENTS, ApiError, NotFoundError
from kuberpa.names import API_VERSION
from kuberpa_operator.adapters.api import Api
from kuberpa_operator.adapters.clock import Clock
from kuberpa_operator.adapters.elector import micro_time
from kuberpa_operator.core.effects import Announce

SERIES_SECONDS: Final = 360.0
"""A repetition within this belongs to the same series (client-go's rule)."""
REPORT_EVERY: Final = 10.0
"""A growing series is written at most this often."""
REMEMBERED: Final = 4096
NOTE_CHARS: Final = 1024
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an Event is about."""

    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(slots=True)
class _Series:
    name: str
    count: int
    last: float
    written: float


@dataclass(slots=True)
class Recorder:
    """Writes Events. One that cannot be written is dropped: nothing depends on it."""

    api: Api
    clock: Clock
    replica: str
    _series: OrderedDict[tuple[str, str, str], _Series] = field(default_factory=OrderedDict)

    async def record(self, subject: Subject, announce: Announce) -> None:
        """One Event, or one more of its series."""
        key = (subject.uid, announce.reason, announce.message)
        now = self.clock.monotonic()
        series = self._series.get(key)
        try:
            if series is None or now - series.last > SERIES_SECONDS:
                await self._create(subject, announce, key, now)
            else:
                await self._repeat(subject, series, now)
        except NotFoundError:
            self._series.pop(key, None)
        except ApiError as error:
            log.warning("an Event could not be written: %s", error)

    async def _create(self, subject: Subject, announce: Announce, key: tuple[str, str, str], now: float) -> None:
        at = micro_time(self.clock.now())
        digest = hashlib.sha256(f"{key}{at}".encode()).hexdigest()[:16]
        name = f"{subject.name[:200]}.{digest}"
        self._series[key] = _Series(name, 1, now, now)
        if len(self._series) > REMEMBERED:
            self._series.popitem(last=False)
        body = {
            "metadata": {"name": name},
            "eventTime": at,
            "reportingController": "kuberpa.dev/operator",
            "reportingInstance": self.replica[:128],
            "action": announce.reason,
            "reason": announce.reason,
            "type": announce.type,
            "note": announce.message[:NOTE_CHARS],
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": subject.kind,
                "namespace": subject.namespace,
                "name": subject.name,
                "uid": subject.uid,
            },
        }
        await self.api.create(EVENTS, subject.namespace, body)

    async def _repeat(self, subject: Subject, series: _Series, now: float) -> None:
        series.count += 1
        series.last = now
        if now - series.written < REPORT_EVERY:
            return
        series.written = now
        patch = {"series": {"count": series.count, "lastObservedTime": micro_time(self.clock.now())}}
        await self.api.merge(EVENTS, subject.namespace, series.name, patch)
