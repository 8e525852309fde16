"""What a schema cannot say: the CEL rules of each kind, by the path of the field that they guard.

Each message names the field and says what would be right. Transition rules (with `oldSelf`) are checked by the API
server on every update, of spec and of status alike; they are the fence that timing cannot get past.
"""

# length: one table of rules, kind by kind

from typing import Any, Final

from kuberpa.activity import FINAL_PHASES, ActivityItemSpec, ActivityPhase
from kuberpa.cel_rule import Rule, exactly_one_of, name_at_most, unchanged
from kuberpa.fleet import FLEET_NAME_MAX
from kuberpa.gsettings import SETTINGS_NAME
from kuberpa.lifecycle import TRANSITIONS
from kuberpa.names import ROBOT_NAME_MAX
from kuberpa.workqueue import QUEUE_NAME_MAX

_TARGET: Final = exactly_one_of("robotRef", "robotSelector", example="robotRef: {name: invoices}")

_REQUIREMENT: Final = Rule(
    rule="(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
    message="In and NotIn need at least one value, Exists and DoesNotExist take none",
    field="values",
)

_NO_CREDENTIALS: Final = Rule(
    rule=r"!self.matches(r'(?i)(https?://[^/?#\s]*@|://[^/?#\s@:]*:[^/?#\s]*@)')",
    message="must not contain credentials (https://user:password@…): resources are no place for secrets; "
    "put them into a Secret and name it in packageIndex.credentialsSecretRef",
    forbids=True,
)

_MUTABLE: Final = frozenset({"desiredState", "priority"})
_ALWAYS_PRESENT: Final = frozenset({"def", "input", "async", "stop", "retry", "ttlSecondsAfterFinished"})
"""Required or defaulted: present in every stored item."""

_IMMUTABLE_SPEC: Final = tuple(
    unchanged(
        field,
        required=field in _ALWAYS_PRESENT,
        remedy="only desiredState and priority can: create another ActivityItem",
    )
    for field in (info.alias or name for name, info in ActivityItemSpec.model_fields.items())
    if field not in _MUTABLE
)

_DESIRED_STATE: Final = Rule(
    rule="self == oldSelf || oldSelf == 'Run' || (oldSelf == 'Stop' && self == 'Kill')",
    message="can only move from Run to Stop to Kill; to run the work again create another ActivityItem",
    forbids=True,
)

_OLD_PHASE: Final = f"oldSelf.?status.?phase.orValue('{ActivityPhase.PENDING}')"
_OLD_TOKEN: Final = "oldSelf.?status.?lease.?token.orValue(0)"  # noqa: S105  an expression, not a password
_TOKEN: Final = "self.?status.?lease.?token.orValue(0)"  # noqa: S105  as above


def _texts(phases: Any) -> str:
    return "[" + ", ".join(f"'{phase}'" for phase in phases) + "]"


def _transitions() -> str:
    """CEL for kuberpa.lifecycle.TRANSITIONS: staying is always allowed."""
    table = ", ".join(
        f"'{phase}': {_texts(sorted({phase, *events.values()}))}" for phase, events in TRANSITIONS.items()
    )
    return f"!has(self.status) || !has(self.status.phase) || self.status.phase in {{{table}}}[{_OLD_PHASE}]"


STATUS_STAYS: Final = Rule(
    rule="!has(oldSelf.status) || !has(oldSelf.status.phase) || (has(self.status) && has(self.status.phase))",
    message="cannot be removed once it has a phase",
    field="status",
    forbids=True,
)

_FENCE: Final = (
    STATUS_STAYS,
    Rule(
        rule=_transitions(),
        message=f"a final phase ({', '.join(p for p in ActivityPhase if p in FINAL_PHASES)}) never changes, but Lost "
        "into Succeeded, Failed, Stopped or Killed; the others follow Pending, Assigned, Running, Stopping",
        field="status.phase",
        forbids=True,
    ),
    Rule(
        rule=f"!({_OLD_PHASE} == '{ActivityPhase.LOST}' && self.?status.?phase.orValue('') != '{ActivityPhase.LOST}')"
        f" || {_TOKEN} == {_OLD_TOKEN}",
        message="a Lost item takes a late report only under the same lease.token",
        field="status.phase",
        forbids=True,
    ),
    Rule(
        rule=f"{_TOKEN} >= {_OLD_TOKEN}",
        message="status.lease.token never decreases",
        field="status.lease",
        forbids=True,
    ),
    Rule(
        rule=f"!(self.?status.?phase.orValue('') == '{ActivityPhase.ASSIGNED}' && "
        f"{_OLD_PHASE} == '{ActivityPhase.PENDING}') || {_TOKEN} > {_OLD_TOKEN}",
        message="an assignment needs a lease.token higher than the one before",
        field="status.lease",
        forbids=True,
    ),
)

