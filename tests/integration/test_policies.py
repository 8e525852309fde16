"""The admission policies, tried by ordinary users: who may run and stop what, and who is said to have done it."""

# length: one class a policy, all on one API server whose policies take seconds to act

import json
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import pytest
from tests.support.cluster import Cluster
from tests.support.faults import eventually
from tests.support.resources import (
    SHORTEST_ITEM,
    Body,
    create,
    created,
    manifest,
    patch,
    patch_as,
    patch_status,
    read,
    unique,
)

from kuberpa.definition_rights import DEFINITION_RIGHTS

KUBERPA = "system:serviceaccount:kuberpa-system:"
OPERATOR, PANEL = f"{KUBERPA}kuberpa-operator", f"{KUBERPA}kuberpa-panel"
CREATED_BY, CHANGED_BY = "kuberpa.dev/created-by", "kuberpa.dev/changed-by"
ON_BEHALF_OF = "kuberpa.dev/on-behalf-of"
ANYWHERE: Body = {"robotSelector": {}, "def": "os.command"}


@dataclass(frozen=True)
class User:
    """Somebody whom the administrator impersonates."""

    name: str

    @property
    def flag(self) -> str:
        return f"--as={self.name}"

    @property
    def of(self) -> str:
        return f"--user={self.name}"


# May write activityitems and schedules, and has robots/run and robots/stop on `mine` only.
LIMITED = User("limited")
# Bound to kuberpa-operate.
OPERATES = User("operates")
# Bound to kuberpa-admin.
ADMIN = User("admin")


# May write robots, and has none of the rights that go beyond that.
WRITES = User("writes-robots")
# May patch robots, and has no right to stop one.
PATCHES = User("patches")


# May write RobotRoleBindings, and give no role.
GIVES = User("gives")


@pytest.fixture(scope="module")
def policed(installed: Cluster) -> Cluster:
    """A cluster whose policies are enforced, with three ordinary users in the namespace default."""
    verbs = "--verb=get,create,patch,update,delete"
    role, bind = ("create", "role"), ("create", "rolebinding")
    installed.kubectl(
        *role, "writes", verbs, "--resource=activityitems.kuberpa.dev,schedules.kuberpa.dev,workqueues.kuberpa.dev"
    )
    for right in ("run", "stop"):
        resource = f"--resource=robots.kuberpa.dev/{right}"
        installed.kubectl(*role, f"{right}s-mine", "--verb=create", resource, "--resource-name=mine")
        installed.kubectl(*bind, f"{right}s-mine", f"--role={right}s-mine", f"--user={LIMITED.name}")
    installed.kubectl(*bind, "writes", "--role=writes", f"--user={LIMITED.name}")
    installed.kubectl(*role, "writes-robots", verbs, "--resource=robots.kuberpa.dev")
    installed.kubectl(*bind, "writes-robots", "--role=writes-robots", f"--user={WRITES.name}")
    fleets = "--resource=robots.kuberpa.dev,robotfleets.kuberpa.dev"
    installed.kubectl(*role, "patches", "--verb=get,patch", fleets)
    installed.kubectl(*role, "fleets", "--verb=create", "--resource=robotfleets.kuberpa.dev")
    installed.kubectl(*bind, "fleets", "--role=fleets", f"--user={PATCHES.name}")
    installed.kubectl(*role, "gives", "--verb=create", "--resource=robotrolebindings.kuberpa.dev")
    installed.kubectl(*bind, "gives", "--role=gives", GIVES.of)
    for user in (LIMITED, PATCHES):
        installed.kubectl(*bind, f"patches-{user.name}", "--role=patches", f"--user={user.name}")
    installed.kubectl(*bind, "operates", "--clusterrole=kuberpa-operate", f"--user={OPERATES.name}")
    installed.kubectl(*bind, "admin", "--clusterrole=kuberpa-admin", f"--user={ADMIN.name}")
    wanted = (
        (LIMITED, manifest("ActivityItem", ANYWHERE), "robots/run"),
        (ADMIN, manifest("ActivityItem", ANYWHERE | {"input": {"x": 1}}), "unknown field"),
        (ADMIN, manifest("Robot", annotations={ON_BEHALF_OF: "x"}), ON_BEHALF_OF),
        (ADMIN, manifest("Robot", {"runtime": {"windowsPod": {"hostProcess": True}}}), "create on pods"),
        (PATCHES, manifest("RobotFleet"), "create on robots"),
        (GIVES, manifest("RobotRoleBinding"), "verb bind"),
        (ADMIN, manifest("Robot", annotations={CREATED_BY: "x"}), "Warning"),
    )
    robot, pause = created(installed, manifest("Robot")), {"spec": {"desiredState": "Paused"}}
    eventually(
        lambda: "robots/stop" in patch(installed, robot, pause, PATCHES.flag, "--dry-run=server").stderr,
        "the policies are enforced: kuberpa-control",
    )
    queue, hold = created(installed, manifest("WorkQueue", {})), {"spec": {"paused": "Hold"}}
    eventually(
        lambda: "workqueues/pause" in patch(installed, queue, hold, LIMITED.flag, "--dry-run=server").stderr,
        "the policies are enforced: kuberpa-pause",
    )
    for user, body, words in wanted:
        eventually(
            lambda user=user, body=body, words=words: (  # type: ignore[misc]
                words in create(installed, body, user.flag, "--dry-run=server").stderr
            ),
            f"the policies are enforced: {words}",
        )
    return installed


