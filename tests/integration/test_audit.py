"""The audit trail of a real panel, under the chart's policies: panel and kubectl, allowed and denied, and tampering."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from tests.support.cluster import Cluster
from tests.support.panel import PanelProcess, World, eventually

from kuberpa.audit import AuditEntry, Chain
from kuberpa.client import ROBOTS
from kuberpa.gsettings import Settings
from kuberpa_panel.database.audit import AuditQuery, Deed
from kuberpa_panel.database.pool import Database
from kuberpa_panel.housekeeping import Housekeeping
from kuberpa_panel.services.audit import Audit

TEAM = "audit-team"
ROLES = {"admin": "kuberpa-admin", "viewer": "kuberpa-viewer", "operates": "kuberpa-operate"}
ALL = AuditQuery()


def account(name: str) -> str:
    return f"system:serviceaccount:{TEAM}:au-{name}"


@pytest.fixture(scope="module")
def tokens(panel_site: Cluster) -> dict[str, str]:
    kubectl = panel_site.kubectl
    kubectl("create", "namespace", TEAM)
    for name, role in ROLES.items():
        kubectl("create", "serviceaccount", f"au-{name}", "-n", TEAM)
        scope = ("clusterrolebinding",) if name == "admin" else ("rolebinding", "-n", TEAM)
        bound = f"--serviceaccount={TEAM}:au-{name}"
        kubectl("create", scope[0], f"au-{name}", f"--clusterrole={role}", bound, *scope[1:])
    return {name: kubectl("create", "token", f"au-{name}", "-n", TEAM).strip() for name in ROLES}


class Api:
    """One person at the REST API."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {self.token}", "X-Request-ID": "audit-test-1"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, f"{self.url}/api/v1{path}", json=body, params=query) as response,
        ):
            return response.status, await response.text()

    async def entries(self, **query: str) -> list[AuditEntry]:
        status, text = await self.call("GET", "/audit", **query)
        assert status == 200, text
        return [AuditEntry.of(each) for each in json.loads(text)["items"]]


@pytest.fixture(scope="module")
async def people(panel: PanelProcess, world: World, tokens: dict[str, str]) -> dict[str, Api]:
    """People, and a robot that the panel knows."""
    await world.cluster.create(ROBOTS, TEAM, {"metadata": {"name": "clerk"}, "spec": {"runtime": {"linuxPod": {}}}})
    found = {name: Api(panel.url, token) for name, token in tokens.items()}

    async def known() -> bool:
        return (await found["admin"].call("GET", f"/robots/{TEAM}/clerk"))[0] == 200

    await eventually(known, "the panel knowing the robot")
    return found


async def test_an_order_tells_who_from_where_and_what_it_changed(people: dict[str, Api]) -> None:
    status, text = await people["operates"].call("POST", f"/robots/{TEAM}/clerk/pause", {})
    assert status == 200, text
    latest = (await people["admin"].entries(kind="Robot", namespace=TEAM, name="clerk", verb="pause"))[0]
    assert (latest.username, latest.outcome, latest.source) == (account("operates"), "Allowed", "api")
    assert (latest.address, latest.request) == ("127.0.0.1", "audit-test-1")
    assert json.loads(latest.old or "")["desiredState"] == "Running"
    assert json.loads(latest.new or "")["desiredState"] == "Paused"


async def test_what_was_refused_is_there_with_the_right_that_was_missing(people: dict[str, Api]) -> None:
    assert (await people["viewer"].call("POST", f"/robots/{TEAM}/clerk/stop", {}))[0] == 403
    assert (await people["viewer"].call("GET", f"/robots/{TEAM}/clerk/processes"))[0] == 403
    for verb, right in (("stop", "patch robots"), ("get processes", "get robots/processes")):
        latest = (await people["admin"].entries(user=account("viewer"), verb=verb))[0]
        assert (latest.outcome, latest.name) == ("Denied", "clerk")
        assert right in latest.reason


async def test_each_of_many_robots_has_an_entry(people: dict[str, Api]) -> None:
    robots = [{"namespace": TEAM, "name": name} for name in ("clerk", "nobody")]
    status, text = await people["operates"].call("POST", "/robots/order", {"action": "start", "robots": robots})
    assert status == 200, text
    found = await people["admin"].entries(namespace=TEAM, verb="start", user=account("operates"))
    assert {(each.name, each.outcome) for each in found} == {("clerk", "Allowed"), ("nobody", "Failed")}


