"""Writes Robot.status.agent for one connection: each write tests that no newer connection has taken over."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from kuberpa.client import ROBOTS, ApiError, Body, Cluster, ConflictError, InvalidError, NotFoundError
from kuberpa.failpoints import Failpoint, reach
from kuberpa.names import timestamp
from kuberpa.robot import AgentStatus, PackagesStatus, Robot
from kuberpa.session import SessionStatus
from kuberpa.wire import Hello, Seen
from kuberpa_panel.agents.identity import DeniedError, Identity, is_pod_of, stranger

log = logging.getLogger(__name__)

SPACING_SECONDS: Final = 1.0
GATHER_SECONDS: Final = 0.02
"""What an agent says in one breath (its state, its packages, its definitions) is written at once."""
RETRY_SECONDS: Final = 1.0
CLAIM_TRIES: Final = 10


class SupersededError(Exception):
    """A newer connection of the same robot wrote its epoch."""


async def claim(
    cluster: Cluster, identity: Identity, hello: Hello, server: str, now: datetime
) -> tuple[AgentStatus, Robot]:
    """Make this connection the robot's present one, with the next epoch; the Robot as it is then.

    `connected` becomes true once it is known what the agent can run: at once for an agent that was here before,
    with its first Definitions for a new one, so that nobody takes it for an agent which can run nothing.
    Raises DeniedError, ApiError.
    """
    reach(Failpoint.CONNECT_BEFORE)
    for _ in range(CLAIM_TRIES):
        try:
            robot = Robot.of(await cluster.get(ROBOTS, identity.namespace, identity.robot))
            if not is_pod_of(robot, identity):
                raise stranger(identity)
            status = _claimed(robot.status.agent, identity, hello, server, now)
            written = await _write(cluster, identity, robot, status)
        except NotFoundError:
            raise DeniedError(403, f"there is no Robot {identity}") from None
        except (ConflictError, InvalidError) as error:
            log.info("claim of %s is tried again: %s", identity, error)
            continue
        reach(Failpoint.CONNECT_AFTER)
        return status, Robot.of(written)
    raise DeniedError(503, f"Robot {identity} changes too fast; try again")


def _claimed(before: AgentStatus | None, identity: Identity, hello: Hello, server: str, now: datetime) -> AgentStatus:
    known = before if before is not None and before.identity == identity.pod_uid else None
    return AgentStatus(
        connected=bool(known and known.definitions),
        identity=identity.pod_uid,
        server=server,
        epoch=(before.epoch if before else 0) + 1,
        version=hello.version,
        hostname=hello.hostname,
        os=hello.os,
        connected_at=now,
        disconnected_at=known.disconnected_at if known else None,
        definitions=known.definitions if known else (),
        session_definitions=known.session_definitions if known else (),
        packages=known.packages if known else PackagesStatus(),
        host=known.host if known else None,
    )


async def _write(cluster: Cluster, identity: Identity, robot: Robot, status: AgentStatus) -> Body:
    before = robot.status.agent
    value = status.to_json()
    if before is None or before.epoch == 0:
        patch: Body = {"metadata": {"resourceVersion": robot.metadata.resource_version}, "status": {"agent": value}}
        return await cluster.merge(ROBOTS, identity.namespace, identity.robot, patch, subresource="status")
    return await write_under_epoch(cluster, identity.namespace, identity.robot, before.epoch, value)


async def write_under_epoch(cluster: Cluster, namespace: str, robot: str, epoch: int, agent: Body) -> Body:
    """Replace status.agent if its epoch is still this one; the Robot then. Raises InvalidError when it is not."""
    operations: list[Body] = [
        {"op": "test", "path": "/status/agent/epoch", "value": epoch},
        {"op": "add", "path": "/status/agent", "value": agent},
    ]
    return await cluster.patch(ROBOTS, namespace, robot, operations, subresource="status")


def session_seen(message: Seen, now: datetime) -> Callable[[AgentStatus], dict[str, Any]]:
    """The change of status that an observation of the session is; its time is that of the first of equal ones."""

    def change(status: AgentStatus) -> dict[str, Any]:
        known = status.session
        seen = SessionStatus.of({**message.session.to_json(), "observedAt": timestamp(now)})
        same = known is not None and seen == known.model_copy(update={"observed_at": seen.observed_at})
        return {"session": known if same else seen}

    return change


class AgentStatusWriter:
    """Brings one connection's view of its agent into the Robot, at most once a second unless it is urgent."""

    def __init__(self, cluster: Cluster, identity: Identity, status: AgentStatus) -> None:
        self._cluster, self._identity = cluster, identity
        self._status, self._written = status, status
        self._dirty, self._urgent = asyncio.Event(), asyncio.Event()

    @property
    def status(self) -> AgentStatus:
        """What is to be written, or was."""
        return self._status

    def update(self, change: Callable[[AgentStatus], dict[str, Any]], *, urgent: bool = False) -> None:
        """Change the status; `change` gives the fields that differ."""
        self._status = self._status.model_copy(update=change(self._status))
        if self._status != self._written:
            self._dirty.set()
            if urgent:
                self._urgent.set()

    async def run(self) -> None:
        """Write until a newer connection takes over. Raises SupersededError."""
        while True:
            await self._dirty.wait()
            await asyncio.sleep(GATHER_SECONDS)
            await self.flush()
            try:
                await asyncio.wait_for(self._urgent.wait(), SPACING_SECONDS)
            except TimeoutError:
                continue

    async def flush(self) -> None:
        """Write now, however often it takes. Raises SupersededError. Of a robot that has gone nothing is written."""
        while self._status != self._written:
            status = self._status
            where = self._identity
            try:
                await write_under_epoch(self._cluster, where.namespace, where.robot, status.epoch, status.to_json())
                self._written = status
            except (NotFoundError, InvalidError, ConflictError) as error:
                await self._check_epoch(error)
            except ApiError as error:
                log.warning("status of %s is written later: %s", where, error)
                await asyncio.sleep(RETRY_SECONDS)
        # only now: what was said again while it was being written is written as well
        self._dirty.clear()
        self._urgent.clear()

    async def _check_epoch(self, error: ApiError) -> None:
        try:
            robot = Robot.of(await self._cluster.get(ROBOTS, self._identity.namespace, self._identity.robot))
        except NotFoundError:
            # the Robot has gone: there is nothing to write, but its agent still ends what runs and reports it
            self._written = self._status
            return
        except ApiError:
            await asyncio.sleep(RETRY_SECONDS)
            return
        if robot.status.agent is None or robot.status.agent.epoch != self._status.epoch:
            raise SupersededError("a newer connection took over") from None
        log.error("the API server refuses the agent status of %s: %s", self._identity, error)
        await asyncio.sleep(RETRY_SECONDS * 5)