def on(robot: str, **more: Any) -> Body:
    """The spec of an activity for one robot."""
    return SHORTEST_ITEM | {"robotRef": {"name": robot}} | more


def schedule_of(spec: Body) -> Body:
    return {"schedules": ["@daily"], "action": {"activity": {"spec": spec}}}


def annotations(body: Body) -> dict[str, str]:
    found: dict[str, str] = body["metadata"].get("annotations", {})
    return found


class TestRun:
    def test_a_robot_that_one_may_run_is_run(self, policed: Cluster) -> None:
        created(policed, manifest("ActivityItem", on("mine")), LIMITED.flag)

    def test_another_robot_is_refused_naming_field_user_and_right(self, policed: Cluster) -> None:
        run = create(policed, manifest("ActivityItem", on("yours")), LIMITED.flag)
        assert "(Forbidden)" in run.stderr
        assert "spec.robotRef.name: user limited may not run activities on robot yours" in run.stderr
        assert "the verb create on robots/run" in run.stderr

    def test_a_selector_needs_the_right_on_all_robots(self, policed: Cluster) -> None:
        run = create(policed, manifest("ActivityItem", ANYWHERE), LIMITED.flag)
        assert (
            "spec.robotSelector: user limited may not run activities on every robot of namespace default" in run.stderr
        )
        created(policed, manifest("ActivityItem", ANYWHERE), OPERATES.flag)

    def test_a_right_in_one_namespace_is_none_in_another(self, policed: Cluster) -> None:
        namespace = unique("other")
        policed.kubectl("create", "namespace", namespace)
        policed.kubectl("create", "rolebinding", "admin", "--clusterrole=kuberpa-admin", "--user=else", "-n", namespace)
        run = create(policed, manifest("ActivityItem", on("mine")), LIMITED.flag, "-n", namespace)
        assert "forbidden" in run.stderr
        created(policed, manifest("ActivityItem", on("mine")), "--as=else", "-n", namespace)

    def test_priority_is_changed_only_by_who_may_run(self, policed: Cluster) -> None:
        item = created(policed, manifest("ActivityItem", on("yours")), OPERATES.flag)
        run = patch(policed, item, {"spec": {"priority": 9}}, LIMITED.flag)
        assert "may not run activities on robot yours" in run.stderr
        assert patch(policed, item, {"spec": {"priority": 9}}, OPERATES.flag).returncode == 0

    def test_labels_are_changed_without_the_right_to_run(self, policed: Cluster) -> None:
        item = created(policed, manifest("ActivityItem", on("yours")), OPERATES.flag)
        assert patch(policed, item, {"metadata": {"labels": {"a": "b"}}}, LIMITED.flag).returncode == 0

    @pytest.mark.parametrize(
        ("definition", "right"), [pair for pair in sorted(DEFINITION_RIGHTS.items()) if pair[1] != "stop"]
    )
    def test_what_acts_as_hands_or_on_the_machine_takes_a_right_of_its_own(
        self, policed: Cluster, definition: str, right: str
    ) -> None:
        special = on("mine") | {"def": definition}
        for user, kind, spec, path in (
            (OPERATES, "ActivityItem", special, "spec.def"),
            (LIMITED, "Schedule", schedule_of(special), "spec.action.activity.spec.def"),
        ):
            run = create(policed, manifest(kind, spec), user.flag)
            assert f"{path}: user {user.name} may not run {definition} there" in run.stderr
            assert f"the verb create on robots/{right}" in run.stderr
            created(policed, manifest(kind, spec), ADMIN.flag)

    def test_an_order_to_a_robot_takes_the_rights_that_changing_it_takes(self, policed: Cluster) -> None:
        stop = on("mine") | {"def": "robot.stop"}
        created(policed, manifest("ActivityItem", stop), OPERATES.flag)
        created(policed, manifest("ActivityItem", stop), LIMITED.flag)
        run = create(policed, manifest("ActivityItem", on("yours") | {"def": "robot.stop"}), LIMITED.flag)
        assert "may not run activities on robot yours" in run.stderr

    def test_a_schedules_author_needs_the_right_to_run_its_target(self, policed: Cluster) -> None:
        created(policed, manifest("Schedule", schedule_of(on("mine"))), LIMITED.flag)
        run = create(policed, manifest("Schedule", schedule_of(on("yours"))), LIMITED.flag)
        assert "spec.action.activity.spec.robotRef.name: user limited may not run" in run.stderr
        run = create(policed, manifest("Schedule", schedule_of(ANYWHERE)), LIMITED.flag)
        assert "spec.action.activity.spec.robotSelector: user limited may not run" in run.stderr

    @pytest.mark.parametrize(
        ("action", "words"),
        [
            (
                {"sequence": {"steps": [{"spec": on("mine")}, {"spec": on("yours")}]}},
                "spec.action.sequence.steps.spec.robotRef.name: user limited may not run",
            ),
            (
                {"robotState": {"selector": {}, "state": "Stopped"}},
                "spec.action.robotState: user limited may not start and stop every robot",
            ),
            (
                {"queueItem": {"queueRef": {"name": "letters"}}},
                "spec.action.queueItem.queueRef.name: user limited may not add items to queue letters",
            ),
        ],
    )
    def test_a_schedules_author_needs_the_right_to_all_that_it_does(
        self, policed: Cluster, action: Body, words: str
    ) -> None:
        spec = {"schedules": ["@daily"], "action": action}
        assert words in create(policed, manifest("Schedule", spec), LIMITED.flag).stderr
        created(policed, manifest("Schedule", spec), ADMIN.flag)

    def test_a_change_by_the_panel_is_said_to_be_its_users(self, policed: Cluster) -> None:
        schedule = created(policed, manifest("Schedule", schedule_of(on("mine"))), ADMIN.flag)
        change = manifest(
            "Schedule", {"suspend": True}, name=schedule["metadata"]["name"], annotations={ON_BEHALF_OF: "anna"}
        )
        flags = ("apply", "--server-side", "--force-conflicts", "-f", "-", f"--as={PANEL}")
        run = policed.try_kubectl(*flags, stdin=json.dumps(change))
        assert run.returncode == 0, run.stderr
        assert read(policed, schedule)["metadata"]["annotations"][CHANGED_BY] == "anna"

    @pytest.mark.parametrize(
        "change",
        [
            {"schedules": ["@hourly"]},
            {"suspend": True},
            {"action": {"activity": {"spec": {"input": {"args": [["id"]]}}}}},
        ],
    )
    def test_a_schedule_is_changed_only_by_who_may_run_its_target(self, policed: Cluster, change: Body) -> None:
        schedule = created(policed, manifest("Schedule", schedule_of(on("yours"))), ADMIN.flag)
        assert (
            "may not run activities on robot yours" in patch(policed, schedule, {"spec": change}, LIMITED.flag).stderr
        )
        assert patch(policed, schedule, {"metadata": {"labels": {"a": "b"}}}, LIMITED.flag).returncode == 0
        assert patch(policed, schedule, {"spec": change}, ADMIN.flag).returncode == 0

    def test_the_author_of_a_queues_trigger_needs_the_right_to_run_on_every_robot(self, policed: Cluster) -> None:
        trigger = {"activity": {"def": "os.command"}, "robotSelector": {"matchLabels": {"a": "b"}}}
        queue = created(policed, manifest("WorkQueue", {}), LIMITED.flag)
        run = patch(policed, queue, {"spec": {"trigger": trigger}}, LIMITED.flag)
        assert "spec.trigger.robotSelector: user limited may not run" in run.stderr
        assert "spec.trigger." in create(policed, manifest("WorkQueue", {"trigger": trigger}), LIMITED.flag).stderr
        assert patch(policed, queue, {"spec": {"trigger": trigger}}, ADMIN.flag).returncode == 0
        assert patch(policed, queue, {"spec": {"leaseSeconds": 30}}, LIMITED.flag).returncode == 0
        run = patch(policed, queue, {"spec": {"trigger": {"max": 9}}}, LIMITED.flag)
        assert "spec.trigger.robotSelector: user limited may not run" in run.stderr
        assert patch(policed, queue, {"spec": {"trigger": None}}, LIMITED.flag).returncode == 0

    def test_a_schedule_is_not_redirected_to_a_robot_that_its_changer_may_not_run(self, policed: Cluster) -> None:
        schedule = created(policed, manifest("Schedule", schedule_of(on("mine"))), LIMITED.flag)
        change = {"spec": {"action": {"activity": {"spec": {"robotRef": {"name": "yours"}}}}}}
        assert "may not run activities on robot yours" in patch(policed, schedule, change, LIMITED.flag).stderr

    @pytest.mark.parametrize("account", [OPERATOR, PANEL])
    def test_kuberpa_runs_and_stops_on_every_robot(self, policed: Cluster, account: str) -> None:
        item = created(policed, manifest("ActivityItem", ANYWHERE), f"--as={account}")
        run = patch_as(policed, item, {"spec": {"desiredState": "Stop"}}, account)
        assert run.returncode == 0, run.stderr


