"""Robots as the pages and the API show them: pure queries over the watched objects."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from kuberpa.meta import Condition
from kuberpa.model import Instant, Model
from kuberpa.names import LABEL_FLEET
from kuberpa.program import Program, ProgramStatus
from kuberpa.robot import (
    PackagesStatus,
    Robot,
    RobotCondition,
    RobotControl,
    RobotDesiredState,
    RobotPhase,
    RobotStop,
    Transition,
)

PAGE_SIZE: Final = 50
ROWS_REMEMBERED: Final = 10_000
FACETS_SHOWN: Final = 8
SortKey = Literal["name", "state", "runtime", "node", "running", "queued", "version", "since"]

URGENCY: Final = (
    RobotPhase.UNREACHABLE,
    RobotPhase.CRASH_LOOP,
    RobotPhase.PENDING,
    RobotPhase.STARTING,
    RobotPhase.STOPPING,
    RobotPhase.PAUSING,
    RobotPhase.BUSY,
    RobotPhase.IDLE,
    RobotPhase.PAUSED,
    RobotPhase.STOPPED,
)
"""Sorting by state puts what needs a person first."""


class RobotRow(Model):
    """One robot in a list."""

    uid: str
    namespace: str
    name: str
    phase: RobotPhase
    reason: str
    message: str
    ready: bool
    runtime: Literal["Linux", "Windows", "Host"]
    os: str
    node: str
    running: int
    queued: int
    agent_version: str
    connected: bool
    packages: PackagesStatus
    desired_state: RobotDesiredState
    control: RobotControl
    since: Instant | None
    created_at: Instant | None
    host: str = Field("", description="The RobotHost that it works on.")
    fleet: str = Field("", description="The RobotFleet that it belongs to.")

    @property
    def needs_attention(self) -> bool:
        """Whether a person should look: unreachable, its program or its packages failed."""
        return self.phase in {RobotPhase.UNREACHABLE, RobotPhase.CRASH_LOOP} or self.packages.state == "Failed"


class RobotDetail(Model):
    """One robot with everything the panel knows."""

    row: RobotRow
    conditions: tuple[Condition, ...]
    wanted_packages: tuple[str, ...]
    package_index: str
    hostname: str
    server: str
    pod: str
    concurrency: int
    async_concurrency: int
    secrets: tuple[str, ...]
    labels: dict[str, str]
    definitions: tuple[str, ...]
    connected_at: Instant | None
    disconnected_at: Instant | None
    stop: RobotStop
    transition: Transition | None
    program: Program | None
    program_status: ProgramStatus | None


class RobotQuery(Model):
    """What to list. `text` is found in name, node, reason and message; `page` counts from 1."""

    namespace: str = Field("", max_length=63)
    text: str = Field("", max_length=200)
    phase: tuple[RobotPhase, ...] = ()
    host: str = Field("", max_length=253, description="Only robots on this RobotHost.")
    fleet: str = Field("", max_length=253, description="Only members of this RobotFleet.")
    group: Literal["", "host", "fleet", "state"] = Field("", description="Rows of a group come together.")
    sort: SortKey = "name"
    descending: bool = False
    page: int = Field(1, ge=1, le=100_000)
    size: int = Field(PAGE_SIZE, ge=1, le=500)


class RobotPage(Model):
    """One page of robots. `facets`, `hosts` and `fleets` count before those filters, `total` matches after them."""

    items: tuple[RobotRow, ...]
    total: int
    page: int
    pages: int
    facets: dict[RobotPhase, int]
    hosts: dict[str, int]
    fleets: dict[str, int]


_SORT: Final[dict[SortKey, Callable[[RobotRow], Any]]] = {
    "name": lambda _: (),
    "state": lambda row: URGENCY.index(row.phase),
    "runtime": lambda row: row.runtime,
    "node": lambda row: row.node,
    "running": lambda row: row.running,
    "queued": lambda row: row.queued,
    "version": lambda row: row.agent_version,
    "since": lambda row: row.since.timestamp() if row.since else 0.0,
}


def row_of(robot: Robot) -> RobotRow:
    """What a list shows of a robot."""
    status, agent = robot.status, robot.status.agent
    ready = condition_of(robot, RobotCondition.READY)
    return RobotRow(
        uid=robot.metadata.uid,
        namespace=robot.metadata.namespace,
        name=robot.metadata.name,
        phase=status.phase,
        reason=ready.reason if ready else "",
        message=status.message or (ready.message if ready else ""),
        ready=bool(ready and ready.status == "True"),
        runtime=_system(robot),
        os=agent.os if agent else "",
        node=status.pod.node if status.pod else "",
        running=status.activities.running,
        queued=status.activities.queued,
        agent_version=agent.version if agent else "",
        connected=bool(agent and agent.connected),
        packages=agent.packages if agent else PackagesStatus(),
        desired_state=robot.spec.desired_state,
        control=robot.spec.control,
        since=_since(robot),
        created_at=robot.metadata.creation_timestamp,
        host=robot.spec.runtime.host.host_ref.name if robot.spec.runtime.host else "",
        fleet=robot.metadata.labels.get(LABEL_FLEET, ""),
    )


def _system(robot: Robot) -> Literal["Linux", "Windows", "Host"]:
    """By the pod that is asked for; of a machine outside of the cluster by what its agent says."""
    runtime = robot.spec.runtime
    if runtime.external is None:
        return "Windows" if runtime.windows_pod else "Host" if runtime.host else "Linux"
    return "Windows" if robot.status.agent is not None and robot.status.agent.os.startswith("Windows") else "Linux"


class RowMemory:
    """Rows as they were made last. A Robot that changes is another object, so what was made of this one still holds."""

    def __init__(self, most: int = ROWS_REMEMBERED) -> None:
        self._most = most
        self._rows: OrderedDict[str, tuple[Robot, RobotRow]] = OrderedDict()

    def row_of(self, robot: Robot) -> RobotRow:
        """The robot's row."""
        uid = robot.metadata.uid
        known = self._rows.get(uid)
        if known is None or known[0] is not robot:
            known = self._rows[uid] = (robot, row_of(robot))
        self._rows.move_to_end(uid)
        while len(self._rows) > self._most:
            self._rows.popitem(last=False)
        return known[1]


