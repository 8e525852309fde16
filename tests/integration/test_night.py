"""What a night shift meets: parts that die, restart or stay away. Witnesses: the ledger and the process table."""

import asyncio
import base64
import json
import os
import signal
import ssl
import urllib.request
from collections.abc import Iterator

import asyncpg
import psutil
import pytest
from tests.support.faults import LOST_AFTER, Night, eventually, processes_of

from kuberpa_cli.embedded.probes import client_context

ROBOT = "worker"
CANARY = "canary-7f3b9d1e5a"


@pytest.fixture(autouse=True)
def _robot(worker: str) -> None:
    """Every test here needs the robot."""
    assert worker == ROBOT


def uid_of(night: Night, name: str) -> str:
    return str(night.get("activityitem", name)["metadata"]["uid"])


def agent_of(night: Night, robot: str) -> psutil.Process:
    """The agent process of a robot, by the mark of its pod."""
    uid = night.get("pod", f"robot-{robot}")["metadata"]["uid"]
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if process.cmdline()[1:] == ["-m", "kuberpa_agent"] and environment.get("KUBERPA_POD_UID") == uid:
                return process
        except psutil.Error:
            continue
    raise AssertionError(f"robot {robot} has no agent")


def test_a_panel_away_for_longer_than_the_grace_period_loses_no_item_of_a_healthy_agent(night: Night) -> None:
    finishing, running = "finishes-meanwhile", "runs-throughout"
    night.robot("second")
    night.item(finishing, ROBOT, f"{night.entry}; sleep 3")
    night.item(running, "second", f"{night.entry}; exec sleep {LOST_AFTER * 3}")
    night.ends(finishing, "Running")
    night.ends(running, "Running")
    night.keepers["panel"].stop(signal.SIGKILL)
    night.passes(LOST_AFTER * 2)
    assert {night.phase(finishing), night.phase(running)} == {"Running"}
    night.keepers["panel"].start()
    night.ends(finishing, "Succeeded")
    night.ends(running, "Succeeded")
    for name in (finishing, running):
        assert len(night.runs_of(uid_of(night, name))) == 1


def test_a_killed_agent_takes_its_container_along_and_loses_no_line_that_was_written(night: Night) -> None:
    """As under a kubelet: a container ends with its first process, and the next one finds spool and journal."""
    script = f"{night.entry}; for i in 1 2 3 4 5 6; do echo line $i; sleep 1; done"
    night.item("orphan", ROBOT, script, retry={"limit": 1, "backoffSeconds": 0})
    uid = uid_of(night, "orphan")
    eventually(lambda: "line 2" in asyncio.run(output_of(night, uid, token=1)), "it has written")
    agent_of(night, ROBOT).kill()
    status = night.ends("orphan", "Succeeded")
    assert status["attempt"] == 2
    assert len(night.runs_of(uid)) == 2
    lines = [f"line {number}" for number in range(1, 7)]
    cut = asyncio.run(output_of(night, uid, token=1))
    assert lines[: len(cut)] == cut
    assert asyncio.run(output_of(night, uid, token=2)) == lines
    assert not processes_of(uid)


def test_a_pod_deleted_by_force_loses_its_item_which_is_tried_again_elsewhere_in_time(night: Night) -> None:
    night.robot("doomed")
    night.item("moves", "doomed", f"{night.entry}; exec sleep 5", retry={"limit": 1, "backoffSeconds": 0})
    night.ends("moves", "Running")
    night.cluster.kubectl("delete", "pod", "robot-doomed", "--force", "--grace-period=0")
    status = night.ends("moves", "Succeeded")
    assert status["attempt"] == 2
    assert len(night.runs_of(uid_of(night, "moves"))) == 2


def test_a_pod_deleted_by_force_without_a_retry_leaves_the_item_lost_and_no_process(night: Night) -> None:
    night.robot("doomed")
    night.item("vanishes", "doomed", f"{night.entry}; setsid sleep 300 & exec sleep 300")
    night.ends("vanishes", "Running")
    night.cluster.kubectl("delete", "pod", "robot-doomed", "--force", "--grace-period=0")
    status = night.ends("vanishes", "Lost")
    assert status["reason"] == "PodGone"
    eventually(lambda: not processes_of(uid_of(night, "vanishes")), "no process is left")


def test_a_deleted_robot_takes_its_programs_along(night: Night) -> None:
    night.robot("leaver")
    night.item("left", "leaver", "exec sleep 300", stop={"gracePeriodSeconds": 2})
    night.ends("left", "Running")
    uid = uid_of(night, "left")
    night.cluster.kubectl("delete", "robot", "leaver")
    eventually(lambda: night.phase("left") in {"Stopped", "Killed", "Lost"}, "the item has ended")
    eventually(lambda: not processes_of(uid), "no process is left")
    eventually(lambda: not night.get("pod", "robot-leaver"), "no pod is left")


