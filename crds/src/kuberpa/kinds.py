"""The published kinds: how each is named, printed and selected."""

from dataclasses import dataclass
from typing import Any, Final, Literal

from kuberpa.activity import ActivityItem
from kuberpa.calendar import Calendar
from kuberpa.fleet import RobotFleet
from kuberpa.gsettings import GSettings
from kuberpa.host import RobotHost
from kuberpa.model import Model
from kuberpa.robot import Robot
from kuberpa.rolebinding import RobotRoleBinding
from kuberpa.schedule import Schedule
from kuberpa.workqueue import WorkQueue


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`; `wide` ones appear with -o wide only."""

    name: str
    path: str
    description: str
    type: Literal["string", "integer", "number", "boolean", "date"] = "string"
    wide: bool = False

    def to_json(self) -> dict[str, Any]:
        """As the CRD spells it."""
        body = {"name": self.name, "type": self.type, "jsonPath": self.path, "description": self.description}
        return body | ({"priority": 1} if self.wide else {})


@dataclass(frozen=True, slots=True)
class Kind:
    """One CustomResourceDefinition."""

    model: type[Model]
    plural: str
    short_name: str
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()
    """Field selectors; the paths of fields that something is watched or listed by."""
    scale: bool = False
    """Whether kubectl scale and autoscalers may set spec.replicas."""

    @property
    def name(self) -> str:
        """The kind as manifests spell it."""
        return self.model.__name__


_AGE: Final = Column("Age", ".metadata.creationTimestamp", "Time since the object was created.", "date")
_MESSAGE: Final = Column("Message", ".status.message", "Why it is in this phase.", wide=True)

KINDS: Final = (
    Kind(
        model=Robot,
        plural="robots",
        short_name="robot",
        columns=(
            Column("Desired", ".spec.desiredState", "What is wanted of it."),
            Column("Phase", ".status.phase", "What the robot does."),
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether it takes work."),
            Column("Running", ".status.activities.running", "Activities on the robot now.", "integer"),
            Column("Queued", ".status.activities.queued", "Activities that wait for this robot.", "integer"),
            Column("Node", ".status.pod.node", "Node of the robot's pod."),
            _AGE,
            Column("Control", ".spec.control", "Who gives it work.", wide=True),
            Column("OS", ".status.agent.os", "Operating system that the agent sees.", wide=True),
            Column("Agent", ".status.agent.version", "Version of the agent.", wide=True),
            _MESSAGE,
        ),
        selectable=(".status.phase",),
    ),
    Kind(
        model=RobotFleet,
        plural="robotfleets",
        short_name="rfleet",
        columns=(
            Column("Desired", ".status.desired", "Members that are wanted now.", "integer"),
            Column("Current", ".status.replicas", "Members that exist.", "integer"),
            Column("Ready", ".status.readyReplicas", "Members that take work.", "integer"),
            Column("Busy", ".status.busyReplicas", "Members on which something runs.", "integer"),
            Column("Updated", ".status.updatedReplicas", "Members that are as the template is.", "integer"),
            Column("Leaving", ".status.leavingReplicas", "Members that are about to go.", "integer"),
            _AGE,
            Column("Queue", ".spec.queueRef.name", "Work queue that it scales with.", wide=True),
            Column("Selector", ".status.selector", "Which Robots are members.", wide=True),
            Column("Message", '.status.conditions[?(@.type=="Ready")].message', "Why it is so.", wide=True),
        ),
        scale=True,
    ),
    Kind(
        model=RobotHost,
        plural="robothosts",
        short_name="rhost",
        columns=(
            Column("Address", ".spec.address", "Where the host is."),
            Column(
                "Reachable", '.status.conditions[?(@.type=="Reachable")].status', "Whether calls to the host succeed."
            ),
            Column("Reason", '.status.conditions[?(@.type=="Reachable")].reason', "How the host was found."),
            Column("Slots", ".spec.slots", "Robots that may work there at a time.", "integer"),
            Column("Used", ".status.used", "Slots in use.", "integer"),
            Column("Waiting", ".status.waiting", "Robots that wait for a slot.", "integer"),
            _AGE,
            Column("OS", ".status.facts.os", "Operating system.", wide=True),
            Column("Hostname", ".status.facts.hostname", "Name that the host gives itself.", wide=True),
            Column("CPUs", ".status.facts.cpus", "Logical processors.", "integer", wide=True),
            Column("Booted", ".status.facts.bootTime", "Time since the host was started.", "date", wide=True),
            Column("Message", '.status.conditions[?(@.type=="Reachable")].message', "Why it is or is not.", wide=True),
        ),
    ),
    Kind(
        model=ActivityItem,
        plural="activityitems",
        short_name="ai",
        columns=(
            Column("Def", ".spec.def", "Definition that runs."),
            Column("Robot", ".status.robot", "Robot of the last assignment."),
            Column("Phase", ".status.phase", "Where the item is."),
            Column("Reason", ".status.reason", "Why it is there."),
            Column("Attempt", ".status.attempt", "Attempts so far.", "integer"),
            _AGE,
            Column("Started", ".status.startedAt", "Time since the last attempt started.", "date", wide=True),
            Column("Finished", ".status.finishedAt", "Time since the final phase was reached.", "date", wide=True),
            Column("Exit", ".status.exitCode", "Exit code of the program.", "integer", wide=True),
            Column("Creator", r".metadata.annotations.kuberpa\.dev/created-by", "User who created it.", wide=True),
            _MESSAGE,
        ),
        selectable=(".status.phase", ".status.robot", ".spec.robotRef.name"),
    ),
    Kind(
        model=Schedule,
        plural="schedules",
        short_name="sched",
        columns=(
            Column("Plan", ".status.plan", "Cron expressions, interval, instants or rule."),
            Column("Zone", ".spec.timeZone", "Zone that it is read in."),
            Column("Suspend", ".spec.suspend", "Whether nothing fires.", "boolean"),
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether it can fire."),
            Column("Last", ".status.lastScheduleTime", "Time since the last decided instant.", "date"),
            Column("Next", ".status.nextScheduleTimes[0]", "Next firing, in UTC."),
            Column("Active", ".status.active[0].name", "First unfinished ActivityItem."),
            _AGE,
            Column("Def", ".spec.action.activity.spec.def", "Definition that runs.", wide=True),
            Column(
                "Message", '.status.conditions[?(@.type=="Ready")].message', "Why it can or cannot fire.", wide=True
            ),
        ),
    ),
    Kind(
        model=WorkQueue,
        plural="workqueues",
        short_name="wq",
        columns=(
            Column("Ready", ".status.items.ready", "Items that could be handed out now.", "integer"),
            Column("Deferred", ".status.items.deferred", "Items that wait for a time.", "integer"),
            Column("Leased", ".status.items.leased", "Items with a robot.", "integer"),
            Column("Succeeded", ".status.items.succeeded", "Items that are done.", "integer"),
            Column("Dead", ".status.items.deadLettered", "Items whose attempts are used up.", "integer"),
            Column("Oldest", ".status.oldestReadyAt", "Time since the oldest ready item was added.", "date"),
            Column("P90", ".status.forecast.p90At", "When the backlog is finished in nine cases of ten."),
            Column("Paused", ".spec.paused", "Whether and how it is held."),
            _AGE,
            Column("App", ".status.items.failed.application", "Items that failed technically.", "integer", wide=True),
            Column(
                "Business", ".status.items.failed.business", "Items that failed by their data.", "integer", wide=True
            ),
            Column("Rate", ".status.ratePerMinute", "Items finished a minute.", "number", wide=True),
            Column(
                "Risk", '.status.conditions[?(@.type=="SLAAtRisk")].status', "Whether the SLA is at risk.", wide=True
            ),
            Column("Message", '.status.conditions[?(@.type=="Ready")].message', "Why it works or not.", wide=True),
        ),
    ),
    Kind(
        model=Calendar,
        plural="calendars",
        short_name="cal",
        columns=(
            Column("State", ".status.state", "Working, OffHours or DayOff."),
            Column("Today", ".status.why", "Why today is worked or not."),
            Column("Next change", ".status.nextChange", "When the state changes next, in UTC."),
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether Schedules can go by it."),
            _AGE,
            Column("Country", ".spec.holidays.country", "Country whose holidays count.", wide=True),
            Column("Extends", ".spec.extends", "Calendar that it starts from.", wide=True),
            Column("Message", '.status.conditions[?(@.type=="Ready")].message', "What is wrong with it.", wide=True),
        ),
    ),
    Kind(
        model=RobotRoleBinding,
        plural="robotrolebindings",
        short_name="rrb",
        columns=(
            Column("Role", ".spec.role", "What is given."),
            Column("Subjects", ".status.subjects", "To whom."),
            Column("Scope", ".status.scope", "On what."),
            Column("Robots", ".status.robots", "How many robots it is about.", "integer"),
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether it is in effect."),
            _AGE,
            Column("Given by", r".metadata.annotations.kuberpa\.dev/created-by", "User who created it.", wide=True),
            Column("Message", '.status.conditions[?(@.type=="Ready")].message', "Why it is or is not.", wide=True),
        ),
    ),
    Kind(
        model=GSettings,
        plural="gsettings",
        short_name="rgs",
        columns=(
            Column("Operator log", ".spec.settings.operator.logLevel", "From which level on the operator logs."),
            Column("Panel log", ".spec.settings.panel.logLevel", "From which level on the panel logs."),
            Column("Days", ".spec.settings.retention.activityDays", "Days for which activities are kept.", "integer"),
            Column("Changed by", r".metadata.annotations.kuberpa\.dev/changed-by", "User who changed it last."),
            _AGE,
        ),
    ),
)
