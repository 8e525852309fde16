"""The orchestrator's functions for Python: what the panel's REST API does, as one user. Extra `kuberpa[client]`.

    async with Orchestrator("https://panel.example.com", token) as orchestrator:
        await orchestrator.custom_plus("office", "limits", "daily", 1)
        result = await orchestrator.activity_run("office", "invoice.post", "INV-117", robot="clerk")

Nothing here has rights of its own: each function takes those that the same request by kubectl takes. Every change names
the CR and the field that it patched (`Changed`), and is made at a version if one is given. PanelError says what was
refused and why. docs/gsettings.md has a table of what stands for which function of pyOpenRPA's orchestrator.
"""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from kuberpa.activity import FINAL_PHASES
from kuberpa.audit import AuditEntry, AuditSeal
from kuberpa.gsettings_change import Changed
from kuberpa.panelclient import PanelClient, PanelError, in_path
from kuberpa.robot_orders import RobotAction
from kuberpa.storage import Stored
from kuberpa.treepath import EditOp

CHUNK_BYTES: Final = 512 * 1024
"""Of a file that is sent or fetched."""
KNOWN_SECONDS: Final = 10.0
"""How long a new activity may take to be known to the panel."""
LOOK_SECONDS: Final = 0.2
_NOT_FOUND: Final = 404


class ActivityError(Exception):
    """An activity that did not succeed; `activity` is all that is known of it."""

    def __init__(self, activity: Mapping[str, Any]) -> None:
        row = activity["row"]
        super().__init__(f"{row['name']}: {row['phase']} {row['reason']}: {row['message']}")
        self.activity = dict(activity)


