"""A real panel process, and agents that say exactly what a test tells them to."""

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import asyncpg
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from kuberpa import wire
from kuberpa.activity import ActivityItem, ActivityPhase
from kuberpa.client import ACTIVITY_ITEMS, PODS, ROBOTS, SERVICE_ACCOUNTS, Cluster, NotFoundError
from kuberpa.lifecycle import Outcome
from kuberpa.model import Model
from kuberpa.reasons import Reason
from kuberpa.robot import Robot

DEADLINE = 60.0
NAMESPACE = "default"
T = TypeVar("T")


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251  the tests' clock


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def eventually(ask: Callable[[], Awaitable[T]], what: str = "it", seconds: float = DEADLINE) -> T:
    """The first truthy answer. An AssertionError of `ask` counts as not yet."""
    end = asyncio.get_running_loop().time() + seconds
    while True:
        seen: Any = None
        try:
            if seen := await ask():
                return seen
        except (AssertionError, NotFoundError) as error:
            seen = error
        if asyncio.get_running_loop().time() > end:
            raise AssertionError(f"{what} did not happen within {seconds} s; last seen: {seen!r}")
        await asyncio.sleep(0.03)


@dataclass
class PanelProcess:
    """`kuberpa-panel` as a process of its own."""

    kubeconfig: Path
    database_url: str
    folder: Path
    replica: str = "one"
    extra: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.replica}.log"

    def launch(self, **extra: str) -> None:
        secret = self.folder / f"{self.replica}.url"
        secret.write_text(self.database_url)
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "KUBERPA_DATABASE_URL_FILE": str(secret),
            "KUBERPA_LISTEN": f"127.0.0.1:{self.port}",
            "KUBERPA_REPLICA": self.replica,
            **self.extra,
            **extra,
        }
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kuberpa_panel.main"], env=environment, stdout=out, stderr=out
            )

    async def start(self, **extra: str) -> None:
        self.launch(**extra)
        await self.ready()

    async def ready(self) -> None:
        async def is_ready() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(self.log.read_text()[-3000:])
            return (await self.get("/readyz"))[0] == 200

        await eventually(is_ready, "the panel being ready")

    async def get(self, path: str) -> tuple[int, str]:
        try:
            async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
                return response.status, await response.text()
        except aiohttp.ClientError:
            return 0, ""

    async def archive_is(self, state: str) -> None:
        async def says() -> bool:
            status, text = await self.get("/readyz")
            return status == 200 and (json.loads(text)["archive"] == "ok") == (state == "ok")

        await eventually(says, f"the archive being {state}")

    def kill(self) -> None:
        """As `kill -9`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            self.process = None

    async def exited(self) -> int:
        async def code() -> list[int]:
            assert self.process is not None
            return [] if (found := self.process.poll()) is None else [found]

        return (await eventually(code, "the panel's end"))[0]


@asynccontextmanager
async def database(admin_url: str, url: str) -> AsyncIterator[str]:
    """An empty database for one test; the URL is that of its owner."""
    name = f"t{uuid.uuid4().hex[:12]}"
    await _execute(admin_url, f'CREATE DATABASE "{name}" OWNER kuberpa')
    try:
        yield url.replace("/kuberpa?", f"/{name}?", 1)
    finally:
        await _execute(admin_url, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@dataclass(frozen=True)
class World:
    """The API server as administrator and stand-in for the operator."""

    cluster: Cluster

    async def robot(self, name: str = "", **spec: Any) -> Robot:
        """A Robot with its ServiceAccount, its pod and status.pod."""
        name = name or f"r-{uuid.uuid4().hex[:8]}"
        body = {"metadata": {"name": name}, "spec": {"runtime": {"linuxPod": {}}, **spec}}
        await self.cluster.create(ROBOTS, NAMESPACE, body)
        account = {"metadata": {"name": f"robot-{name}"}, "automountServiceAccountToken": False}
        await self.cluster.create(SERVICE_ACCOUNTS, NAMESPACE, account)
        return await self.new_pod(name)

    async def new_pod(self, name: str) -> Robot:
        """A new pod for the robot, in place of an earlier one."""
        pod = {
            "metadata": {"name": f"robot-{name}"},
            "spec": {"serviceAccountName": f"robot-{name}", "containers": [{"name": "agent", "image": "none"}]},
        }
        created = await self.cluster.create(PODS, NAMESPACE, pod)
        status = {"status": {"pod": {"name": f"robot-{name}", "uid": created["metadata"]["uid"], "node": ""}}}
        return Robot.of(await self.cluster.merge(ROBOTS, NAMESPACE, name, status, subresource="status"))

    async def delete_pod(self, name: str) -> None:
        await self.cluster.delete(PODS, NAMESPACE, f"robot-{name}", grace_seconds=0)

    async def token(self, robot: Robot, *, audience: str = "kuberpa", seconds: int = 600) -> str:
        """What kubelet would project into the robot's pod."""
        pod = robot.status.pod
        assert pod is not None
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod.name, "uid": pod.uid}
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{pod.name}/token"
        spec = {"audiences": [audience], "expirationSeconds": seconds, "boundObjectRef": bound}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        body = await self.cluster.request("POST", path, body=request)
        return str(body["status"]["token"])

    async def get_robot(self, name: str) -> Robot:
        return Robot.of(await self.cluster.get(ROBOTS, NAMESPACE, name))

    async def connected(self, name: str, *, connected: bool = True) -> Robot:
        async def ask() -> Robot | None:
            robot = await self.get_robot(name)
            return robot if (robot.status.agent is not None and robot.status.agent.connected) is connected else None

        found = await eventually(ask, f"{name} being {'' if connected else 'dis'}connected")
        assert found is not None
        return found

    async def item(self, robot: str, **spec: Any) -> ActivityItem:
        body = {
            "metadata": {"generateName": "item-"},
            "spec": {"robotRef": {"name": robot}, "def": "os.command", **spec},
        }
        return ActivityItem.of(await self.cluster.create(ACTIVITY_ITEMS, NAMESPACE, body))

    async def assign(self, item: ActivityItem, robot: Robot) -> ActivityItem:
        """As the operator does it."""
        item = await self.get(item)
        token = item.status.lease.token + 1
        assert robot.status.pod is not None
        status = {
            "phase": "Assigned",
            "reason": "Assigned",
            "message": "",
            "robot": robot.metadata.name,
            "attempt": item.status.attempt + 1,
            "lease": {"token": token, "holder": robot.status.pod.uid},
            "assignedAt": now().isoformat(),
        }
        return await self.set_status(item, **status)

    async def set_status(self, item: ActivityItem, **status: Any) -> ActivityItem:
        meta = item.metadata
        body = await self.cluster.merge(
            ACTIVITY_ITEMS, meta.namespace, meta.name, {"status": status}, subresource="status"
        )
        return ActivityItem.of(body)

    async def desire(self, item: ActivityItem, state: str) -> None:
        await self.cluster.merge(ACTIVITY_ITEMS, NAMESPACE, item.metadata.name, {"spec": {"desiredState": state}})

    async def delete(self, item: ActivityItem) -> None:
        await self.cluster.delete(ACTIVITY_ITEMS, NAMESPACE, item.metadata.name)

    async def get(self, item: ActivityItem) -> ActivityItem:
        return ActivityItem.of(await self.cluster.get(ACTIVITY_ITEMS, NAMESPACE, item.metadata.name))

    async def phase(self, item: ActivityItem, *phases: ActivityPhase | str) -> ActivityItem:
        """The item once it is in one of these phases."""

        async def ask() -> ActivityItem | None:
            seen = await self.get(item)
            assert seen.status.phase in phases, f"{seen.status.phase} {seen.status.reason} {seen.status.message}"
            return seen

        found = await eventually(ask, f"{item.metadata.name} being {phases}")
        assert found is not None
        return found