async def test_a_change_by_kubectl_names_the_user_whatever_the_manifest_says(
    people: dict[str, Api], panel_site: Cluster
) -> None:
    as_anna = ("--as=anna", "--as-group=auditors", "-n", TEAM)
    panel_site.kubectl("create", "rolebinding", "anna", "-n", TEAM, "--clusterrole=kuberpa-admin", "--user=anna")
    change = {
        "metadata": {"annotations": {"kuberpa.dev/written-by": "2 oleg", "team": "blue"}},
        "spec": {"concurrency": 3},
    }

    def patched() -> str:
        return panel_site.kubectl("patch", "robot", "clerk", "--type=merge", "-p", json.dumps(change), *as_anna)

    assert "patched" in patched()

    async def told() -> list[AuditEntry]:
        return await people["admin"].entries(kind="Robot", name="clerk", namespace=TEAM, user="anna")

    latest = (await eventually(told, "the change by kubectl in the trail"))[0]
    assert (latest.verb, latest.source, latest.outcome) == ("update", "kubernetes", "Allowed")
    assert json.loads(latest.old or "") == {"spec.concurrency": 1}
    assert json.loads(latest.new or "") == {"spec.concurrency": 3, "annotations.team": "blue"}
    assert not await people["admin"].entries(user="oleg")


async def test_creations_and_deletions_by_kubectl_are_there_and_the_latter_name_nobody(
    people: dict[str, Api], panel_site: Cluster
) -> None:
    calendar = {"apiVersion": "kuberpa.dev/v1alpha1", "kind": "Calendar", "metadata": {"name": "late"}, "spec": {}}
    panel_site.kubectl("create", "-n", TEAM, "--as=anna", "-f", "-", stdin=json.dumps(calendar))

    async def told(verb: str) -> list[AuditEntry]:
        return await people["admin"].entries(kind="Calendar", name="late", namespace=TEAM, verb=verb)

    async def created() -> list[AuditEntry]:
        return await told("create")

    async def deleted() -> list[AuditEntry]:
        return await told("delete")

    assert (await eventually(created, "the creation"))[0].username == "anna"
    panel_site.kubectl("delete", "calendar", "late", "-n", TEAM, "--as=anna")
    gone = (await eventually(deleted, "the deletion"))[0]
    assert (gone.username, gone.reason) == ("", "The API server names nobody who deletes.")


async def test_a_change_by_scale_is_not_laid_at_the_last_writers_door(
    people: dict[str, Api], panel_site: Cluster
) -> None:
    template = {"metadata": {"labels": {"crew": "a"}}, "spec": {"runtime": {"linuxPod": {}}}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"crew": "a"}}, "template": template}
    fleet = {"apiVersion": "kuberpa.dev/v1alpha1", "kind": "RobotFleet", "metadata": {"name": "crew"}, "spec": spec}
    panel_site.kubectl("create", "-n", TEAM, "--as=anna", "-f", "-", stdin=json.dumps(fleet))
    panel_site.kubectl("scale", "robotfleet", "crew", "-n", TEAM, "--replicas=1")

    async def told() -> list[AuditEntry]:
        return await people["admin"].entries(kind="RobotFleet", name="crew", namespace=TEAM, verb="update")

    latest = (await eventually(told, "the scaling"))[0]
    assert (latest.username, json.loads(latest.new or "")) == ("", {"spec.replicas": 1})


async def test_words_find_entries_and_filters_narrow_them(people: dict[str, Api]) -> None:
    found = await people["admin"].entries(text="cler paus", namespace=TEAM)
    assert found
    assert all("paus" in f"{each.verb} {each.old} {each.new}".lower() for each in found)
    assert not await people["admin"].entries(text="cler paus", namespace=TEAM, outcome="Denied")
    assert not await people["admin"].entries(text="paus", until="2020-01-01T00:00:00Z")
    first = await people["admin"].entries(namespace=TEAM, size="1")
    second = await people["admin"].entries(namespace=TEAM, size="1", before=str(first[0].seq))
    assert second[0].seq < first[0].seq


async def test_the_trail_takes_a_right_of_its_own(people: dict[str, Api]) -> None:
    status, text = await people["viewer"].call("GET", "/audit", namespace=TEAM)
    assert (status, json.loads(text)["missingRight"]["resource"]) == (403, "audit")
    assert (await people["viewer"].call("GET", "/audit/verify"))[0] == 403
    of_robot = {"namespace": TEAM, "kind": "Robot", "name": "clerk"}
    assert (await people["operates"].call("GET", "/audit", **of_robot))[0] == 200
    assert (await people["operates"].call("GET", "/audit", namespace=TEAM))[0] == 403


async def test_the_export_is_a_chain_that_anybody_can_check(people: dict[str, Api], tmp_path: Path) -> None:
    status, text = await people["admin"].call("GET", "/audit/export")
    assert status == 200
    chain = Chain()
    chain.take_all(AuditEntry.of(json.loads(line)) for line in text.splitlines())
    assert not chain.problems
    assert chain.entries > 5
    status, table = await people["admin"].call("GET", "/audit/export", format="csv", namespace=TEAM)
    rows = list(csv.DictReader(io.StringIO(table)))
    assert status == 200
    assert {row["namespace"] for row in rows} == {TEAM}
    exported = tmp_path / "audit.jsonl"
    exported.write_text(text)
    exported.write_text(text.replace(account("operates"), account("admin")))
    assert "was changed after it was written" in cli(1, "audit", "verify", "--file", str(exported))