def restart(mode: str = "Safe") -> Body:
    """A wish for a restart."""
    return {"metadata": {"annotations": {"kuberpa.dev/restarted-at": "now", "kuberpa.dev/restart-mode": mode}}}


class TestControl:
    WISHES = (
        {"spec": {"desiredState": "Paused"}},
        {"spec": {"desiredState": "Stopped", "stop": {"mode": "Force"}}},
        {"spec": {"stop": {"gracePeriodSeconds": 1}}},
        {"spec": {"control": "Manual"}},
        restart(),
    )

    @pytest.mark.parametrize("wish", WISHES, ids=str)
    def test_what_is_wanted_of_a_robot_takes_the_right_to_stop_it(self, policed: Cluster, wish: Body) -> None:
        robot = created(policed, manifest("Robot"))
        run = patch(policed, robot, wish, PATCHES.flag)
        assert "user patches may not start, pause, stop or restart robot" in run.stderr
        assert "the verb create on robots/stop" in run.stderr
        for user in (OPERATES, ADMIN):
            assert patch(policed, robot, wish, user.flag, "--dry-run=server").returncode == 0, wish

    @pytest.mark.parametrize(
        "change",
        [
            {"spec": {"runtime": {"linuxPod": {"image": "other:1"}}}},
            {"spec": {"packages": ["evil==1"]}},
            {"spec": {"packageIndex": {"url": "https://evil.example"}}},
            {"spec": {"secrets": [{"name": "x", "secretRef": {"name": "x"}}]}},
            {"spec": {"concurrency": 2}},
            {"spec": {"asyncConcurrency": 2}},
            {"metadata": {"labels": {"team": "other"}}},
            {"metadata": {"finalizers": ["example.com/never"]}},
            {"spec": {"desiredState": "Paused", "concurrency": 2}},
        ],
        ids=str,
    )
    def test_whoever_may_stop_robots_may_change_nothing_else_of_them(self, policed: Cluster, change: Body) -> None:
        robot = created(policed, manifest("Robot"))
        run = patch(policed, robot, change, OPERATES.flag)
        assert "user operates may change only desiredState, stop, control" in run.stderr
        assert patch(policed, robot, change, ADMIN.flag, "--dry-run=server").returncode == 0

    def test_a_right_on_one_robot_is_no_right_on_another(self, policed: Cluster) -> None:
        for name in ("mine", "yours"):
            created(policed, manifest("Robot", name=name))
        pause = {"spec": {"desiredState": "Paused"}}
        assert patch(policed, manifest("Robot", name="mine"), pause, LIMITED.flag).returncode == 0
        assert "robot yours" in patch(policed, manifest("Robot", name="yours"), pause, LIMITED.flag).stderr

    def test_the_panel_may_order_robots_and_change_nothing_else_of_them(self, policed: Cluster) -> None:
        robot = created(policed, manifest("Robot"))
        assert patch(policed, robot, {"spec": {"desiredState": "Paused"}}, f"--as={PANEL}").returncode == 0
        run = patch(policed, robot, {"spec": {"packages": ["evil==1"]}}, f"--as={PANEL}")
        assert "may change only desiredState" in run.stderr


