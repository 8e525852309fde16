"""Each account's Role holds what its process does, and nothing else: the API server's audit log is the witness."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.cluster import Cluster, running
from tests.support.faults import Night, eventually, manifest, shell

from kuberpa.definition_rights import DEFINITION_RIGHTS
from kuberpa.names import firing_name
from kuberpa.roles import Role, rules_on
from kuberpa_cli.embedded.cluster import Layer

NAMESPACE = "kuberpa-system"
ACCOUNTS = ("kuberpa-operator", "kuberpa-panel")
BUILT_IN_GROUPS = {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one resource, subresource included."""

    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}.{self.group}"


@pytest.fixture(scope="module")
def exercised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster in which operator and panel have done everything they ever do."""
    with running(tmp_path_factory.mktemp("rights"), frozenset(Layer) - {Layer.PROGRAMS}) as cluster:
        night = Night(cluster, tmp_path_factory.mktemp("night"))
        night.start()
        try:
            exercise(night)
            yield cluster
        finally:
            night.stop()


def exercise(night: Night) -> None:
    """Everything that makes operator and panel call the API server."""
    night.robot("worker")
    night.apply(manifest("Schedule", "often", OFTEN))
    night.item("runs", "worker", "sleep 0.3", ttlSecondsAfterFinished=1)
    night.item("stops", "worker", "exec sleep 300")
    night.ends("stops", "Running")
    night.cluster.kubectl("patch", "ai", "stops", "--type=merge", "-p", '{"spec":{"desiredState":"Stop"}}')
    night.ends("stops", "Stopped")
    eventually(lambda: not night.get("activityitem", "runs"), "a finished item is deleted")
    action = {"activity": {"spec": shell("exec sleep 300", robotRef={"name": "worker"})}}
    spec = {"schedules": ["*/2 * * * * *"], "concurrencyPolicy": "Replace", "action": action}
    night.apply(manifest("Schedule", "replaces", spec))
    eventually(
        lambda: any(
            item.get("status", {}).get("phase") == "Stopped"
            for item in night.objects("activityitems", "-l", "kuberpa.dev/schedule=replaces")
        ),
        "a firing replaces the one before",
    )
    night.cluster.kubectl("delete", "schedule", "replaces")
    another_image(night, "other:1")
    names_that_are_taken(night)
    a_firing_whose_name_is_taken(night)
    another_image(night, "other:2")
    a_host(night)
    roles_of_people(night)
    through_the_panel(night)
    has_asked(night, "kuberpa-operator", Right("events.k8s.io", "events", "patch"))
    has_asked(night, "kuberpa-panel", Right("kuberpa.dev", "schedules/status", "patch"))


OFTEN = {
    "schedules": ["* * * * * *"],
    "action": {"activity": {"spec": shell("true", robotRef={"name": "nobody"})}},
}
"""Fires once and then, every second, not: enough firings for the panel to say that it has stored them."""


def another_image(night: Night, image: str) -> None:
    """The robot's pod is replaced, which is told as an Event, the second time as one more of the same."""
    before = night.get("pod", "robot-worker").get("metadata", {}).get("uid")
    night.patch("robot", "worker", f'{{"spec":{{"runtime":{{"linuxPod":{{"image":"{image}"}}}}}}}}')
    eventually(lambda: night.get("pod", "robot-worker").get("metadata", {}).get("uid", before) != before, "a new pod")


def has_asked(night: Night, account: str, right: Right) -> None:
    eventually(lambda: right in {used for used, _ in audited(night.cluster, account)}, f"{account} needs {right}")


def names_that_are_taken(night: Night) -> None:
    """A pod and a ServiceAccount of somebody else bear the names that a robot's would have."""
    night.cluster.kubectl("create", "serviceaccount", "robot-account-taken")
    night.cluster.kubectl("run", "robot-pod-taken", "--image=other:1")
    for name in ("account-taken", "pod-taken"):
        night.apply(manifest("Robot", name, {"runtime": {"linuxPod": {}}}))
        eventually(partial(name_is_taken, night, name), f"robot {name} says that a name is taken")


def name_is_taken(night: Night, robot: str) -> bool:
    conditions = night.get("robot", robot).get("status", {}).get("conditions", [])
    return "NameTaken" in {each["reason"] for each in conditions}