_LEASE: Final = (
    Rule(
        rule="!has(self.holder) || self.holder == '' || (has(self.token) && self.token > 0)",
        message="a holder needs a token of 1 or more",
    ),
    Rule(
        rule="!has(self.token) || !has(oldSelf.token) || self.token != oldSelf.token || "
        "(has(self.holder) == has(oldSelf.holder) && (!has(self.holder) || self.holder == oldSelf.holder))",
        message="one token has one holder: another holder needs a higher token",
        forbids=True,
    ),
)


def _never_less(field: str) -> Rule:
    path = ".?".join(["", "status", *field.split(".")])
    return Rule(
        rule=f"self{path}.orValue(0) >= oldSelf{path}.orValue(0)",
        message=f"status.{field} never decreases",
        field=f"status.{field.partition('.')[0]}",
        forbids=True,
    )


def _template(path: str) -> dict[str, tuple[Rule, ...]]:
    """Rules of an ActivityItem that a Schedule creates."""
    return {
        f"{path}.spec": (_TARGET,),
        f"{path}.spec.desiredState": (
            Rule(
                rule="self == 'Run'",
                message="must be Run in a Schedule: stop the ActivityItems that it created, or set spec.suspend",
            ),
        ),
        f"{path}.spec.robotSelector.matchExpressions[]": (_REQUIREMENT,),
    }


_MOUNTED: Final = "cannot be set with runtime.external: Secrets are mounted into pods, and it has none"

_ROBOT: Final[dict[str, tuple[Rule, ...]]] = {
    "spec.runtime": (exactly_one_of("windowsPod", "linuxPod", "host", "external", example="runtime: {linuxPod: {}}"),),
    "spec.runtime.windowsPod": (
        Rule(
            rule="!(self.hostProcess && has(self.gmsaCredentialSpecName))",
            message="cannot be set with hostProcess: a HostProcess container has the identity of its node",
            field="gmsaCredentialSpecName",
        ),
    ),
    "spec": (
        Rule(
            rule="!has(self.runtime.host) || !has(self.packages) || self.packages.size() == 0",
            message="cannot be installed on a host: use os.command with what is installed there",
            field="packages",
        ),
        Rule(
            rule="!has(self.runtime.host) || !self.?debug.?enabled.orValue(false)",
            message="cannot be true with runtime.host: neither consoles nor debuggers reach what works there",
            field="debug.enabled",
        ),
        Rule(
            rule="!has(self.runtime.external) || !has(self.secrets) || self.secrets.size() == 0",
            message=_MOUNTED,
            field="secrets",
        ),
        Rule(
            rule="!has(self.runtime.external) || !self.?packageIndex.?credentialsSecretRef.hasValue()",
            message=_MOUNTED,
            field="packageIndex",
        ),
        Rule(
            rule="self.?session.?type.orValue('None') != 'RDP' || has(self.runtime.linuxPod) || has(self.runtime.host)",
            message="RDP needs runtime.linuxPod or runtime.host: its agent holds the session",
            field="session.type",
        ),
        Rule(
            rule="self.?session.?type.orValue('None') == 'None' || !has(self.runtime.windowsPod)",
            message="must be None with runtime.windowsPod, which has no desktop",
            field="session.type",
        ),
        Rule(
            rule="!self.?session.?recovery.hasValue() || (has(self.runtime.host) && "
            "self.session.?type.orValue('None') != 'None')",
            message="is about a session on a RobotHost: it needs runtime.host and session.type RDP or Console",
            field="session.recovery",
        ),
        Rule(
            rule="(self.?session.?type.orValue('None') == 'RDP' && !has(self.runtime.host)) == "
            "self.?session.?rdp.hasValue()",
            message="must be set with type: RDP and without runtime.host, whose RobotHost has it, and only then, for "
            "example rdp: {address: vdi-7.example}",
            field="session.rdp",
        ),
    ),
    "spec.session": (
        Rule(
            rule="!has(self.recovery) || self.?keepAlive.orValue(true)",
            message="is about a session that is kept alive: leave it out with keepAlive: false",
            field="recovery",
        ),
        Rule(
            rule="(self.?type.orValue('None') == 'RDP') == has(self.credentialsSecretRef)",
            message="must be set with type: RDP, and only then: the Secret has keys username and password",
            field="credentialsSecretRef",
        ),
    ),
    "spec.session.recovery": (
        Rule(
            rule="has(self.logOffAfterSeconds) || has(self.restartHostAfterSeconds)",
            message="must say what is done, for example recovery: {logOffAfterSeconds: 300}",
        ),
        Rule(
            rule="!has(self.logOffAfterSeconds) || !has(self.restartHostAfterSeconds) || "
            "self.restartHostAfterSeconds >= self.logOffAfterSeconds + 60",
            message="must be at least 60 s after logOffAfterSeconds, which is tried first",
            field="restartHostAfterSeconds",
        ),
    ),
    "spec.packages[]": (_NO_CREDENTIALS,),
    "spec.program": (
        Rule(
            rule="self.command[0] != ''",
            message="must begin with the program, for example [python3, -m, invoices]",
            field="command",
        ),
    ),
}
"""Below a Robot, and below the template of a fleet."""

