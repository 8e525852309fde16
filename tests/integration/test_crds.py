"""What a real API server makes of manifests: defaults, and refusals that name the field."""

# length: one table of everything that is refused, so that a rule without a row is found

import re
from typing import Any

import pytest
from tests.support.cluster import Cluster
from tests.support.resources import SHORTEST, SHORTEST_ITEM, Body, create, created, manifest, merged, patch, read

from kuberpa.cel import RULES
from kuberpa.cel_patterns import PATTERNS
from kuberpa.fleet import FLEET_NAME_MAX
from kuberpa.workqueue import QUEUE_NAME_MAX

ITEM = ("ActivityItem",)
SELECTOR: Body = {"robotRef": None, "robotSelector": {"matchLabels": {"team": "a"}}}


def selecting(expression: Body) -> Body:
    return {"robotRef": None, "robotSelector": {"matchExpressions": [expression]}}


def in_schedule(change: Body) -> Body:
    return {"action": {"activity": {"spec": change}}}


ONE_TARGET = "exactly one of robotRef and robotSelector must be set, for example robotRef: {name: invoices}"
ONE_RUNTIME = "exactly one of windowsPod, linuxPod, host and external must be set, for example runtime: {linuxPod: {}}"
SELECTOR_VALUES = "In and NotIn need at least one value, Exists and DoesNotExist take none"
CREDENTIALS = "must not contain credentials (https://user:password@…)"
OBJECT_NAME = "must be the name of a Kubernetes object"
QUANTITY = "must be a quantity such as 500m, 1, 512Mi or 2Gi"

Refusal = tuple[str, Body, str, str]


def on_a_host_or_outside() -> tuple[Refusal, ...]:
    """What a robot cannot have where it has no pod of its own."""
    host: Body = {"linuxPod": None, "host": {"hostRef": {"name": "desk-7"}}}
    external: Body = {"linuxPod": None, "external": {}}
    windows: Body = {"linuxPod": None, "windowsPod": {}}
    secret: Body = {"name": "sap", "secretRef": {"name": "sap"}}
    index: Body = {"url": "https://host/simple", "credentialsSecretRef": {"name": "index"}}
    no_secrets = "cannot be set with runtime.external: Secrets are mounted into pods"
    return (
        ("Robot", {"runtime": host, "packages": ["x==1"]}, "spec.packages", "cannot be installed on a host"),
        ("Robot", {"runtime": external, "secrets": [secret]}, "spec.secrets", no_secrets),
        ("Robot", {"runtime": external, "packageIndex": index}, "spec.packageIndex", no_secrets),
        (
            "Robot",
            {"runtime": host, "debug": {"enabled": True}},
            "spec.debug.enabled",
            "cannot be true with runtime.host",
        ),
        (
            "Robot",
            {"runtime": windows, "session": {"type": "Console"}},
            "spec.session.type",
            "must be None with runtime",
        ),
        ("Robot", {"runtime": external, "session": RDP_SESSION}, "spec.session.type", "RDP needs runtime.linuxPod"),
        ("Robot", {"runtime": host, "session": RDP_SESSION}, "spec.session.rdp", "without runtime.host"),
        *of_recovery(host),
    )


def of_recovery(host: Body) -> tuple[Refusal, ...]:
    """What cannot be done about a session that does not come back."""
    account: Body = {"credentialsSecretRef": {"name": "desk-7"}}
    there: Body = {"type": "RDP", **account}
    recovery: Body = {"recovery": {"logOffAfterSeconds": 300}}
    early: Body = {"logOffAfterSeconds": 300, "restartHostAfterSeconds": 330}
    field = "spec.session.recovery"
    about_hosts = "it needs runtime.host and session.type RDP or Console"
    return (
        ("Robot", {"session": RDP_SESSION | recovery}, field, about_hosts),
        ("Robot", {"runtime": host, "session": recovery}, field, about_hosts),
        (
            "Robot",
            {"runtime": host, "session": there | recovery | {"keepAlive": False}},
            field,
            "with keepAlive: false",
        ),
        ("Robot", {"runtime": host, "session": there | {"recovery": {}}}, field, "must say what is done"),
        (
            "Robot",
            {"runtime": host, "session": there | {"recovery": early}},
            f"{field}.restartHostAfterSeconds",
            "at least 60 s after logOffAfterSeconds",
        ),
    )