class Agent:
    """One WebSocket of a scripted agent."""

    def __init__(self, connection: ClientConnection) -> None:
        self.socket = connection
        self.seen: list[Any] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, token: str, **options: Any) -> AsyncIterator["Agent"]:
        options.setdefault("subprotocols", [wire.PROTOCOL])
        async with connect(
            url.replace("http", "ws", 1) + wire.PATH,
            additional_headers={"Authorization": f"Bearer {token}"},
            compression=None,
            max_size=wire.MAX_FRAME_BYTES,
            close_timeout=1,
            **options,
        ) as connection:
            yield cls(connection)

    @classmethod
    @asynccontextmanager
    async def live(
        cls, url: str, token: str, *runs: wire.RunState, clock: datetime | None = None
    ) -> AsyncIterator["Agent"]:
        """A connection past its Welcome, with os.command known."""
        async with cls.open(url, token) as agent:
            await agent.hello(*runs, clock=clock)
            await agent.receive(wire.Welcome)
            await agent.send(wire.Definitions(definitions=(wire.Definition(name="os.command"),)))
            yield agent

    async def hello(self, *runs: wire.RunState, clock: datetime | None = None) -> None:
        await self.send(wire.Hello(version="0.1.0", hostname="scripted", os="Linux", clock=clock or now(), runs=runs))

    async def send(self, message: Model) -> None:
        await self.socket.send(wire.encode(message))

    async def receive(self, kind: type[T], *, where: Callable[[T], bool] = lambda _: True) -> T:
        """The first message of this kind, among those seen earlier too."""
        for index, message in enumerate(self.seen):
            if isinstance(message, kind) and where(message):
                del self.seen[index]
                return message
        async with asyncio.timeout(DEADLINE):
            while True:
                message = wire.FROM_PANEL.validate_json(await self.socket.recv())
                if isinstance(message, kind) and where(message):
                    return message
                self.seen.append(message)

    async def closed(self) -> tuple[int, str]:
        """Close code and reason that the panel gives."""
        async with asyncio.timeout(DEADLINE):
            with suppress(ConnectionClosed):
                while True:
                    self.seen.append(wire.FROM_PANEL.validate_json(await self.socket.recv()))
        assert self.socket.close_code is not None
        return self.socket.close_code, self.socket.close_reason or ""

    async def started(self, start: wire.Start) -> None:
        await self.send(wire.Started(uid=start.uid, token=start.token))

    async def print(self, start: wire.Start, *texts: str, first: int = 1, at: datetime | None = None) -> None:
        for offset in range(0, len(texts), wire.MAX_LINES):
            lines = tuple(
                wire.Line(seq=first + offset + index, time=at or now(), stream="stdout", text=text)
                for index, text in enumerate(texts[offset : offset + wire.MAX_LINES])
            )
            await self.send(wire.Output(uid=start.uid, token=start.token, lines=lines))

    async def finish(self, start: wire.Start, outcome: Outcome = Outcome.SUCCEEDED, **fields: Any) -> None:
        fields.setdefault("reason", Reason.COMPLETED if outcome is Outcome.SUCCEEDED else Reason.NON_ZERO_EXIT)
        await self.send(wire.Finished(uid=start.uid, token=start.token, outcome=outcome, **fields))

    async def acknowledged(self, start: wire.Start) -> wire.Ack:
        return await self.receive(
            wire.Ack, where=lambda ack: ack.finished and (ack.uid, ack.token) == (start.uid, start.token)
        )


def altered(token: str, **claims: Any) -> str:
    """The token with other claims and therefore a wrong signature."""
    head, body, signature = token.split(".")
    decoded = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))) | claims
    encoded = base64.urlsafe_b64encode(json.dumps(decoded).encode()).rstrip(b"=").decode()
    return f"{head}.{encoded}.{signature}"


DAY = timedelta(days=1)