_remembered: Final = RowMemory()


def detail_of(robot: Robot) -> RobotDetail:
    """Everything of a robot but its activities."""
    agent, index = robot.status.agent, robot.spec.package_index
    return RobotDetail(
        row=row_of(robot),
        conditions=robot.status.conditions,
        wanted_packages=robot.spec.packages,
        package_index=index.url if index else "",
        hostname=agent.hostname if agent else "",
        server=agent.server if agent else "",
        pod=robot.status.pod.name if robot.status.pod else "",
        concurrency=robot.spec.concurrency,
        async_concurrency=robot.spec.async_concurrency,
        secrets=tuple(f"{secret.name} ({secret.secret_ref.name})" for secret in robot.spec.secrets),
        labels=robot.metadata.labels,
        definitions=agent.definitions if agent else (),
        connected_at=agent.connected_at if agent else None,
        disconnected_at=agent.disconnected_at if agent else None,
        stop=robot.spec.stop,
        transition=robot.status.transition,
        program=robot.spec.program,
        program_status=robot.status.program,
    )


def select(robots: Iterable[Robot], query: RobotQuery) -> RobotPage:
    """The page that a query asks for; ties are broken by namespace and name, so that pages never overlap."""
    rows = [row for row in map(_remembered.row_of, robots) if _mentions(row, query.text)]
    counted = Counter(row.phase for row in rows)
    facets = {phase: counted[phase] for phase in URGENCY}
    chosen = [row for row in rows if _passes(row, query)]
    chosen.sort(key=lambda row: (row.name, row.namespace), reverse=query.descending and query.sort == "name")
    chosen.sort(key=_SORT[query.sort], reverse=query.descending)
    if query.group:
        chosen.sort(key=lambda row: _group_order(row, query.group))
    pages = max(1, -(-len(chosen) // query.size))
    page = min(query.page, pages)
    start = (page - 1) * query.size
    return RobotPage(
        items=tuple(chosen[start : start + query.size]),
        total=len(chosen),
        page=page,
        pages=pages,
        facets=facets,
        hosts=_most(row.host for row in rows),
        fleets=_most(row.fleet for row in rows),
    )


def matching(robots: Iterable[Robot], query: RobotQuery) -> list[RobotRow]:
    """All that a query matches, whatever page it asks for."""
    rows = map(_remembered.row_of, robots)
    return [row for row in rows if _mentions(row, query.text) and _passes(row, query)]


def group_of(row: RobotRow, group: str) -> str:
    """Under what a row comes in a grouped list; empty: it has none."""
    return {"host": row.host or row.node, "fleet": row.fleet, "state": str(row.phase)}[group]


def _group_order(row: RobotRow, group: str) -> tuple[Any, ...]:
    """States by urgency, others by name, those without one last."""
    if group == "state":
        return (URGENCY.index(row.phase),)
    name = group_of(row, group)
    return (not name, name)


def _passes(row: RobotRow, query: RobotQuery) -> bool:
    return (
        (not query.phase or row.phase in query.phase)
        and query.host in {"", row.host}
        and query.fleet in {"", row.fleet}
    )


def _most(names: Iterable[str]) -> dict[str, int]:
    """The names with the most robots, for chips."""
    return dict(Counter(filter(None, names)).most_common(FACETS_SHOWN))


def condition_of(robot: Robot, kind: RobotCondition) -> Condition | None:
    """One condition, if the operator has written it."""
    return next((condition for condition in robot.status.conditions if condition.type == kind), None)


def _since(robot: Robot) -> datetime | None:
    times = [condition.last_transition_time for condition in robot.status.conditions]
    return max(times) if times else robot.metadata.creation_timestamp


def _mentions(row: RobotRow, text: str) -> bool:
    if not text:
        return True
    wanted = text.casefold().split()
    fields = (row.namespace, row.name, row.node, row.reason, row.message, row.os, row.runtime)
    haystack = " ".join(fields).casefold()
    return all(word in haystack for word in wanted)