class TestPause:
    HOLD: ClassVar[Body] = {"spec": {"paused": "HoldAndDrain"}}

    def test_pausing_and_resuming_a_queue_takes_the_right_to_pause_it(self, policed: Cluster) -> None:
        queue = created(policed, manifest("WorkQueue", {}))
        run = patch(policed, queue, self.HOLD, LIMITED.flag)
        assert "spec.paused: user limited may not pause or resume queue" in run.stderr
        assert "the verb create on workqueues/pause" in run.stderr
        for user in (OPERATES, ADMIN):
            assert patch(policed, queue, self.HOLD, user.flag).returncode == 0
            assert "may not pause or resume" in patch(policed, queue, {"spec": {"paused": None}}, LIMITED.flag).stderr
            assert patch(policed, queue, {"spec": {"paused": None}}, user.flag).returncode == 0

    @pytest.mark.parametrize(
        "change",
        [
            {"spec": {"leaseSeconds": 5}},
            {"spec": {"payloadSchema": {"type": "object"}}},
            {"spec": {"retention": {"failedSeconds": 0}}},
            {"spec": {"onSuccess": {"queueRef": {"name": "elsewhere"}}}},
            {"spec": {"paused": "Hold", "ordering": "FIFO"}},
            {"metadata": {"labels": {"team": "other"}}},
        ],
        ids=str,
    )
    def test_whoever_may_pause_queues_may_change_nothing_else_of_them(self, policed: Cluster, change: Body) -> None:
        queue = created(policed, manifest("WorkQueue", {}))
        for user in (OPERATES.name, PANEL):
            assert "may change only spec.paused of queue" in patch_as(policed, queue, change, user).stderr
        assert patch(policed, queue, change, ADMIN.flag, "--dry-run=server").returncode == 0

    def test_whoever_pauses_a_queue_does_not_become_the_author_of_its_trigger(self, policed: Cluster) -> None:
        trigger = {"activity": {"def": "os.command"}, "robotSelector": {}}
        queue = created(policed, manifest("WorkQueue", {"trigger": trigger}), ADMIN.flag)
        assert patch(policed, queue, self.HOLD, OPERATES.flag).returncode == 0
        assert CHANGED_BY not in annotations(read(policed, queue))
        assert patch(policed, queue, {"spec": {"trigger": {"max": 2}}}, ADMIN.flag).returncode == 0
        assert annotations(read(policed, queue))[CHANGED_BY] == ADMIN.name