def a_firing_whose_name_is_taken(night: Night) -> None:
    """Somebody else's item has the name that a Schedule's next firing would have."""
    action = {"activity": {"spec": shell("true", robotRef={"name": "worker"})}}
    night.apply(manifest("Schedule", "taken", {"schedules": ["*/10 * * * * *"], "action": action}))

    def refused() -> bool:
        schedule = night.get("schedule", "taken")
        for text in schedule.get("status", {}).get("nextScheduleTimes", [])[1:]:
            name = firing_name("taken", schedule["metadata"]["uid"], "schedule", datetime.fromisoformat(text))
            night.apply(manifest("ActivityItem", name, shell("true", robotRef={"name": "nobody"})))
        return "CreateRefused" in {each["reason"] for each in schedule.get("status", {}).get("conditions", [])}

    eventually(refused, "the Schedule says that its firing's name is taken")
    night.cluster.kubectl("delete", "schedule", "taken")


def a_host(night: Night) -> None:
    """A robot works on a host, which goes when the robot has gone."""
    spec = {"address": "127.0.0.1", "winrm": {"port": 1, "credentialsSecretRef": {"name": "desk-7"}}}
    night.cluster.kubectl(
        "create", "secret", "generic", "desk-7", "--from-literal=username=u", "--from-literal=password=p"
    )
    night.apply(manifest("RobotHost", "desk-7", spec))
    night.apply(manifest("Robot", "clerk", {"runtime": {"host": {"hostRef": {"name": "desk-7"}}}}))
    eventually(lambda: night.get("robothost", "desk-7").get("status", {}).get("used") == 1, "the host counts its robot")
    night.cluster.kubectl("delete", "robothost", "desk-7", "--wait=false")
    night.cluster.kubectl("delete", "robot", "clerk")
    eventually(lambda: not night.get("robothost", "desk-7"), "the host is gone")


def roles_of_people(night: Night) -> None:
    """A role on some robots, changed by hand, and on a whole namespace, which then goes."""
    night.cluster.kubectl("create", "role", "kuberpa:taken", "--verb=get", "--resource=pods")
    night.cluster.kubectl("create", "rolebinding", "kuberpa:bound", "--clusterrole=view", "--user=boris")
    subjects = [{"kind": "User", "name": "anna"}]
    some = {"role": "Admin", "subjects": subjects, "robots": {"names": ["worker"]}}
    for name in ("some", "taken"):
        night.apply(manifest("RobotRoleBinding", name, some))
    night.apply(manifest("RobotRoleBinding", "bound", {"role": "Viewer", "subjects": subjects}))
    can = ("auth", "can-i", "update", "robots/worker", "--as=anna")
    eventually(lambda: night.cluster.try_kubectl(*can).stdout.strip() == "yes", "anna may change one robot")
    assert night.cluster.try_kubectl("auth", "can-i", "update", "robots/other", "--as=anna").stdout.strip() == "no"
    night.patch("role", "kuberpa:some", '{"rules":[]}')
    eventually(lambda: night.get("role", "kuberpa:some")["rules"], "the Role is repaired")
    night.patch("rolebinding", "kuberpa:some", '{"subjects":[]}')
    eventually(lambda: night.get("rolebinding", "kuberpa:some").get("subjects"), "the RoleBinding is repaired")
    for name in ("taken", "bound"):
        eventually(
            lambda name=name: night.get("robotrolebinding", name).get("status"),  # type: ignore[misc]
            "it says that a name is taken",
        )
    night.patch("robotrolebinding", "some", '{"spec":{"robots":null,"role":"Viewer"}}')
    eventually(
        lambda: night.get("rolebinding", "kuberpa:some").get("roleRef", {}).get("kind") == "ClusterRole",
        "the whole namespace",
    )
    eventually(lambda: not night.get("role", "kuberpa:some"), "a Role is not needed for that")
    night.cluster.kubectl("delete", "robotrolebinding", "some", "taken", "bound")
    eventually(lambda: not night.get("rolebinding", "kuberpa:some"), "the rights are gone")