def of_sessions() -> tuple[Refusal, ...]:
    """What does not go together in a session."""
    without_host: Body = {key: value for key, value in RDP_SESSION.items() if key != "rdp"}
    without_account: Body = {key: value for key, value in RDP_SESSION.items() if key != "credentialsSecretRef"}
    together = "must be set with type: RDP, and only then"
    alone = (
        "must be set with type: RDP and without runtime.host, whose RobotHost has it, and only then, for example rdp"
    )
    return (
        ("Robot", {"session": without_host}, "spec.session.rdp", alone),
        ("Robot", {"session": RDP_SESSION | {"type": "Console"}}, "spec.session.rdp", alone),
        ("Robot", {"session": without_account}, "spec.session.credentialsSecretRef", f"{together}: the Secret has"),
        (
            "Robot",
            {"session": RDP_SESSION | {"rdp": {"address": "vdi 7"}}},
            "spec.session.rdp.address",
            "must be a host name or an IP address",
        ),
    )


def of_hosts() -> tuple[Refusal, ...]:
    """What a host cannot be."""
    account: Body = {"credentialsSecretRef": {"name": "desk-7"}}
    plain = account | {"transport": "Basic", "tls": {"enabled": False}}
    realm: Body = {"realm": "corp.example", "kdc": "dc1.corp.example"}
    kdc: Body = {"realm": "CORP.EXAMPLE", "kdc": "http://dc1"}
    return (
        ("RobotHost", {"address": "desk 7"}, "spec.address", "must be a host name or an IP address"),
        ("RobotHost", {"python": "python & calc"}, "spec.python", "must be a command or a path without quotes"),
        ("RobotHost", {"winrm": plain}, "spec.winrm.tls.enabled", "must be true with the transports Basic and"),
        ("RobotHost", {"winrm": account | {"transport": "Kerberos"}}, "spec.winrm.kerberos", "goes with the transport"),
        ("RobotHost", {"slots": 9}, "spec.winrm.maxConnections", "must be at least spec.slots"),
        (
            "RobotHost",
            {"winrm": account | {"transport": "Kerberos", "kerberos": realm}},
            "spec.winrm.kerberos.realm",
            "must be the name of a realm in capital letters",
        ),
        (
            "RobotHost",
            {"winrm": account | {"transport": "Kerberos", "kerberos": kdc}},
            "spec.winrm.kerberos.kdc",
            "must be a host, or host:port",
        ),
    )


def giving(**spec: Any) -> Body:
    """The spec of a RobotRoleBinding."""
    return {**SHORTEST["RobotRoleBinding"], **spec}


def to(**subject: str) -> Body:
    """The same, for one subject."""
    return giving(subjects=[subject])