class TestPrivileged:
    OPTIONS = ({"hostProcess": True}, {"gmsaCredentialSpecName": "sap"})

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    @pytest.mark.parametrize("kind", ["Robot", "RobotFleet"])
    def test_a_robot_reaches_beyond_its_container_only_for_those_who_may_make_pods(
        self, policed: Cluster, kind: str, options: Body
    ) -> None:
        plain, privileged = manifest(kind), manifest(kind)
        runtime = {"runtime": {"windowsPod": options}}
        if kind == "Robot":
            privileged["spec"] = runtime
        else:
            privileged["spec"] = {
                **privileged["spec"],
                "template": {"metadata": {"labels": {"team": "x"}}, "spec": runtime},
            }
        run = create(policed, privileged, ADMIN.flag)
        assert f"windowsPod.{next(iter(options))}: user admin may not give robots" in run.stderr
        assert "the verb create on pods" in run.stderr
        assert create(policed, privileged, "--dry-run=server").returncode == 0, "the cluster's administrator may"
        assert create(policed, plain, ADMIN.flag, "--dry-run=server").returncode == 0

    def test_a_change_of_something_else_needs_no_more(self, policed: Cluster) -> None:
        robot = manifest("Robot", {"runtime": {"windowsPod": {"hostProcess": True}}})
        created(policed, robot)
        assert patch(policed, robot, {"spec": {"concurrency": 2}}, ADMIN.flag).returncode == 0
        more = {"spec": {"runtime": {"windowsPod": {"image": "mine:1"}}}}
        assert "the verb create on pods" in patch(policed, robot, more, ADMIN.flag).stderr

    @pytest.mark.parametrize(
        ("field", "right"), [("logOffAfterSeconds", "robots/session"), ("restartHostAfterSeconds", "robots/host")]
    )
    def test_a_session_is_brought_back_only_in_ways_that_its_author_may_take(
        self, policed: Cluster, field: str, right: str
    ) -> None:
        session = {"type": "Console", "recovery": {field: 600}}
        robot = manifest("Robot", {"runtime": {"host": {"hostRef": {"name": "desk-7"}}}, "session": session})
        run = create(policed, robot, WRITES.flag)
        assert f"spec.session.recovery.{field}: user writes-robots may not" in run.stderr
        assert f"the verb create on {right}" in run.stderr
        created(policed, robot, ADMIN.flag)
        assert patch(policed, robot, {"spec": {"concurrency": 2}}, WRITES.flag).returncode == 0
        more = {"spec": {"session": {"recovery": {field: 300}}}}
        assert f"the verb create on {right}" in patch(policed, robot, more, WRITES.flag).stderr

    def test_a_host_process_has_no_managed_account(self, policed: Cluster) -> None:
        windows = {"hostProcess": True, "gmsaCredentialSpecName": "sap"}
        run = create(policed, manifest("Robot", {"runtime": {"windowsPod": windows}}), "--dry-run=server")
        assert "cannot be set with hostProcess" in run.stderr


class TestFleet:
    def test_whoever_makes_robots_by_a_fleet_must_be_allowed_to_make_robots(self, policed: Cluster) -> None:
        fleet = manifest("RobotFleet")
        assert "the verb create on robots" in create(policed, fleet, PATCHES.flag).stderr
        made = created(policed, fleet, ADMIN.flag)
        change = {"spec": {"template": {"spec": {"packages": ["evil==1"]}}}}
        assert "the verb create on robots" in patch(policed, made, change, PATCHES.flag).stderr
        assert patch(policed, made, {"spec": {"replicas": 2}}, PATCHES.flag).returncode == 0
        assert patch(policed, made, change, ADMIN.flag).returncode == 0

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ({"selector": {"matchLabels": {"team": "y"}}}, "all of which are in spec.template.metadata.labels"),
            ({"selector": {}}, "must have matchLabels"),
            ({"minIdle": 1}, "must be set with minIdle or queueRef"),
            ({"replicas": 3, "maxReplicas": 2}, "must be at most spec.maxReplicas"),
            ({"replicas": 2001}, "replicas"),
            ({"template": {"metadata": {"labels": {"team": "x"}}, "spec": {"runtime": {}}}}, "exactly one of"),
        ],
        ids=str,
    )
    def test_a_fleet_that_could_not_work_is_refused(self, policed: Cluster, spec: Body, words: str) -> None:
        fleet = manifest("RobotFleet")
        fleet["spec"] = {**fleet["spec"], **spec}
        assert words in create(policed, fleet, ADMIN.flag, "--dry-run=server").stderr

    def test_which_robots_a_fleet_has_is_not_changed(self, policed: Cluster) -> None:
        made = created(policed, manifest("RobotFleet"), ADMIN.flag)
        labels = {"team": "x", "more": "y"}
        change = {
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}},
        }
        assert "cannot be changed" in patch(policed, made, change, ADMIN.flag).stderr