def through_the_panel(night: Night) -> None:
    """What people do by REST: sign in by token, run, stop."""
    night.cluster.kubectl("create", "serviceaccount", "anna")
    night.cluster.kubectl(
        "create", "rolebinding", "anna", "--clusterrole=kuberpa-admin", "--serviceaccount=default:anna"
    )
    panel = Panel(night, night.cluster.kubectl("create", "token", "anna").strip())
    eventually(lambda: panel.call("GET", "/api/v1/robots?namespace=default"), "the panel answers")
    body = {"namespace": "default", "spec": shell("exec sleep 300", robotRef={"name": "worker"})}
    created = panel.call("POST", "/api/v1/activities", body)
    name = created["name"]
    night.ends(name, "Running")
    panel.call("POST", f"/api/v1/activities/default/{name}/kill")
    night.ends(name, "Killed")
    night.item("long", "worker", "exec sleep 300")
    eventually(lambda: night.get("poddisruptionbudget", "robot-worker-at-work"), "a robot at work is protected")
    night.cluster.kubectl("patch", "ai", "long", "--type=merge", "-p", '{"spec":{"desiredState":"Kill"}}')
    for action, phase in (("pause", "Paused"), ("stop", "Stopped")):
        panel.call("POST", f"/api/v1/robots/default/worker/{action}")
        eventually(
            lambda phase=phase: night.get("robot", "worker")["status"]["phase"] == phase,  # type: ignore[misc]
            f"the robot is {phase}",
        )
    a_former_account(night)
    a_fleet(night, panel)
    a_work_item(night, panel)
    schedules_by_hand(night, panel)
    settings_and_storage(panel)
    roles_by_rest(panel)
    a_screen_at_another_replica(night, panel)
    kuberpa_itself(night, panel)


def kuberpa_itself(night: Night, panel: "Panel") -> None:
    """The page System of a cluster in which operator and panel are Deployments, of which nothing runs here."""
    kubectl, here = night.cluster.kubectl, ("-n", NAMESPACE)
    kubectl("create", "rolebinding", "anna-here", "--clusterrole=admin", "--serviceaccount=default:anna", *here)
    kubectl("create", "deployment", "kuberpa-panel", "--image=panel:1", "--replicas=0", *here)
    kubectl("run", "kuberpa-panel-x", "--image=panel:1", "--labels=kuberpa.dev/component=panel", *here)
    panel.call("POST", "/api/v1/system/panel/restart")
    restarted = json.loads(kubectl("get", "deployment", "kuberpa-panel", "-o", "json", *here))
    assert "kubectl.kubernetes.io/restartedAt" in restarted["spec"]["template"]["metadata"]["annotations"]
    [found] = [each for each in panel.call("GET", "/api/v1/system")["components"] if each["name"] == "panel"]
    assert found["deployment"]
    assert [each["name"] for each in found["instances"]] == ["kuberpa-panel-x"]
    with pytest.raises(AssertionError):  # no kubelet has its log
        panel.call("GET", "/api/v1/system/pods/kuberpa-panel-x/log")


def a_screen_at_another_replica(night: Night, panel: "Panel") -> None:
    """A robot whose agent is connected to another replica, which is gone."""
    night.apply(manifest("Robot", "elsewhere", {"runtime": {"linuxPod": {}}, "desiredState": "Stopped"}))
    status = {"status": {"agent": {"connected": True, "server": "kuberpa-panel-gone", "epoch": 1}}}
    night.cluster.kubectl(
        "patch", "robot", "elsewhere", "--subresource=status", "--type=merge", "-p", json.dumps(status)
    )

    def says() -> bool:
        with pytest.raises(AssertionError) as refused:
            panel.call("GET", "/api/v1/robots/default/elsewhere/screenshot")
        return "kuberpa-panel-gone, which had the robot, is gone" in str(refused.value)

    eventually(says, "the panel looks for the replica")