RDP_SESSION: Body = {"type": "RDP", "rdp": {"address": "vdi-7.example"}, "credentialsSecretRef": {"name": "vdi-7"}}
TRIGGER: Body = {"activity": {"def": "os.command"}, "robotSelector": {"matchLabels": {"team": "x"}}}
REFUSED: list[tuple[str, Body, str, str]] = [
    # kind, what differs from the shortest manifest, field, what the message says
    ("Robot", {"runtime": {"linuxPod": None}}, "spec.runtime", ONE_RUNTIME),
    ("Robot", {"runtime": {"windowsPod": {}}}, "spec.runtime", ONE_RUNTIME),
    ("Robot", {"runtime": {"linuxPod": {"resources": {"limits": {"cpu": "many"}}}}}, "limits[cpu]", QUANTITY),
    ("Robot", {"program": {"command": [""]}}, "spec.program.command", "must begin with the program"),
    ("RobotFleet", {"replicas": 3, "maxReplicas": 2}, "spec.replicas", "must be at most spec.maxReplicas"),
    ("RobotFleet", {"minIdle": 1}, "spec.maxReplicas", "must be set with minIdle or queueRef"),
    (
        "RobotFleet",
        {"selector": {"matchLabels": {"team": "y"}}},
        "spec.selector",
        "must have matchLabels, all of which",
    ),
    ("WorkQueue", {"trigger": TRIGGER | {"min": 3, "max": 2}}, "spec.trigger.min", "must be at most spec.trigger.max"),
    (
        "Robot",
        {"runtime": {"linuxPod": None, "windowsPod": {"hostProcess": True, "gmsaCredentialSpecName": "robot"}}},
        "spec.runtime.windowsPod.gmsaCredentialSpecName",
        "cannot be set with hostProcess",
    ),
    *on_a_host_or_outside(),
    *of_sessions(),
    *of_hosts(),
    (
        "GSettings",
        {"settings": {"panel": {"sessions": {"idleMinutes": 60, "maxMinutes": 30}}}},
        "idleMinutes",
        "must be at most maxMinutes",
    ),
    (
        "GSettings",
        {"settings": {"panel": {"timeZone": "Mars/Olympus Mons"}}},
        "timeZone",
        "must be the name of a time zone",
    ),
    ("Robot", {"packages": ["git+https://me:secret@host/x@v1"]}, "spec.packages[0]", CREDENTIALS),
    ("Robot", {"packages": ["fine==1", "x @ HTTPS://ghp_token@host/x.whl"]}, "spec.packages[1]", CREDENTIALS),
    ("Robot", {"packages": ["git+ssh://me:secret@host/x"]}, "spec.packages[0]", CREDENTIALS),
    ("Robot", {"packages": ["--index-url http://me:p%40ss@host/simple x"]}, "spec.packages[0]", CREDENTIALS),
    ("Robot", {"packages": ["x" * 1025]}, "spec.packages[0]", "may not be more than 1024"),
    ("Robot", {"packageIndex": {"url": "https://me:secret@host/simple"}}, "spec.packageIndex.url", "http or https URL"),
    ("Robot", {"secrets": [{"name": "a", "secretRef": {"name": "S"}}]}, "spec.secrets[0].secretRef.name", OBJECT_NAME),
    ("Robot", {"secrets": [{"name": "A b", "secretRef": {"name": "s"}}]}, "spec.secrets[0].name", "lower-case letters"),
    (
        "Robot",
        {"secrets": [{"name": "sap", "secretRef": {"name": "a"}}, {"name": "sap", "secretRef": {"name": "b"}}]},
        "spec.secrets[1]",
        "Duplicate value",
    ),
    ("Robot", {"concurrency": 0}, "spec.concurrency", "should be greater than or equal to 1"),
    ("Robot", {"concurrency": "many"}, "spec.concurrency", "must be of type integer"),
    ("ActivityItem", {"robotRef": None}, "spec", ONE_TARGET),
    ("ActivityItem", {"robotSelector": {}}, "spec", ONE_TARGET),
    ("ActivityItem", {"robotRef": {"name": "R_1"}}, "spec.robotRef.name", OBJECT_NAME),
    ("ActivityItem", {"def": "rm -rf /"}, "spec.def", "must be the name of a definition"),
    ("ActivityItem", {"def": None}, "spec.def", "Required value"),
    ("ActivityItem", {"inject": {"logger": "1st"}}, "spec.inject.logger", "must be the name of a parameter"),
    ("ActivityItem", {"input": {"args": "echo"}}, "spec.input.args", "must be of type array"),
    ("ActivityItem", {"input": {"kwargs": ["echo"]}}, "spec.input.kwargs", "must be of type object"),
    ("ActivityItem", {"desiredState": "Pause"}, "spec.desiredState", 'supported values: "Run", "Stop", "Kill"'),
    ("ActivityItem", {"timeoutSeconds": 0}, "spec.timeoutSeconds", "should be greater than or equal to 1"),
    (
        "ActivityItem",
        selecting({"key": "a", "operator": "In"}),
        "spec.robotSelector.matchExpressions[0].values",
        SELECTOR_VALUES,
    ),
    (
        "ActivityItem",
        selecting({"key": "a", "operator": "Exists", "values": ["b"]}),
        "spec.robotSelector.matchExpressions[0].values",
        SELECTOR_VALUES,
    ),
    ("Schedule", {"schedules": []}, "spec", "one of schedules, every, at and rrule must say when to fire"),
    ("Schedule", {"every": {"interval": "soon"}}, "spec.every.interval", "must be a span of time"),
    ("Schedule", {"every": {"interval": "0m"}}, "spec.every.interval", "must be 1s or more, for example 15m"),
    ("Schedule", {"at": ["tomorrow"]}, "spec.at[0]", "must be of type date-time"),
    (
        "Schedule",
        {"window": {"startDate": "2027-02-02", "endDate": "2027-02-01"}},
        "spec.window.endDate",
        "must not be before startDate",
    ),
    (
        "Schedule",
        {"window": {"daily": {"from": "08:00", "to": "08:00"}}},
        "spec.window.daily",
        "from and to are the same, which leaves no time at all",
    ),
    (
        "Schedule",
        {"window": {"daily": {"from": "8", "to": "20:00"}}},
        "spec.window.daily.from",
        "must be a time of day from 00:00 to 24:00",
    ),
    (
        "Schedule",
        {"stopAfterSeconds": 60, "killAfterSeconds": 30},
        "spec.killAfterSeconds",
        "must not be less than stopAfterSeconds",
    ),
    (
        "Schedule",
        {"backfill": {"from": "2027-02-02T00:00:00Z", "to": "2027-02-01T00:00:00Z"}},
        "spec.backfill.to",
        "must not be before from: exchange them",
    ),
    (
        "Schedule",
        {"action": {"sequence": {"steps": [{"spec": SHORTEST_ITEM}]}}},
        "spec.action",
        "exactly one of activity, sequence, queueItem and robotState must be set",
    ),
    (
        "Schedule",
        {"action": {"activity": None, "robotState": {"selector": {}, "state": "Running", "otherwise": "Stopped"}}},
        "spec.action.robotState.otherwise",
        "during and otherwise go together: both or neither",
    ),
    ("RobotRoleBinding", giving(role="Owner"), "spec.role", '"Viewer", "Operator", "Developer", "Admin"'),
    ("RobotRoleBinding", giving(subjects=[]), "spec.subjects", "at least 1 items"),
    ("RobotRoleBinding", giving(robots={}), "spec.robots", "exactly one of names and selector"),
    ("RobotRoleBinding", giving(robots={"names": ["r"], "selector": {}}), "spec.robots", "exactly one of names"),
    (
        "RobotRoleBinding",
        giving(robots={"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
        "spec.robots.selector.matchExpressions[0].values",
        "In and NotIn need at least one value",
    ),
    ("RobotRoleBinding", to(kind="User", name="system:admin"), "spec.subjects[0].name", "must not begin with system:"),
    ("RobotRoleBinding", to(kind="Group", name="system:masters"), "spec.subjects[0].name", "must not begin with"),
    ("RobotRoleBinding", to(kind="Group", name="system:authenticated"), "spec.subjects[0].name", "must not begin"),
    (
        "RobotRoleBinding",
        to(kind="User", name="anna", namespace="prod"),
        "spec.subjects[0].namespace",
        "goes with the kind ServiceAccount only",
    ),
    (
        "RobotRoleBinding",
        to(kind="ServiceAccount", name="bot", namespace="No/"),
        "spec.subjects[0].namespace",
        "must be the name of a namespace",
    ),
    ("Calendar", {"holidays": {"country": "ru"}}, "spec.holidays.country", "must be the ISO 3166 code"),
    (
        "Calendar",
        {"holidays": {"country": "DE", "subdivision": "B-Y"}},
        "spec.holidays.subdivision",
        "must be the code of a part of the country",
    ),
    ("Calendar", {"holidays": {"subdivision": "BY"}}, "spec.holidays", "needs holidays.country"),
    (
        "Calendar",
        {"holidays": {"ranges": [{"from": "2027-02-02", "to": "2027-02-01"}]}},
        "spec.holidays.ranges[0].to",
        "must not be before from: exchange them",
    ),
    ("Calendar", {"extends": "Base"}, "spec.extends", "must be the name of a Calendar"),
    ("Calendar", {"workingDays": ["Mo"]}, "spec.workingDays[0]", '"Monday", "Tuesday"'),
    ("Schedule", in_schedule({"robotRef": None}), "spec.action.activity.spec", ONE_TARGET),
    ("Schedule", in_schedule({"robotSelector": {}}), "spec.action.activity.spec", ONE_TARGET),
    ("Schedule", in_schedule({"input": {"args": 1}}), "spec.action.activity.spec.input.args", "must be of type array"),
    ("Schedule", in_schedule({"desiredState": "Stop"}), "spec.action.activity.spec.desiredState", "must be Run"),
    (
        "Schedule",
        in_schedule(selecting({"key": "a", "operator": "NotIn"})),
        "matchExpressions[0].values",
        SELECTOR_VALUES,
    ),
    ("Schedule", {"concurrencyPolicy": "Queue"}, "spec.concurrencyPolicy", '"Allow", "Forbid", "Replace"'),
]

CHANGES: list[tuple[Body, Body]] = [
    # what the item has besides the shortest spec, what is changed
    ({}, {"robotRef": {"name": "other"}}),
    ({}, {"robotRef": None, "robotSelector": {}}),
    (SELECTOR, {"robotSelector": {"matchLabels": {"team": "b"}}}),
    ({}, {"def": "os.powershell"}),
    ({}, {"input": {"args": [["echo", "ho"]]}}),
    ({}, {"input": {"kwargs": {"check": False}}}),
    ({"input": {"args": [None, {"a": [1, None]}]}}, {"input": {"args": [None, {"a": [2, None]}]}}),
    ({}, {"inject": {"logger": "log"}}),
    ({"inject": {"logger": "log"}}, {"inject": None}),
    ({}, {"async": True}),
    ({}, {"startDeadlineSeconds": 5}),
    ({"startDeadlineSeconds": 5}, {"startDeadlineSeconds": None}),
    ({}, {"timeoutSeconds": 5}),
    ({"timeoutSeconds": 5}, {"timeoutSeconds": 6}),
    ({"timeoutSeconds": 5}, {"timeoutSeconds": None}),
    ({}, {"stop": {"gracePeriodSeconds": 1}}),
    ({}, {"retry": {"limit": 1}}),
    ({}, {"ttlSecondsAfterFinished": 1}),
]


def test_the_shortest_robot_is_complete(crds: Cluster) -> None:
    spec = created(crds, manifest("Robot"))["spec"]
    assert spec == {
        "runtime": {"linuxPod": {"image": "ghcr.io/kuberpa/robot-agent:0.1.0"}},
        "concurrency": 1,
        "asyncConcurrency": 16,
        "desiredState": "Running",
        "stop": {"mode": "Safe", "gracePeriodSeconds": 300},
        "control": "Auto",
        "debug": {"enabled": False},
        "session": {"type": "None", "width": 1920, "height": 1080, "keepAlive": True},
    }


def test_the_shortest_activity_is_complete(crds: Cluster) -> None:
    assert created(crds, manifest("ActivityItem"))["spec"] == {
        "robotRef": {"name": "r"},
        "def": "os.command",
        "input": {"args": [["echo", "hi"]]},
        "async": False,
        "priority": 0,
        "desiredState": "Run",
        "stop": {"gracePeriodSeconds": 30},
        "retry": {"limit": 0, "backoffSeconds": 10},
        "ttlSecondsAfterFinished": 300,
    }


def test_the_shortest_schedule_is_complete_down_to_its_template(crds: Cluster) -> None:
    spec = created(crds, manifest("Schedule"))["spec"]
    template = spec.pop("action")["activity"]["spec"]
    assert spec == {
        "schedules": ["0 9 * * 1-5"],
        "timeZone": "Etc/UTC",
        "suspend": False,
        "concurrencyPolicy": "Forbid",
        "calendars": {"onExcluded": "Skip", "hours": "Ignore"},
        "jitterSeconds": 0,
        "pauseOnFailure": False,
        "bufferLimit": 100,
        "startingDeadlineSeconds": 3600,
        "catchUp": {"policy": "Latest", "maxRuns": 10},
        "historyLimits": {"succeeded": 10, "failed": 10},
    }
    assert template["desiredState"] == "Run"
    assert template["stop"] == {"gracePeriodSeconds": 30}


@pytest.mark.parametrize(("kind", "change", "field", "message"), REFUSED)
def test_a_wrong_manifest_is_refused_naming_the_field_and_what_would_be_right(
    crds: Cluster, kind: str, change: Body, field: str, message: str
) -> None:
    good = manifest(kind)
    run = create(crds, good | {"spec": merged(good["spec"], change)})
    assert run.returncode
    assert field in run.stderr
    assert message in run.stderr
    assert not re.search("secret@|ghp_token|p%40ss", run.stderr), "an error must not repeat credentials"


@pytest.mark.parametrize(
    "package",
    ["invoices==1.2.0", "git+https://host/x@v1", "git+ssh://git@host/x@v1", "x @ https://host/x.whl", "file:///p/x@1"],
)
def test_a_package_without_credentials_is_accepted(crds: Cluster, package: str) -> None:
    created(crds, manifest("Robot", {"runtime": {"linuxPod": {}}, "packages": [package]}))


LONGEST = {
    "Robot": 52,
    "RobotFleet": FLEET_NAME_MAX,
    "Schedule": 52,
    "Calendar": 52,
    "WorkQueue": QUEUE_NAME_MAX,
    "RobotHost": 52,
    "GSettings": 52,
    "RobotRoleBinding": 52,
}
"""Characters of the longest name of each kind that has others made of it."""


@pytest.mark.parametrize("kind", LONGEST)
def test_a_name_that_leaves_no_room_for_what_is_made_of_it_is_refused(crds: Cluster, kind: str) -> None:
    created(crds, manifest(kind, name="a" * LONGEST[kind]))
    run = create(crds, manifest(kind, name="a" * (LONGEST[kind] + 1)))
    assert f"metadata.name: must have at most {LONGEST[kind]} characters" in run.stderr


@pytest.mark.parametrize(("given", "change"), CHANGES)
def test_an_activitys_spec_cannot_be_changed(crds: Cluster, given: Body, change: Body) -> None:
    base = manifest("ActivityItem")
    item = created(crds, base | {"spec": merged(base["spec"], given)})
    run = patch(crds, item, {"spec": change})
    assert run.returncode
    assert f"spec.{next(iter(change))}: Forbidden: cannot be changed" in run.stderr
    assert "create another ActivityItem" in run.stderr
    assert read(crds, item)["spec"] == item["spec"]


@pytest.mark.parametrize(
    "arguments",
    [
        {
            "args": [["echo", None], {"a": 1, "b": None}, 1, 1.5, None, True, "s", [[1, [2]]]],
            "kwargs": {"x": {"y": None}},
        },
        {"args": [None]},
        {"kwargs": {"x": None}},
        {},
    ],
)
def test_priority_can_be_changed_whatever_the_input_holds(crds: Cluster, arguments: Body) -> None:
    base = manifest("ActivityItem")
    item = created(crds, base | {"spec": base["spec"] | {"input": arguments}})
    assert patch(crds, item, {"spec": {"priority": 7}}).returncode == 0
    assert read(crds, item)["spec"] == item["spec"] | {"priority": 7}


def test_the_desired_state_moves_only_from_run_to_stop_to_kill(crds: Cluster) -> None:
    item = created(crds, manifest("ActivityItem"))
    for state, allowed in (("Stop", True), ("Run", False), ("Kill", True), ("Stop", False), ("Run", False)):
        run = patch(crds, item, {"spec": {"desiredState": state}})
        assert (run.returncode == 0) is allowed, run.stderr
        assert allowed or "spec.desiredState: Forbidden: can only move from Run to Stop to Kill" in run.stderr
    killed = created(crds, manifest("ActivityItem"))
    assert patch(crds, killed, {"spec": {"desiredState": "Kill"}}).returncode == 0


def test_a_spec_of_a_megabyte_can_be_stored_and_stopped(crds: Cluster) -> None:
    big: dict[str, Any] = {"args": [["x" * 1_000_000]]}
    base = manifest("ActivityItem")
    item = created(crds, base | {"spec": base["spec"] | {"input": big}})
    assert patch(crds, item, {"spec": {"desiredState": "Stop"}}).returncode == 0


def test_ten_megabytes_are_refused(crds: Cluster) -> None:
    base = manifest("ActivityItem")
    run = create(crds, base | {"spec": base["spec"] | {"input": {"args": ["x" * 10_000_000]}}})
    assert "too large" in run.stderr


def test_every_rule_of_a_spec_and_every_explained_pattern_is_tried_here() -> None:
    tried = [message for _, _, _, message in REFUSED] + [
        "cannot be changed",
        "can only move from Run",
        *(f"must have at most {length} characters" for length in LONGEST.values()),
    ]
    rules = [
        rule.message
        for kinds in RULES.values()
        for path, rules in kinds.items()
        for rule in rules
        if path[:4] == "spec"
    ]
    for message in [*rules, *(rule.message for rule in PATTERNS.values())]:
        assert any(words in message for words in tried), message