RULES: Final[dict[str, dict[str, tuple[Rule, ...]]]] = {
    "Robot": {
        "": (
            name_at_most(ROBOT_NAME_MAX),
            STATUS_STAYS,
            Rule(
                rule="self.?status.?agent.?epoch.orValue(0) >= oldSelf.?status.?agent.?epoch.orValue(0)",
                message="status.agent.epoch never decreases",
                field="status.agent",
                forbids=True,
            ),
        ),
        **_ROBOT,
    },
    "RobotFleet": {
        "": (
            name_at_most(FLEET_NAME_MAX),
            Rule(
                rule="has(self.spec.selector.matchLabels) && self.spec.selector.matchLabels.size() > 0 && "
                "self.spec.selector.matchLabels.all(key, "
                "self.spec.template.?metadata.?labels[?key].orValue('') == self.spec.selector.matchLabels[key])",
                message="must have matchLabels, all of which are in spec.template.metadata.labels too",
                field="spec.selector",
            ),
        ),
        "spec": (
            unchanged("selector", required=True, remedy="make another RobotFleet, which adopts the robots"),
            Rule(
                rule="!has(self.maxReplicas) || self.replicas <= self.maxReplicas",
                message="must be at most spec.maxReplicas",
                field="replicas",
            ),
            Rule(
                rule="has(self.maxReplicas) || (!has(self.queueRef) && self.minIdle == 0)",
                message="must be set with minIdle or queueRef: it is how many robots they may make",
                field="maxReplicas",
            ),
        ),
        "spec.selector.matchExpressions[]": (_REQUIREMENT,),
        **{f"spec.template.{path}": rules for path, rules in _ROBOT.items()},
    },
    "ActivityItem": {
        "": _FENCE,
        "spec": (_TARGET, *_IMMUTABLE_SPEC),
        "spec.desiredState": (_DESIRED_STATE,),
        "status.lease": _LEASE,
        "spec.robotSelector.matchExpressions[]": (_REQUIREMENT,),
    },
    "Schedule": {
        "": (
            name_at_most(ROBOT_NAME_MAX),
            Rule(
                rule="!has(oldSelf.status) || !has(oldSelf.status.lastScheduleTime) || (has(self.status) && "
                "has(self.status.lastScheduleTime) && "
                "self.status.lastScheduleTime >= oldSelf.status.lastScheduleTime)",
                message="never moves back: instants up to it are decided",
                field="status.lastScheduleTime",
                forbids=True,
            ),
            _never_less("firingCount"),
            _never_less("history.through"),
            _never_less("queueItemCount"),
            _never_less("history.queueItems"),
            Rule(
                rule="self.?status.?history.?through.orValue(0) <= self.?status.?firingCount.orValue(0)",
                message="cannot be more than status.firingCount",
                field="status.history",
            ),
        ),
        "spec": (
            Rule(
                rule="!has(self.killAfterSeconds) || !has(self.stopAfterSeconds) || "
                "self.killAfterSeconds >= self.stopAfterSeconds",
                message="must not be less than stopAfterSeconds",
                field="killAfterSeconds",
            ),
            Rule(
                rule="(has(self.schedules) && self.schedules.size() > 0) || has(self.every) || "
                "(has(self.at) && self.at.size() > 0) || (has(self.rrule) && self.rrule != '')",
                message="one of schedules, every, at and rrule must say when to fire, for example schedules: "
                "['0 9 * * 1-5']",
            ),
        ),
        "spec.every": (
            Rule(
                rule="self.interval.matches(r'[1-9]')",
                message="must be 1s or more, for example 15m",
                field="interval",
            ),
        ),
        "spec.window": (
            Rule(
                rule="!has(self.startDate) || !has(self.endDate) || self.startDate <= self.endDate",
                message="must not be before startDate",
                field="endDate",
            ),
            Rule(
                rule="!has(self.daily) || self.daily.from != self.daily.to",
                message="from and to are the same, which leaves no time at all",
                field="daily",
            ),
        ),
        "spec.backfill": (
            Rule(rule="self.from <= self.to", message="must not be before from: exchange them", field="to"),
        ),
        "spec.action": (
            exactly_one_of("activity", "sequence", "queueItem", "robotState", example="activity: {spec: {…}}"),
        ),
        "spec.action.robotState": (
            Rule(
                rule="has(self.during) == has(self.otherwise)",
                message="during and otherwise go together: both or neither",
                field="otherwise",
            ),
        ),
        "spec.action.robotState.selector.matchExpressions[]": (_REQUIREMENT,),
        **_template("spec.action.activity"),
        **_template("spec.action.sequence.steps[]"),
    },
    "WorkQueue": {
        "": (
            name_at_most(QUEUE_NAME_MAX),
            *(
                Rule(
                    rule=f"!has(self.spec.{chain}) || self.spec.{chain}.queueRef.name != self.metadata.name",
                    message="must name another queue: an item would follow itself for ever",
                    field=f"spec.{chain}",
                )
                for chain in ("onSuccess", "onFailure")
            ),
            Rule(
                rule="!has(self.spec.deadLetter) || !has(self.spec.deadLetter.queueRef) || "
                "self.spec.deadLetter.queueRef.name != self.metadata.name",
                message="must name another queue; without queueRef items stay in this one as DeadLettered",
                field="spec.deadLetter",
            ),
            Rule(
                rule="self.?status.?trigger.?created.orValue(0) >= oldSelf.?status.?trigger.?created.orValue(0)",
                message="never decreases: the numbers up to it have been given to activities",
                field="status.trigger.created",
                forbids=True,
            ),
        ),
        "spec.trigger": (Rule(rule="self.min <= self.max", message="must be at most spec.trigger.max", field="min"),),
        "spec.trigger.robotSelector.matchExpressions[]": (_REQUIREMENT,),
    },
}