def test_an_item_deleted_while_the_api_server_and_the_panel_are_away_is_killed(night: Night) -> None:
    night.item("deleted", ROBOT, "exec sleep 300")
    night.ends("deleted", "Running")
    uid = uid_of(night, "deleted")
    night.keepers["panel"].stop(signal.SIGKILL)
    night.cluster.kubectl("delete", "activityitem", "deleted")
    night.kill_part("kube-apiserver")
    night.keepers["panel"].start()
    eventually(lambda: not processes_of(uid), "no process is left")


def test_items_survive_a_restart_of_the_api_server(night: Night) -> None:
    night.item("through-api-restart", ROBOT, f"{night.entry}; sleep 4")
    night.ends("through-api-restart", "Running")
    night.kill_part("kube-apiserver")
    night.ends("through-api-restart", "Succeeded")
    night.item("after-api-restart", ROBOT, night.entry)
    night.ends("after-api-restart", "Succeeded")
    for name in ("through-api-restart", "after-api-restart"):
        assert len(night.runs_of(uid_of(night, name))) == 1


def test_items_survive_a_restart_of_the_database(night: Night) -> None:
    night.item("through-database-restart", ROBOT, f"{night.entry}; for i in 1 2 3 4; do echo $i; sleep 1; done")
    night.ends("through-database-restart", "Running")
    night.kill_part("postgres")
    night.ends("through-database-restart", "Succeeded")
    uid = uid_of(night, "through-database-restart")
    assert len(night.runs_of(uid)) == 1
    assert asyncio.run(output_of(night, uid)) == ["1", "2", "3", "4"]


def test_a_secret_that_a_robot_uses_is_found_in_secrets_only(night: Night) -> None:
    night.cluster.kubectl("create", "secret", "generic", "sap-login", f"--from-literal=password={CANARY}")
    night.robot("secretive", secrets=[{"name": "sap", "secretRef": {"name": "sap-login"}}])
    night.item("uses", "secretive", 'wc -c < "$KUBERPA_SECRETS_DIR/sap/password"')
    status = night.ends("uses", "Succeeded")
    assert status["result"]["stdout"].strip() == str(len(CANARY)), "the robot reads the secret"
    assert list(places_with(night, CANARY)) == []


def places_with(night: Night, secret: str) -> Iterator[str]:
    """Everywhere that the text occurs: keys of etcd but Secrets, tables, logs, robots' files, processes."""
    yield from (key for key, value in etcd(night) if secret in value and not key.startswith("/registry/secrets/"))
    yield from asyncio.run(tables_with(night, secret))
    paths = night.cluster.site.paths
    for folder in (paths.logs, paths.pods, night.folder):
        for path in folder.rglob("*"):
            if (
                path.is_file()
                and {"sap", "secret-sap"}.isdisjoint(path.parts)
                and secret in path.read_text(errors="replace")
            ):
                yield str(path)
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if any(secret in word for word in words) and process.pid != os.getpid():
            yield f"process {process.pid}: {process.name()}"


def etcd(night: Night) -> Iterator[tuple[str, str]]:
    """Every key and value of the store, by etcd's JSON gateway."""
    site = night.cluster.site
    context: ssl.SSLContext = client_context(site.pki, "etcd-client", "etcd-ca")
    everything = base64.b64encode(b"\0").decode()
    body = json.dumps({"key": everything, "range_end": everything}).encode()
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    with opener.open(f"{site.url('etcd')}/v3/kv/range", data=body) as response:
        for pair in json.load(response)["kvs"]:
            value = base64.b64decode(pair.get("value", "")).decode(errors="replace")
            yield base64.b64decode(pair["key"]).decode(), value


async def tables_with(night: Night, secret: str) -> list[str]:
    """Every table that holds the text."""
    connection = await asyncpg.connect(night.cluster.postgres_url)
    try:
        names = await connection.fetch("select format('%I.%I', schemaname, tablename) as name from pg_tables")
        wanted = f"%{secret}%"
        return [
            name["name"]
            for name in names
            if not name["name"].startswith(("pg_catalog", "information_schema"))
            and await connection.fetchval(f"select exists (select from {name['name']} t where t::text like $1)", wanted)
        ]
    finally:
        await connection.close()


async def output_of(night: Night, uid: str, token: int = 1) -> list[str]:
    """The lines that the store holds of what an attempt wrote to its standard output."""
    connection = await asyncpg.connect(night.cluster.postgres_url)
    try:
        rows = await connection.fetch(
            "select text from logs where uid::text = $1 and token = $2 and stream::text = 'stdout' order by seq",
            uid,
            token,
        )
        return [row["text"] for row in rows]
    finally:
        await connection.close()


def test_the_store_is_read_as_it_is(night: Night) -> None:
    """The search above would find what is there: a text that is no secret."""
    night.item("findable", ROBOT, "echo needle-in-a-haystack")
    night.ends("findable", "Succeeded")
    found = list(places_with(night, "needle-in-a-haystack"))
    assert any(place.startswith("/registry/kuberpa.dev/activityitems/") for place in found)
    assert any(place.startswith(("public.logs", "logs")) or "logs_" in place for place in found)