def test_the_command_line_asks_and_verifies_by_itself(panel: PanelProcess, tokens: dict[str, str]) -> None:
    session = {"KUBERPA_URL": panel.url, "KUBERPA_TOKEN": tokens["admin"], "KUBECONFIG": "/nonexistent"}
    assert "pause Robot audit-team/clerk" in cli(0, "audit", "ls", "pause", "--namespace", TEAM, **session)
    later = f"{10**9}:{'0' * 64}"
    said = cli(1, "audit", "verify", "--expect", later, **session)
    assert said.startswith("NOT INTACT: ")
    assert said.count("\n") == 2, said
    assert "the end of the trail was cut off" in said


def cli(code: int, *words: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "kuberpa_cli", *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
async def trail(panel_of_own: PanelProcess) -> AsyncIterator[tuple[Audit, Any]]:
    """A trail of five entries in a database of its own, and a connection as the role that the panel has."""
    database = Database(lambda: panel_of_own.database_url)
    await database._connect()
    audit = Audit(database)
    for number in range(5):
        await audit.record(Deed("stop", "Robot", TEAM, f"robot-{number}", "anna", new={"n": number}, reason="é\0"))
    connection = await asyncpg.connect(panel_of_own.database_url)
    try:
        yield audit, connection
    finally:
        await connection.close()
        await database._close()


async def test_the_database_refuses_to_change_and_to_delete(trail: tuple[Audit, Any]) -> None:
    audit, connection = trail
    for statement in (
        "UPDATE audit_log SET username = 'oleg' WHERE seq = 2",
        "DELETE FROM audit_log WHERE seq = 5",
        "TRUNCATE audit_log",
        "INSERT INTO audit_seals (seq, hash, entries) SELECT seq, hash, 5 FROM audit_log WHERE seq = 5",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    columns = "seq, at, source, verb, outcome, previous, hash"
    forged = f"INSERT INTO audit_log ({columns}) VALUES (1, '2020-01-01', '', 'x', 'Allowed', '', '')"
    await connection.execute(forged)
    assert await connection.fetchval("SELECT seq FROM audit_log WHERE verb = 'x'") == 6, "the database numbers"
    assert await connection.fetchval("SELECT at FROM audit_log WHERE seq = 6") >= (
        await connection.fetchval("SELECT at FROM audit_log WHERE seq = 5")
    )
    report = await audit.verify()
    assert (report.intact, report.entries) == (True, 6)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE audit_log SET username = 'oleg' WHERE seq = 2", "entry 2 was changed"),
        ("DELETE FROM audit_log WHERE seq = 3", "entry 3 is missing"),
        ("DELETE FROM audit_log WHERE seq = 5", "the end of the trail was cut off"),
        (
            """UPDATE audit_log SET username = 'oleg' WHERE seq = 5;
            UPDATE audit_log SET hash = audit_digest(audit_log) WHERE seq = 5""",
            "the trail was written anew",
        ),
    ],
)
async def test_an_owner_who_switches_the_fence_off_is_found_out(
    trail: tuple[Audit, Any], statement: str, problem: str
) -> None:
    audit, connection = trail
    before = await audit.verify()
    assert before.intact
    await connection.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
    await connection.execute(statement)
    report = await audit.verify([(before.seq, before.hash)])
    assert not report.intact
    assert problem in " ".join(report.problems)


async def test_retention_seals_what_goes_and_the_rest_is_whole(trail: tuple[Audit, Any]) -> None:
    audit, connection = trail
    await connection.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
    aged = "UPDATE audit_log SET at = at - interval '60 days' WHERE seq <= 3"
    await connection.execute(aged)
    for seq in range(1, 6):
        await connection.execute(
            "UPDATE audit_log SET previous = coalesce((SELECT hash FROM audit_log WHERE seq = $1 - 1), previous) "
            "WHERE seq = $1",
            seq,
        )
        await connection.execute("UPDATE audit_log SET hash = audit_digest(audit_log) WHERE seq = $1", seq)
    await connection.execute("ALTER TABLE audit_log ENABLE TRIGGER USER")
    settings = Settings.of({"retention": {"auditDays": 45}})
    await Housekeeping(audit._database, audit, lambda: settings, lambda *_: True).once(connection)
    report = await audit.verify()
    assert report.intact, report.problems
    assert report.seal is not None
    assert (report.seal.seq, report.entries) == (3, 3), "two stay, and one tells of the seal"
    assert (await audit.search(None, ALL))[0].verb == "seal"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("DELETE FROM audit_seals")


async def test_orders_are_written_down_late_when_the_database_was_away(trail: tuple[Audit, Any]) -> None:
    audit, _ = trail
    database = audit._database
    database._ready.clear()
    await audit.note(Deed("stop", "Robot", TEAM, "late", "anna"))
    database._ready.set()
    await audit.flush()
    assert (await audit.search(None, ALL))[0].name == "late"
    assert (await audit.verify()).entries == 6
    assert timedelta() <= (await audit.search(None, ALL))[0].at - (await audit.search(None, ALL))[1].at