class TestProgram:
    def test_only_the_operator_makes_activities_that_belong_to_a_robot(self, policed: Cluster) -> None:
        robot = created(policed, manifest("Robot"))
        owner = {
            "apiVersion": "kuberpa.dev/v1alpha1",
            "kind": "Robot",
            "name": robot["metadata"]["name"],
            "uid": robot["metadata"]["uid"],
            "controller": True,
        }
        item = manifest("ActivityItem")
        item["metadata"]["ownerReferences"] = [owner]
        for user in (ADMIN.flag, f"--as={PANEL}"):
            assert "only the operator makes activities" in create(policed, item, user).stderr
        created(policed, item, f"--as={OPERATOR}")
        mine = created(policed, manifest("ActivityItem"), ADMIN.flag)
        run = patch(policed, mine, {"metadata": {"ownerReferences": [owner]}}, ADMIN.flag)
        assert "only the operator makes activities" in run.stderr


class TestStop:
    @pytest.mark.parametrize("state", ["Stop", "Kill"])
    def test_an_activity_of_another_robot_is_not_stopped(self, policed: Cluster, state: str) -> None:
        item = created(policed, manifest("ActivityItem", on("yours")), OPERATES.flag)
        run = patch(policed, item, {"spec": {"desiredState": state}}, LIMITED.flag)
        assert "spec.desiredState: user limited may not stop activities on robot yours" in run.stderr
        assert "the verb create on robots/stop" in run.stderr
        assert patch(policed, item, {"spec": {"desiredState": state}}, OPERATES.flag).returncode == 0

    def test_an_activity_of_ones_own_robot_is_stopped(self, policed: Cluster) -> None:
        item = created(policed, manifest("ActivityItem", on("mine")), OPERATES.flag)
        assert patch(policed, item, {"spec": {"desiredState": "Stop"}}, LIMITED.flag).returncode == 0

    @pytest.mark.parametrize(("robot", "allowed"), [("mine", True), ("yours", False), ("", False)])
    def test_a_selected_activity_is_stopped_by_the_right_on_the_robot_that_has_it(
        self, policed: Cluster, robot: str, allowed: bool
    ) -> None:
        item = created(policed, manifest("ActivityItem", ANYWHERE), OPERATES.flag)
        lease = {"token": 1, "holder": "pod"}
        assert patch_status(policed, item, {"phase": "Assigned", "robot": robot, "lease": lease}).returncode == 0
        run = patch(policed, item, {"spec": {"desiredState": "Stop"}}, LIMITED.flag)
        assert (run.returncode == 0) is allowed
        assert allowed or f"may not stop activities on {f'robot {robot}' if robot else 'every robot'}" in run.stderr

    def test_deleting_unfinished_work_needs_the_right_to_stop_it(self, policed: Cluster) -> None:
        item = created(policed, manifest("ActivityItem", on("yours")), OPERATES.flag)
        name = item["metadata"]["name"]
        run = policed.try_kubectl("delete", "activityitem", name, LIMITED.flag)
        assert "deleting an unfinished activity stops it: user limited may not stop" in run.stderr
        run = policed.try_kubectl("delete", "activityitem", name, OPERATES.flag)
        assert run.returncode == 0

    def test_finished_work_is_deleted_without_the_right_to_stop(self, policed: Cluster) -> None:
        item = created(policed, manifest("ActivityItem", on("yours")), OPERATES.flag)
        assert patch_status(policed, item, {"phase": "Failed"}).returncode == 0
        policed.kubectl("delete", "activityitem", item["metadata"]["name"], LIMITED.flag)

    def test_work_is_not_given_an_owner_whose_end_would_stop_it(self, policed: Cluster) -> None:
        item = created(policed, manifest("ActivityItem", on("yours")), OPERATES.flag)
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}
        run = patch(policed, item, {"metadata": {"ownerReferences": [owner]}}, LIMITED.flag)
        assert "metadata.ownerReferences: an activity is deleted, and so stopped, with its owner" in run.stderr

    @pytest.mark.parametrize(
        "account", ["system:serviceaccount:kube-system:generic-garbage-collector", "system:kube-controller-manager"]
    )
    def test_kubernetes_itself_collects_garbage(self, policed: Cluster, account: str) -> None:
        policed.kubectl("create", "rolebinding", unique("gc"), "--role=writes", f"--user={account}")
        item = created(policed, manifest("ActivityItem", on("yours")), OPERATES.flag)
        policed.kubectl("delete", "activityitem", item["metadata"]["name"], f"--as={account}")