def schedules_by_hand(night: Night, panel: "Panel") -> None:
    """Schedules that fire when asked: one orders robots, one feeds a queue, by a Calendar."""
    night.apply(manifest("Calendar", "office", {}))
    eventually(lambda: night.get("calendar", "office").get("status", {}).get("state"), "the calendar tells of today")
    plan = {"schedules": ["@yearly"], "calendars": {"include": ["office"]}}
    starts = {"robotState": {"selector": {}, "state": "Running"}}
    feeds = {"queueItem": {"queueRef": {"name": "letters"}, "payload": {"to": "Boris"}}}
    for name, action in (("starts", starts), ("feeds", feeds)):
        night.apply(manifest("Schedule", name, {**plan, "action": action}))
        eventually(
            lambda name=name: night.get("schedule", name).get("status", {}).get("conditions"),  # type: ignore[misc]
            f"schedule {name} is known",
        )
        panel.call("POST", f"/api/v1/schedules/default/{name}/run")
    eventually(
        lambda: night.get("robot", "worker")["spec"]["desiredState"] == "Running", "the schedule starts the robot"
    )
    eventually(
        lambda: night.get("schedule", "feeds")["status"].get("history", {}).get("queueItems") == 1,
        "the work item is added",
    )
    page = panel.call("GET", "/api/v1/queues/default/letters/items")
    assert [item["payload"] for item in page["items"]].count({"to": "Boris"}) == 1


