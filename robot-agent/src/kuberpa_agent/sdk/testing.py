"""Queues in memory, for the tests of robot code: the same calls, the same errors, and no robot.

def test_an_invoice_without_a_number_is_a_business_error():
    with memory_queues() as queues:
        queue("invoices").add({"total": 12})
        post_invoices()                          # the activity, called as a function
        assert queues.of("invoices")[0].state == "Failed"
"""

import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kuberpa_agent.sdk import errors, queues, running, storage
from kuberpa_agent.sdk.items import OPEN
from kuberpa_agent.sdk.link import Call, Lease


@dataclass
class MemoryItem:
    """An item of a queue in memory, to look at."""

    id: str
    payload: dict[str, Any]
    reference: str = ""
    priority: int = 0
    deadline: str | None = None
    state: str = "New"
    """New, Deferred, Leased, Succeeded, Failed or Retried."""
    output: Any = None
    error_class: str = ""
    error: str = ""
    progress: tuple[float | None, str] | None = None
    attempt: int = 0
    token: int = 0
    due: datetime | None = None


@dataclass
class MemoryQueues:
    """All queues of a test. Every queue exists."""

    lease_seconds: int = 60
    max_attempts: int = 3
    """Attempts that may end in an application error."""
    unique_reference: bool = False
    ends_when_empty: bool = True
    """A loop over an empty queue ends, as if a stop had been asked for, instead of waiting for ever."""
    _queues: dict[str, list[MemoryItem]] = field(default_factory=dict)
    _waiting: dict[str, tuple[dict[str, Any], "Future[Any]"]] = field(default_factory=dict)
    _hear: dict[Lease, Any] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.RLock)
    _count: int = 0

    def of(self, name: str) -> list[MemoryItem]:
        """The items of a queue, the oldest first."""
        return self._queues.setdefault(name, [])

    def expire(self, item: MemoryItem) -> None:
        """Let the lease of an item expire, as if its robot had died."""
        with self._lock:
            item.state, item.token = "Abandoned", item.token + 1
            self._serve()

    # ---- the backend, see items.Backend

    def call(self, request: dict[str, Any]) -> Call:
        """Do what was asked, at once."""
        key, future = uuid.uuid4().hex, Future[Any]()
        future.set_running_or_notify_cancel()
        body = json.loads(json.dumps(request))
        with self._lock:
            if body["op"] == "take":
                self._waiting[key] = (body, future)
                self._serve()
                if key in self._waiting and (body.get("waitSeconds") == 0 or self.ends_when_empty):
                    self._end_waiting(key)
            else:
                try:
                    future.set_result(self._do(body))
                    self._serve()
                except errors.QueueError as error:
                    future.set_exception(error)
        return Call(self, key, future)

    def cancel(self, key: str) -> None:
        """Withdraw a take."""
        with self._lock:
            if key in self._waiting:
                _, future = self._waiting.pop(key)
                future.set_result({"item": None})

    abandon = cancel

    def hold(self, lease: Lease, seconds: float, hear: Any) -> None:
        """Leases in memory do not expire by themselves."""

    def drop(self, lease: Lease) -> None:
        """See hold."""

    def _end_waiting(self, key: str) -> None:
        body, future = self._waiting.pop(key)
        if "waitSeconds" in body:
            future.set_result({"item": None})
        else:
            future.set_exception(running.StopRequestedError("the queue in memory is empty"))

    def _serve(self) -> None:
        """Give ready items to those who wait."""
        for key, (body, future) in list(self._waiting.items()):
            now = datetime.now(UTC)  # noqa: TID251  the edge that reads the clock
            ready = [
                item
                for item in self.of(body["queue"])
                if item.state in {"New", "Retried", "Abandoned", "Deferred"} and (item.due is None or item.due <= now)
            ]
            if ready:
                item = min(ready, key=lambda item: (-item.priority, int(item.id)))
                del self._waiting[key]
                future.set_result({"item": self._leased(item)})

    def _leased(self, item: MemoryItem) -> dict[str, Any]:
        item.state, item.due = "Leased", None
        item.attempt += 1
        item.token += 1
        return {
            "id": item.id,
            "payload": json.loads(json.dumps(item.payload)),
            "reference": item.reference,
            "priority": item.priority,
            "deadline": item.deadline,
            "attempts": {"started": item.attempt},
            "lease": {"token": item.token, "seconds": self.lease_seconds},
        }

    def _do(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["op"] == "add":
            return self._add(body)
        item = next((item for item in self.of(body["queue"]) if item.id == body["id"]), None)
        if item is None or item.token != body["token"] or item.state != "Leased":
            raise errors.LeaseLost(f"item {body['id']} is not held under token {body['token']} any more")
        match body["op"]:
            case "complete":
                item.state, item.output = "Succeeded", body.get("output")
            case "fail":
                item.error_class, item.error = body["errorClass"], body["message"]
                again = item.error_class == "Application" and item.attempt < self.max_attempts
                item.state = "Retried" if again else "Failed"
            case "progress":
                item.progress = (body["fraction"], body["message"])
            case "defer":
                item.state, item.due = "Deferred", datetime.fromisoformat(body["until"])
                item.attempt -= 1
            case "release":
                item.state = "New"
                item.attempt -= 1
        return {"id": item.id, "state": item.state, "seconds": self.lease_seconds}

    def _add(self, body: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(body["payload"], dict):
            raise errors.InvalidItemError("payload: must be an object")
        reference = body.get("reference", "")
        if self.unique_reference and reference and any(i.reference == reference for i in self.of(body["queue"])):
            raise errors.DuplicateReferenceError(f"reference {reference!r} is taken")
        self._count += 1
        item = MemoryItem(str(self._count), body["payload"], reference, body["priority"], body.get("deadline"))
        if due := body.get("deferUntil"):
            item.state, item.due = "Deferred", datetime.fromisoformat(due)
        self.of(body["queue"]).append(item)
        return {"id": item.id}


@contextmanager
def memory_queues(
    *, lease_seconds: int = 60, max_attempts: int = 3, unique_reference: bool = False, ends_when_empty: bool = True
) -> Iterator[MemoryQueues]:
    """Queues in memory for the length of the block; what robot code leaves unsettled is settled at its end."""
    memory = MemoryQueues(lease_seconds, max_attempts, unique_reference, ends_when_empty)
    former = queues.replace(memory)
    try:
        yield memory
        queues.finish(None)
    finally:
        queues.replace(former)
        OPEN.clear()


@dataclass
class MemoryStorage:
    """A robot's storage of a test, and the GSettings tree that its activities see."""

    document: dict[str, Any] = field(default_factory=dict)
    gsettings: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def answer(self, op: str, body: dict[str, Any]) -> dict[str, Any]:
        """What the panel would answer. Raises as the SDK does."""
        steps = [step.replace("~1", "/").replace("~0", "~") for step in body["path"].split("/") if step]
        if op == "gsettings":
            return _place(json.loads(json.dumps(self.gsettings)), steps)
        with self._lock:
            if op == "storageChange":
                if body["version"] not in {None, self.version}:
                    raise storage.StorageConflictError(
                        f"The document has version {self.version}, not {body['version']}"
                    )
                fresh = json.loads(json.dumps({"root": self.document}))
                _edit(fresh, ["root", *steps], body["op"], json.loads(json.dumps(body["value"])))
                self.document, self.version = fresh.get("root") or {}, self.version + 1
            return {**_place(json.loads(json.dumps(self.document)), steps), "version": self.version}


def _place(node: Any, steps: list[str]) -> dict[str, Any]:
    try:
        for step in steps:
            node = node[int(step)] if isinstance(node, list) else node[step]
    except (LookupError, TypeError, ValueError):
        return {"found": False}
    return {"found": True, "value": node}


def _edit(node: Any, steps: list[str], op: str, value: Any) -> None:
    try:
        for step in steps[:-1]:
            node = node[int(step)] if isinstance(node, list) else node.setdefault(step, {})
        key: Any = int(steps[-1]) if isinstance(node, list) else steps[-1]
        if op == "delete":
            del node[key]
        elif op == "append":
            node[key] = [*node.get(key, []), value]
        elif op == "plus" and key in node:
            node[key] = {**node[key], **value} if isinstance(value, dict) else node[key] + value
        else:
            node[key] = value
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise storage.StorageInvalidError(f"{'/'.join(steps[1:])}: {op} is not possible there") from error


@contextmanager
def memory_storage(
    document: dict[str, Any] | None = None, *, gsettings: dict[str, Any] | None = None
) -> Iterator[MemoryStorage]:
    """A robot's storage, and its GSettings tree, in memory while the block runs."""
    memory = MemoryStorage(dict(document or {}), dict(gsettings or {}))
    former = storage.replace(memory.answer)
    try:
        yield memory
    finally:
        storage.replace(former)