class TestInput:
    @pytest.mark.parametrize(
        ("kind", "path"), [("ActivityItem", "spec.input"), ("Schedule", "spec.action.activity.spec.input")]
    )
    def test_an_unknown_key_is_refused_naming_what_would_be_right(self, policed: Cluster, kind: str, path: str) -> None:
        spec = on("r", input={"args": [], "arguments": ["x"]})
        run = create(policed, manifest(kind, spec if kind == "ActivityItem" else schedule_of(spec)))
        assert f"{path}.arguments: unknown field" in run.stderr
        assert f"belong into {path}.args (a list), named ones into {path}.kwargs (an object)" in run.stderr

    @pytest.mark.parametrize("value", ["x", "é"])
    @pytest.mark.parametrize("kind", ["ActivityItem", "Schedule"])
    def test_more_than_a_mebibyte_is_refused_saying_how_much_it_is(
        self, policed: Cluster, kind: str, value: str
    ) -> None:
        width = len(value.encode())
        for size, allowed in ((1_040_000, True), (1_060_000, False)):
            spec = on("r", input={"args": [[value * (size // width)]]})
            run = create(policed, manifest(kind, spec if kind == "ActivityItem" else schedule_of(spec)))
            assert (run.returncode == 0) is allowed, run.stderr[-500:]
            assert allowed or "bytes, at most 1048576 are allowed" in run.stderr

    def test_many_small_values_count_too(self, policed: Cluster) -> None:
        spec = on("r", input={"kwargs": {"rows": list(range(250_000))}})
        assert "at most 1048576 are allowed" in create(policed, manifest("ActivityItem", spec)).stderr


@pytest.mark.parametrize("kind", ["Robot", "ActivityItem", "Schedule"])
class TestStamp:
    def test_the_creator_is_who_created_it(self, policed: Cluster, kind: str) -> None:
        assert annotations(created(policed, manifest(kind), ADMIN.flag))[CREATED_BY] == ADMIN.name

    def test_a_forged_creator_is_overwritten_with_a_warning(self, policed: Cluster, kind: str) -> None:
        body = manifest(kind, annotations={CREATED_BY: "mallory", "mine": "kept"})
        run = create(policed, body, ADMIN.flag)
        assert run.returncode == 0
        assert f"metadata.annotations[{CREATED_BY}]: the manifest says mallory, but the creator is admin" in run.stderr
        assert annotations(read(policed, body))[CREATED_BY] == ADMIN.name
        assert annotations(read(policed, body))["mine"] == "kept"

    @pytest.mark.parametrize("value", ["mallory", None])
    def test_the_creator_cannot_be_changed_later(self, policed: Cluster, kind: str, value: str | None) -> None:
        body = created(policed, manifest(kind), ADMIN.flag)
        run = patch(policed, body, {"metadata": {"annotations": {CREATED_BY: value}}})
        assert (f"metadata.annotations[{CREATED_BY}]: the manifest says" in run.stderr) is (value is not None)
        assert annotations(read(policed, body))[CREATED_BY] == ADMIN.name

    def test_a_manifest_with_a_forged_creator_can_be_applied_again(self, policed: Cluster, kind: str) -> None:
        text = json.dumps(manifest(kind, annotations={CREATED_BY: "mallory"}))
        for _ in range(2):
            policed.kubectl("apply", "-f", "-", ADMIN.flag, stdin=text)
        assert annotations(read(policed, json.loads(text)))[CREATED_BY] == ADMIN.name

    def test_who_changed_the_spec_is_stamped(self, policed: Cluster, kind: str) -> None:
        body = created(policed, manifest(kind, annotations={CHANGED_BY: "mallory"}), ADMIN.flag)
        assert CHANGED_BY not in annotations(body)
        change = {"Robot": {"concurrency": 2}, "ActivityItem": {"priority": 1}, "Schedule": {"suspend": True}}[kind]
        assert patch(policed, body, {"spec": change}, ADMIN.flag).returncode == 0
        assert annotations(read(policed, body))[CHANGED_BY] == ADMIN.name
        relabel = {"metadata": {"labels": {"a": "b"}, "annotations": {CHANGED_BY: "mallory"}}}
        assert patch(policed, body, relabel).returncode == 0
        assert annotations(read(policed, body))[CHANGED_BY] == ADMIN.name

    def test_nobody_else_names_a_user_to_act_for(self, policed: Cluster, kind: str) -> None:
        run = create(policed, manifest(kind, annotations={ON_BEHALF_OF: "boss"}), ADMIN.flag)
        assert f"metadata.annotations[{ON_BEHALF_OF}]: only kuberpa itself may set or change" in run.stderr
        assert "user admin must leave it out" in run.stderr
        body = created(policed, manifest(kind), ADMIN.flag)
        run = patch(policed, body, {"metadata": {"annotations": {ON_BEHALF_OF: "boss"}}}, ADMIN.flag)
        assert "user admin must leave it as it is" in run.stderr


@pytest.mark.parametrize("account", [OPERATOR, PANEL])
def test_kuberpa_names_the_user_it_acts_for_and_nobody_takes_that_away(policed: Cluster, account: str) -> None:
    body = manifest("ActivityItem", annotations={ON_BEHALF_OF: "anna"})
    item = created(policed, body, f"--as={account}")
    assert annotations(item) == {ON_BEHALF_OF: "anna", CREATED_BY: account}
    for value in ("boss", None):
        run = patch(policed, item, {"metadata": {"annotations": {ON_BEHALF_OF: value}}}, ADMIN.flag)
        assert "must leave it as it is" in run.stderr
    assert patch(policed, item, {"spec": {"desiredState": "Stop"}}, ADMIN.flag).returncode == 0


def test_a_broken_spec_is_explained_by_its_schema_not_by_a_policy(policed: Cluster) -> None:
    body = created(policed, manifest("Robot"), ADMIN.flag)
    run = patch(policed, body, {"spec": None}, ADMIN.flag)
    assert "spec: Required value" in run.stderr


def can_i(cluster: Cluster, user: User, verb: str, what: str) -> bool:
    return cluster.try_kubectl("auth", "can-i", verb, what, user.flag).stdout.strip() == "yes"


class TestBind:
    """Who may give roles by RobotRoleBindings: nobody more than they could by a RoleBinding."""

    ANNA: ClassVar = [{"kind": "User", "name": "anna"}]

    def to_self(self, user: User, role: str) -> Body:
        return manifest("RobotRoleBinding", {"role": role, "subjects": [{"kind": "User", "name": user.name}]})

    @pytest.mark.parametrize("role", ["Viewer", "Operator", "Developer", "Admin"])
    def test_an_operator_gives_no_role_at_all(self, policed: Cluster, role: str) -> None:
        run = create(policed, self.to_self(OPERATES, role), OPERATES.flag)
        assert 'cannot create resource "robotrolebindings"' in run.stderr

    @pytest.mark.parametrize("role", ["Viewer", "Operator", "Developer", "Admin"])
    def test_an_admin_gives_every_role(self, policed: Cluster, role: str) -> None:
        created(policed, self.to_self(ADMIN, role), ADMIN.flag)

    def test_who_may_write_bindings_but_gives_no_roles_is_refused(self, policed: Cluster) -> None:
        giver = self.giver(policed)
        run = create(policed, self.to_self(giver, "Viewer"), giver.flag)
        assert "spec.role: user" in run.stderr
        assert "may not give the role Viewer in namespace default: that needs the verb bind" in run.stderr

    def test_who_may_give_one_role_gives_that_one_and_cannot_raise_it(self, policed: Cluster) -> None:
        giver = self.giver(policed, "kuberpa-viewer")
        binding = created(policed, self.to_self(giver, "Viewer"), giver.flag)
        refused = [
            create(policed, self.to_self(giver, "Admin"), giver.flag),
            patch(policed, binding, {"spec": {"role": "Admin"}}, giver.flag),
        ]
        for run in refused:
            assert "may not give the role Admin" in run.stderr
        elsewhere = self.to_self(giver, "Viewer")
        elsewhere["metadata"]["namespace"] = "kuberpa-system"
        assert "cannot create" in create(policed, elsewhere, giver.flag).stderr

    def test_nobody_adds_themselves_to_what_they_could_not_give(self, policed: Cluster) -> None:
        giver = self.giver(policed, "kuberpa-viewer")
        admins = created(policed, manifest("RobotRoleBinding", {"role": "Admin", "subjects": self.ANNA}))
        more = {"spec": {"subjects": [*self.ANNA, {"kind": "User", "name": giver.name}]}}
        wider: Body = {"spec": {"robots": {"selector": {}}}}
        for change in (more, wider):
            assert "may not give the role Admin" in patch(policed, admins, change, giver.flag).stderr
        label = {"metadata": {"labels": {"seen": "yes"}}}
        assert patch(policed, admins, label, giver.flag).returncode == 0

    def test_the_panel_gives_roles_for_its_users_and_the_author_is_named(self, policed: Cluster) -> None:
        body = manifest("RobotRoleBinding", {"role": "Viewer", "subjects": self.ANNA}, annotations={ON_BEHALF_OF: "x"})
        assert annotations(created(policed, body, f"--as={PANEL}"))[ON_BEHALF_OF] == "x"

    def giver(self, cluster: Cluster, *roles: str) -> User:
        """Somebody who may write RobotRoleBindings, and bind these ClusterRoles."""
        user = User(unique("giver"))
        verbs = "--verb=get,create,patch,update,delete"
        cluster.kubectl("create", "role", user.name, verbs, "--resource=robotrolebindings.kuberpa.dev")
        cluster.kubectl("create", "rolebinding", user.name, f"--role={user.name}", user.of)
        for role in roles:
            name, what = f"{user.name}-{role}", "--resource=clusterroles.rbac.authorization.k8s.io"
            cluster.kubectl("create", "role", name, "--verb=bind", what, f"--resource-name={role}")
            cluster.kubectl("create", "rolebinding", name, f"--role={name}", user.of)
            may_bind = partial(can_i, cluster, user, "bind", f"clusterroles/{role}")
            eventually(may_bind, f"{user.name} may give {role}")
        may_write = partial(can_i, cluster, user, "create", "robotrolebindings.kuberpa.dev")
        eventually(may_write, f"{user.name} may write bindings")
        return user