class Orchestrator:
    """One panel, as one user. Use as an async context manager."""

    def __init__(self, url: str, token: str) -> None:
        """`url`: the panel's; `token`: a Kubernetes token of a user or a ServiceAccount."""
        self._panel = PanelClient(url, token)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._panel.__aexit__(kind, error, trace)

    # ---- GSettings

    async def gsettings_get(self, path: str = "") -> Any:
        """The tree, or what stands at a path."""
        return await self._panel.ask("GET", _tree(path))

    async def gsettings_query(self, query: str, path: str = "") -> list[dict[str, Any]]:
        """The nodes that a JSONPath query selects below a path: each with path and value."""
        found: list[dict[str, Any]] = await self._panel.ask("GET", _tree(path), query={"query": query})
        return found

    async def gsettings_watch(self, path: str = "") -> AsyncGenerator[tuple[str, Any]]:
        """(`snapshot`, the part) first, then (`patch`, operations of RFC 6902) whenever it changes."""
        async with aclosing(self._panel.events(_tree(path), {"watch": "true"})) as events:
            async for event, data in events:
                if event in {"snapshot", "patch"}:
                    yield event, json.loads(data)
                elif event in {"denied", "failed"}:
                    raise PanelError(data)

    async def gsettings_change(
        self, path: str, op: EditOp, value: Any = None, *, resource_version: str = ""
    ) -> Changed:
        """Change what stands at an editable path, with a resource_version only that version (PanelError 409)."""
        body = {"op": op.value, "value": value, "resourceVersion": resource_version}
        return Changed.of(await self._panel.ask("PATCH", _tree(path), body))

    async def setting_set(self, path: str, value: Any, *, resource_version: str = "") -> Changed:
        """Set a setting of operator or panel, such as `panel/timeZone`: spec.settings of GSettings `kuberpa`."""
        return await self.gsettings_change(f"settings/{path}", EditOp.SET, value, resource_version=resource_version)

    async def custom_get(self, namespace: str, name: str, path: str = "", default: Any = None) -> Any:
        """A value of a free tree; the default when there is none."""
        try:
            return await self.gsettings_get(_custom(namespace, name, path))
        except PanelError as error:
            if error.status != _NOT_FOUND:
                raise
            return default

    async def custom_set(
        self, namespace: str, name: str, path: str, value: Any, *, resource_version: str = ""
    ) -> Changed:
        """Put a value into spec.custom of GSettings `namespace/name`."""
        place = _custom(namespace, name, path)
        return await self.gsettings_change(place, EditOp.SET, value, resource_version=resource_version)

    async def custom_append(self, namespace: str, name: str, path: str, value: Any) -> Changed:
        """Append a value to a list there."""
        return await self.gsettings_change(_custom(namespace, name, path), EditOp.APPEND, value)

    async def custom_plus(self, namespace: str, name: str, path: str, value: Any) -> Changed:
        """Add a value by `+` there, whoever else does so too."""
        return await self.gsettings_change(_custom(namespace, name, path), EditOp.PLUS, value)

    async def custom_delete(self, namespace: str, name: str, path: str = "") -> Changed:
        """Take out what stands there."""
        return await self.gsettings_change(_custom(namespace, name, path), EditOp.DELETE)

    # ---- the audit trail

    async def access(self, question: str, query: Mapping[str, str] | Sequence[tuple[str, str]]) -> Any:
        """What the panel answers to can-i, who-can, what-can, or bindings."""
        return await self._panel.ask("GET", f"/access/{question}", query=query)

    async def audit_list(self, **query: str) -> list[AuditEntry]:
        """A page of entries, the latest first, by the filters of GET /api/v1/audit: text, user, kind, name."""
        return [AuditEntry.of(each) for each in (await self._panel.ask("GET", "/audit", query=query))["items"]]

    async def audit_export(self, form: str = "jsonl", **query: str) -> AsyncGenerator[bytes]:
        """Lines of all that matches, the oldest first, as JSON Lines or CSV."""
        async with aclosing(self._panel.lines("/audit/export", {"format": form, **query})) as lines:
            async for line in lines:
                yield line

    async def audit_seal(self) -> AuditSeal | None:
        """Where the trail begins by now: the seal of what was taken out when its time was over."""
        found = await self._panel.ask("GET", "/audit/seal")
        return None if found is None else AuditSeal.of(found)

    # ---- storage of robots

    async def storage_get(self, namespace: str, robot: str, path: str = "") -> Stored:
        """What a robot has stored at a path, and the version of the whole."""
        return Stored.of(await self._panel.ask("GET", _robot(namespace, robot, "storage"), query={"path": path}))

    async def storage_exists(self, namespace: str, robot: str) -> bool:
        """Whether the robot ever stored anything."""
        return (await self.storage_get(namespace, robot)).version > 0

    async def storage_change(  # noqa: PLR0913  one place, what is done to it, and at which version
        self, namespace: str, robot: str, path: str, op: EditOp, value: Any = None, *, version: int | None = None
    ) -> Stored:
        """Change one place, with a version only of that version of the document (PanelError 409)."""
        body = {"path": path, "op": op.value, "value": value, "version": version}
        return Stored.of(await self._panel.ask("PATCH", _robot(namespace, robot, "storage"), body))

    # ---- activities

    async def activity_create(  # noqa: PLR0913  what ActivityItem has
        self,
        namespace: str,
        definition: str,
        *args: Any,
        robot: str = "",
        selector: Mapping[str, str] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        name: str = "",
        **spec: Any,
    ) -> str:
        """Create an ActivityItem, in the queue of a robot or of any with these labels; its name.

        `spec` has further fields of its spec as manifests spell them: async=…, inject={"gsettings": "gs"}, priority=….
        """
        target: dict[str, Any] = (
            {"robotRef": {"name": robot}} if robot else {"robotSelector": {"matchLabels": selector}}
        )
        given = {"args": list(args), "kwargs": dict(kwargs or {})}
        body = {"namespace": namespace, "name": name, "spec": {"def": definition, "input": given, **target, **spec}}
        created = await self._panel.ask("POST", "/activities", body)
        return str(created["name"])

    async def activity_get(self, namespace: str, name: str) -> dict[str, Any]:
        """All that is known of an activity, also after it has ended."""
        found: dict[str, Any] = await self._panel.ask("GET", f"/activities/{in_path(namespace)}/{in_path(name)}")
        return found

    async def activity_exists(self, namespace: str, name: str) -> bool:
        """Whether there is, or was, such an activity."""
        try:
            await self.activity_get(namespace, name)
        except PanelError as error:
            if error.status != _NOT_FOUND:
                raise
            return False
        return True

    async def activity_wait(self, namespace: str, name: str) -> dict[str, Any]:
        """All that is known of an activity once it has ended; `asyncio.timeout` bounds it."""
        patience = asyncio.get_running_loop().time() + KNOWN_SECONDS
        while True:
            try:
                found = await self.activity_get(namespace, name)
            except PanelError as error:
                # the panel may hear of a new one a moment later
                if error.status != _NOT_FOUND or asyncio.get_running_loop().time() > patience:
                    raise
            else:
                if found["row"]["phase"] in FINAL_PHASES:
                    return found
                await self._until_it_ends(namespace, name)
            await asyncio.sleep(LOOK_SECONDS)

    async def activity_result(self, namespace: str, name: str) -> Any:
        """What an activity returned, once it has ended. Raises ActivityError when it did not succeed."""
        found = await self.activity_wait(namespace, name)
        if found["row"]["phase"] != "Succeeded":
            raise ActivityError(found)
        return await self._panel.ask("GET", f"/activities/{in_path(namespace)}/{in_path(name)}/result")

    async def activity_run(self, namespace: str, definition: str, *args: Any, **how: Any) -> Any:
        """Create an activity and wait for what it returns, see activity_create."""
        return await self.activity_result(namespace, await self.activity_create(namespace, definition, *args, **how))

    async def activity_stop(self, namespace: str, name: str) -> None:
        """Ask an activity to end; it is killed after its grace period."""
        await self._panel.ask("POST", f"/activities/{in_path(namespace)}/{in_path(name)}/stop", {})

    async def activity_kill(self, namespace: str, name: str) -> None:
        """Kill an activity's whole tree now."""
        await self._panel.ask("POST", f"/activities/{in_path(namespace)}/{in_path(name)}/kill", {})

    async def definitions(self, namespace: str, robot: str, text: str = "") -> list[dict[str, Any]]:
        """What a robot can run, with description and JSON Schema of the parameters; those with the text in the name."""
        found = await self._panel.ask("GET", _robot(namespace, robot, "definitions"))
        return [each for each in found if text.casefold() in each["name"].casefold()]

    # ---- robots

    async def robot_get(self, namespace: str, name: str) -> dict[str, Any]:
        """All that is known of a robot."""
        found: dict[str, Any] = await self._panel.ask("GET", _robot(namespace, name))
        return found

    async def robot_order(  # noqa: PLR0913  what RobotOrder has
        self,
        namespace: str,
        name: str,
        action: RobotAction,
        *,
        force: bool = False,
        grace_seconds: int | None = None,
        manual: bool = False,
    ) -> dict[str, Any]:
        """Start, pause, stop or restart a robot; `manual` takes it over, Auto and Manual say who gives it work."""
        body = {"force": force, "gracePeriodSeconds": grace_seconds, "manual": manual}
        row: dict[str, Any] = await self._panel.ask("POST", _robot(namespace, name, action.value), body)
        return row

    # ---- on a robot's machine

    async def command(self, namespace: str, robot: str, command: Sequence[str], **spec: Any) -> Any:
        """Run a command on a robot and wait for its end; its output is the activity's log."""
        return await self.activity_run(namespace, "os.command", list(command), robot=robot, **spec)

    async def process_list(self, namespace: str, robot: str, name: str | None = None, user: str | None = None) -> Any:
        """Processes on the robot's machine."""
        how = {"name": name, "user": user}
        return await self.activity_run(namespace, "process.list", robot=robot, kwargs=how)

    async def process_start(self, namespace: str, robot: str, command: Sequence[str]) -> Any:
        """Start a process that stays."""
        return await self.activity_run(namespace, "process.start", list(command), robot=robot)

    async def process_stop(self, namespace: str, robot: str, *args: Any, **kwargs: Any) -> Any:
        """Stop processes, see the definition process.stop."""
        return await self.activity_run(namespace, "process.stop", *args, robot=robot, kwargs=kwargs)

    async def file_send(self, namespace: str, robot: str, local: Path, remote: str) -> None:
        """Send a file to the robot's machine: in chunks, whole or not at all, checked by its SHA-256."""
        data = await asyncio.to_thread(local.read_bytes)
        how: dict[str, Any] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for offset in range(0, max(len(data), 1), CHUNK_BYTES):
            chunk = base64.b64encode(data[offset : offset + CHUNK_BYTES]).decode()
            kwargs = {**how, "offset": offset}
            await self.activity_run(namespace, "file.put", remote, chunk, robot=robot, kwargs=kwargs)

    async def file_fetch(self, namespace: str, robot: str, remote: str) -> bytes:
        """A file of the robot's machine."""
        data = b""
        while True:
            kwargs = {"offset": len(data), "length": CHUNK_BYTES}
            part = await self.activity_run(namespace, "file.get", remote, robot=robot, kwargs=kwargs)
            chunk = base64.b64decode(part["data"])
            data += chunk
            if not chunk or len(data) >= part["size"]:
                return data

    # ---- schedules

    async def schedules(self, namespace: str = "") -> list[dict[str, Any]]:
        """Schedules with their next firings."""
        query = {"namespace": namespace} if namespace else None
        found: list[dict[str, Any]] = await self._panel.ask("GET", "/schedules", query=query)
        return found

    async def schedule_run(self, namespace: str, name: str) -> Any:
        """Fire a schedule now."""
        return await self._panel.ask("POST", f"/schedules/{in_path(namespace)}/{in_path(name)}/run", {})

    async def _until_it_ends(self, namespace: str, name: str) -> None:
        """Watch an activity in flight: what has ended is not in the tree."""
        try:
            async with aclosing(self.gsettings_watch(f"activities/{namespace}/{name}")) as changes:
                async for event, value in changes:
                    if event == "patch" and any(each["path"] == "" for each in value):
                        return
        except PanelError as error:
            if error.status != _NOT_FOUND:
                raise


def _tree(path: str) -> str:
    return f"/gsettings/{in_path(path)}" if path else "/gsettings"


def _custom(namespace: str, name: str, path: str) -> str:
    return "/".join(filter(None, ("custom", namespace, name, path)))


def _robot(namespace: str, name: str, *rest: str) -> str:
    return "/".join(["/robots", in_path(namespace), in_path(name), *rest])