def a_former_account(night: Night) -> None:
    """An account of a former robot of the name waits to be collected when the next one comes."""
    owner = {
        "apiVersion": "kuberpa.dev/v1alpha1",
        "kind": "Robot",
        "name": "again",
        "uid": "former",
        "controller": True,
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot-again"}}
    # held, or the garbage collector might be there first
    account["metadata"] |= {"ownerReferences": [owner], "finalizers": ["example.com/held"]}  # type: ignore[operator]
    robot = manifest("Robot", "again", {"runtime": {"linuxPod": {}}})
    both = {"apiVersion": "v1", "kind": "List", "items": [account, robot]}
    night.cluster.kubectl("create", "-f", "-", stdin=json.dumps(both))
    eventually(
        lambda: (
            "NameTaken" in {c["reason"] for c in night.get("robot", "again").get("status", {}).get("conditions", [])}
        ),
        "the account does not make way",
    )
    night.cluster.kubectl(
        "patch", "serviceaccount", "robot-again", "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
    )
    eventually(lambda: night.get("pod", "robot-again"), "the robot has a pod")


def a_fleet(night: Night, panel: "Panel") -> None:
    """A fleet makes a robot, and ends it when the panel scales it down."""
    labels = {"team": "few"}
    template = {"metadata": {"labels": labels}, "spec": {"runtime": {"linuxPod": {}}}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    night.apply(manifest("RobotFleet", "few", spec))
    eventually(lambda: night.get("robotfleet", "few").get("status", {}).get("readyReplicas") == 1, "a robot is made")
    eventually(lambda: panel.call("GET", "/api/v1/fleets?namespace=default"), "the panel knows the fleet")
    panel.call("POST", "/api/v1/fleets/default/few/scale", {"replicas": 0})
    eventually(lambda: not night.get("robot", "few-0"), "the robot is gone")


def a_work_item(night: Night, panel: "Panel") -> None:
    """An item of a work queue comes, is counted in status, and is worked on."""
    work = {"def": "os.command", "input": {"args": [["true"]]}}
    trigger = {"activity": work, "robotSelector": {"matchLabels": {"nobody": "here"}}}
    night.apply(manifest("WorkQueue", "letters", {"trigger": trigger}))
    queue = "/api/v1/queues/default/letters"
    eventually(lambda: panel.call("GET", "/api/v1/queues?namespace=default"), "the panel knows the queue")
    panel.call("POST", f"{queue}/pause", {"drain": True})
    panel.call("POST", f"{queue}/resume")
    panel.call("POST", f"{queue}/items", {"payload": {"to": "Anna"}})
    eventually(
        lambda: night.get("workqueue", "letters").get("status", {}).get("items", {}).get("ready") == 1,
        "the item is counted",
    )
    eventually(
        lambda: night.get("workqueue", "letters")["status"].get("trigger", {}).get("created") == 1,
        "the trigger answers",
    )
    item = panel.call("POST", f"{queue}/take", {})["item"]
    panel.call("POST", f"{queue}/items/{item['id']}/complete", {"token": item["lease"]["token"]})


def roles_by_rest(panel: "Panel") -> None:
    """A role is given, changed and taken back."""
    path = "/api/v1/access/bindings/default"
    spec = {"role": "Viewer", "subjects": [{"kind": "User", "name": "boris"}]}
    row = panel.call("POST", path, {"name": "by-rest", "spec": spec})
    changed = {"generation": row["generation"], "spec": {**spec, "role": "Operator"}}
    assert panel.call("PUT", f"{path}/by-rest", changed)["spec"]["role"] == "Operator"
    listed = f"{path.rpartition('/')[0]}?namespace=default"
    eventually(
        lambda: "by-rest" in {each["name"] for each in panel.call("GET", listed)["items"]}, "the panel knows the role"
    )
    panel.call("DELETE", f"{path}/by-rest")


def settings_and_storage(panel: "Panel") -> None:
    """The first value of a GSettings, another one, and what a robot stores."""
    path = "/api/v1/gsettings/custom/default/limits"
    panel.call("PATCH", f"{path}/daily", {"value": 5})
    assert panel.call("PATCH", f"{path}/daily", {"op": "plus", "value": 1})["new"] == 6
    assert panel.call("PATCH", "/api/v1/robots/default/worker/storage", {"path": "x", "value": 1})["version"] == 1


class Panel:
    """A client of the panel's REST API."""

    def __init__(self, night: Night, token: str) -> None:
        self._url, self._token = night.cluster.panel_url, token

    def call(self, method: str, path: str, body: Any = None) -> Any:
        import urllib.error  # noqa: PLC0415
        import urllib.request  # noqa: PLC0415

        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return json.loads(response.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from error


def granted(cluster: Cluster, account: str) -> set[Right]:
    """What the chart's roles give an account."""
    roles = [
        *yaml.safe_load(
            cluster.kubectl("get", "clusterroles", "-o", "yaml", f"--field-selector=metadata.name={account}")
        )["items"],
        *yaml.safe_load(cluster.kubectl("get", "roles", "-n", NAMESPACE, "-o", "yaml"))["items"],
    ]
    return {
        Right(group, resource, verb)
        for role in roles
        if role["metadata"]["name"] == account
        for rule in role["rules"]
        for group in rule.get("apiGroups", [""])
        for resource in rule.get("resources", [])
        for verb in rule["verbs"]
    }


def audited(cluster: Cluster, account: str) -> Iterator[tuple[Right, int]]:
    """What an account asked of the API server, with the status it was answered."""
    user = f"system:serviceaccount:{NAMESPACE}:{account}"
    log: Path = cluster.site.paths.logs / "audit.log"
    for line in log.read_text().splitlines():
        event = json.loads(line)
        reference = event.get("objectRef")
        if event["user"].get("username") != user or reference is None or event["stage"] == "RequestReceived":
            continue
        resource = "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
        if resource not in BUILT_IN_GROUPS:
            code = event.get("responseStatus", {}).get("code", 200)
            yield Right(reference.get("apiGroup", ""), resource, event["verb"]), code


VIRTUAL = {
    *(
        Right("kuberpa.dev", f"robots/{what}", "create")
        for what in sorted({"run", *DEFINITION_RIGHTS.values()} - {"stop"})
    ),
    Right("kuberpa.dev", "robots/stop", "create"),
    Right("kuberpa.dev", "robots", "update"),
    Right("kuberpa.dev", "workqueues/items", "create"),
    Right("kuberpa.dev", "workqueues/pause", "create"),
    Right("rbac.authorization.k8s.io", "clusterroles", "bind"),
    *(
        Right("kuberpa.dev", resource, verb)
        for rule in rules_on(Role.ADMIN, ["any"])
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ),
}
"""Held in order to give it, or asked about by admission policies on behalf of the account: never in the audit log."""


@pytest.mark.parametrize("account", ACCOUNTS)
def test_an_account_is_never_denied(exercised: Cluster, account: str) -> None:
    assert sorted({right for right, code in audited(exercised, account) if code == 403}) == []


@pytest.mark.parametrize("account", ACCOUNTS)
def test_an_account_holds_no_right_that_it_does_not_use(exercised: Cluster, account: str) -> None:
    used = {right for right, _ in audited(exercised, account)}
    assert used, "the audit log knows the account"
    assert [str(right) for right in sorted(granted(exercised, account) - used - VIRTUAL)] == []
