"""What people read: `kubectl explain`, `kubectl get`, field selectors."""

import pytest
from tests.support.cluster import Cluster
from tests.support.resources import created, manifest, patch_status, unique

NOW = "2026-01-31T09:00:00Z"


def columns(cluster: Cluster, kind: str, name: str, *flags: str) -> dict[str, str]:
    """One row of `kubectl get` by column heading, cut where the headings stand."""
    heading, row = cluster.kubectl("get", kind, name, *flags).splitlines()
    starts = [0] + [index for index in range(1, len(heading)) if heading[index] != " " and heading[index - 1] == " "]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    return {heading[start:end].strip(): row[start:end].strip() for start, end in spans}


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("robot", ("A software robot: one worker", "runtime: {linuxPod: {}}", "-required-")),
        ("robot.spec", ("packages", "The robot's code as pip requirements")),
        ("robot.spec.runtime", ("exactly one of its fields must be set", "windowsPod", "no graphical desktop")),
        ("robot.spec.runtime.linuxPod", ("image", "Image that carries the robot agent")),
        ("robot.status", ("Written by kuberpa alone", "conditions", "AgentConnected")),
        ("robot.status.agent.epoch", ("Counts connections",)),
        ("activityitem", ("One unit of work for a robot", 'input: {args: [["echo", "hi"]]}', "To stop it")),
        ("activityitem.spec", ("enum: Run, Stop, Kill", "never code", "not counting the time in the queue")),
        ("activityitem.spec.input", ("args <[]Object>", "kwargs <Object>", "Positional arguments, in order")),
        ("activityitem.status", ("Lost (its robot", "lease", "resultRef")),
        ("ai.status.lease.token", ("Grows with every assignment",)),
        ("schedule", ("Each instant fires once", "timeZone: Europe/Moscow")),
        ("sched.spec.catchUp.policy", ("Latest runs the last one",)),
        ("schedule.spec.action.activity.spec.def", ("never code",)),
    ],
)
def test_explain_reads_like_documentation(crds: Cluster, field: str, words: tuple[str, ...]) -> None:
    text = crds.kubectl("explain", field)
    assert "<no description>" not in text
    assert "<empty>" not in text
    flat = " ".join(text.split())
    for expected in words:
        assert expected in flat, text


@pytest.mark.parametrize("kind", ["robot", "activityitem", "schedule"])
def test_no_field_is_left_unexplained(crds: Cluster, kind: str) -> None:
    tree = crds.kubectl("explain", kind, "--recursive")
    assert "spec" in tree
    assert "<no description>" not in crds.kubectl("explain", f"{kind}.spec") + crds.kubectl("explain", f"{kind}.status")


def test_get_says_what_a_robot_does(crds: Cluster) -> None:
    name = unique("robot")
    robot = created(crds, manifest("Robot", name=name))
    ready = {"type": "Ready", "status": "True", "reason": "Busy", "lastTransitionTime": NOW}
    status = {
        "phase": "Busy",
        "message": "one activity runs",
        "conditions": [ready],
        "activities": {"running": 1, "queued": 3},
        "pod": {"name": "robot-r", "uid": "u", "node": "linux-1"},
        "agent": {"version": "0.1.0", "os": "Debian 12"},
    }
    assert patch_status(crds, robot, status).returncode == 0
    row = columns(crds, "robot", name)
    assert row.pop("AGE")
    assert row == {
        "NAME": name,
        "DESIRED": "Running",
        "PHASE": "Busy",
        "READY": "True",
        "RUNNING": "1",
        "QUEUED": "3",
        "NODE": "linux-1",
    }
    wide = columns(crds, "robot", name, "-o", "wide")
    assert (wide["OS"], wide["AGENT"], wide["MESSAGE"]) == ("Debian 12", "0.1.0", "one activity runs")
    assert wide["CONTROL"] == "Auto"


def test_get_says_where_an_activity_is(crds: Cluster) -> None:
    name = unique("item")
    item = created(crds, manifest("ActivityItem", name=name))
    status = {
        "phase": "Failed",
        "reason": "NonZeroExit",
        "robot": "r",
        "attempt": 2,
        "exitCode": 3,
        "message": "exit 3",
    }
    assert patch_status(crds, item, status | {"startedAt": NOW, "finishedAt": NOW}).returncode == 0
    row = columns(crds, "ai", name)
    assert row.pop("AGE")
    assert row == {
        "NAME": name,
        "DEF": "os.command",
        "ROBOT": "r",
        "PHASE": "Failed",
        "REASON": "NonZeroExit",
        "ATTEMPT": "2",
    }
    wide = columns(crds, "ai", name, "-o", "wide")
    assert (wide["EXIT"], wide["MESSAGE"]) == ("3", "exit 3")
    assert wide["STARTED"]
    assert wide["FINISHED"]


def test_get_says_when_a_schedule_fires(crds: Cluster) -> None:
    name = unique("schedule")
    schedule = created(crds, manifest("Schedule", name=name))
    status = {
        "lastScheduleTime": NOW,
        "nextScheduleTimes": ["2026-02-02T09:00:00Z"],
        "plan": "0 9 * * 1-5",
        "active": [{"name": "s-1", "uid": "u", "scheduledAt": NOW}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "Scheduled", "lastTransitionTime": NOW}],
    }
    assert patch_status(crds, schedule, status).returncode == 0
    row = columns(crds, "sched", name)
    assert row.pop("AGE")
    assert row.pop("LAST")
    assert row == {
        "NAME": name,
        "PLAN": "0 9 * * 1-5",
        "ZONE": "Etc/UTC",
        "SUSPEND": "false",
        "READY": "True",
        "NEXT": "2026-02-02T09:00:00Z",
        "ACTIVE": "s-1",
    }


def test_get_finds_all_kinds_by_their_category(crds: Cluster) -> None:
    names = [created(crds, manifest(kind))["metadata"]["name"] for kind in ("Robot", "ActivityItem", "Schedule")]
    listed = crds.kubectl("get", "kuberpa", "-o", "name")
    assert all(name in listed for name in names)


def test_activities_are_selected_by_phase_and_robot(crds: Cluster) -> None:
    robot = unique("robot")
    here = created(crds, manifest("ActivityItem", {"robotRef": {"name": robot}, "def": "os.command"}))
    created(crds, manifest("ActivityItem"))
    status = {"phase": "Assigned", "robot": robot, "lease": {"token": 1, "holder": "pod"}}
    assert patch_status(crds, here, status).returncode == 0
    for selector in (f"spec.robotRef.name={robot}", f"status.robot={robot},status.phase=Assigned"):
        listed = crds.kubectl("get", "ai", "-o", "name", "--field-selector", selector)
        assert listed.split() == [f"activityitem.kuberpa.dev/{here['metadata']['name']}"]