RULES["RobotHost"] = {
    "": (name_at_most(ROBOT_NAME_MAX),),
    "spec.winrm": (
        Rule(
            rule="self.transport in ['NTLM', 'Kerberos'] || self.tls.enabled",
            message="must be true with the transports Basic and Certificate: without TLS they would show the password, "
            "or prove nothing",
            field="tls.enabled",
        ),
        Rule(
            rule="(self.transport == 'Kerberos') == has(self.kerberos)",
            message="goes with the transport Kerberos, and is needed there, for example kerberos: "
            "{realm: CORP.EXAMPLE, kdc: dc1.corp.example}",
            field="kerberos",
        ),
    ),
    "spec": (
        Rule(
            rule="self.winrm.maxConnections >= self.slots",
            message="must be at least spec.slots: each Robot's supervisor needs a connection of its own",
            field="winrm.maxConnections",
        ),
    ),
}

RULES["Calendar"] = {
    "": (name_at_most(ROBOT_NAME_MAX),),
    "spec": (
        Rule(
            rule="!has(self.holidays) || !has(self.holidays.subdivision) || self.holidays.subdivision == '' || "
            "(has(self.holidays.country) && self.holidays.country != '')",
            message="needs holidays.country",
            field="holidays",
        ),
    ),
    "spec.holidays.ranges[]": (
        Rule(rule="self.from <= self.to", message="must not be before from: exchange them", field="to"),
    ),
}

RULES["RobotRoleBinding"] = {
    "": (name_at_most(ROBOT_NAME_MAX),),
    "spec.robots": (exactly_one_of("names", "selector", example="selector: {matchLabels: {team: invoices}}"),),
    "spec.robots.selector.matchExpressions[]": (_REQUIREMENT,),
    "spec.subjects[]": (
        Rule(
            rule="self.kind == 'ServiceAccount' || !has(self.namespace) || self.namespace == ''",
            message="goes with the kind ServiceAccount only: users and groups belong to no namespace",
            field="namespace",
        ),
        Rule(
            rule="self.kind == 'ServiceAccount' || !self.name.startsWith('system:') || "
            "(self.kind == 'Group' && self.name.startsWith('system:serviceaccounts:'))",
            message="must not begin with system:, which are Kubernetes' own users and groups, but for "
            "system:serviceaccounts:NAMESPACE; for one account use the kind ServiceAccount",
            field="name",
            forbids=True,
        ),
    ),
}

RULES["GSettings"] = {
    "": (
        name_at_most(ROBOT_NAME_MAX),
        Rule(
            rule=f"!has(self.spec.settings) || self.metadata.name == '{SETTINGS_NAME}'",
            message=f"belongs into the GSettings named {SETTINGS_NAME} of kuberpa's own namespace; here only custom",
            field="spec.settings",
        ),
    ),
    "spec.settings.panel.sessions": (
        Rule(
            rule="self.?idleMinutes.orValue(120) <= self.?maxMinutes.orValue(720)",
            message="must be at most maxMinutes",
            field="idleMinutes",
        ),
    ),
}
