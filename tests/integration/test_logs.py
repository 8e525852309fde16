"""The log: what is found and how, who sees what, and a tail that neither leaves out nor repeats a line."""

import asyncio
import csv
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from tests.support.cluster import Cluster
from tests.support.panel import Agent, PanelProcess, World, database, eventually, now

from kuberpa import wire
from kuberpa.client import ROBOTS
from kuberpa.gsettings import Settings
from kuberpa.processlog import ProcessLine, ProcessLines, ProcessLog
from kuberpa_operator.adapters.deliverer import deliver
from kuberpa_panel.database.log_days import LogDays
from kuberpa_panel.database.log_query import PUNCTUATION, LogFilter, LogScope, with_text
from kuberpa_panel.database.log_reading import LogReader
from kuberpa_panel.database.log_rows import Lines, LogRecord, LogSource, Origin, Spot, StoredLine
from kuberpa_panel.database.migrate import migrations
from kuberpa_panel.database.pool import Database
from kuberpa_panel.database.store import store
from kuberpa_panel.panel import LOG_TUNING

TEAM, OTHER = "logs-team", "logs-other"
EVERYTHING = LogScope(everywhere=True, audit=None)


def line(
    seq: int, text: str, level: str = "INFO", *, ago: timedelta = timedelta(), stream: str = "stdout"
) -> StoredLine:
    return StoredLine(seq, now() - ago, stream, level, text, False)


@pytest.fixture(scope="module")
async def reader(panel_site: Cluster) -> AsyncIterator[tuple[LogReader, Database]]:
    """A log of its own, and how the panel reads it."""
    async with database(panel_site.postgres_admin_url, panel_site.postgres_url) as url:
        rows = Database(lambda: url, tuning=LOG_TUNING)
        task = asyncio.create_task(rows.run())
        await asyncio.wait_for(rows.wait_available(), 20)
        try:
            yield LogReader(rows), rows
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def write(rows: Database, uid: str, origin: Origin, *lines: StoredLine) -> None:
    async with rows.connection() as connection:
        await store(connection, [Lines(uid, 1, lines, origin)])


async def texts(reader: LogReader, text: str, **fields: Any) -> list[str]:
    found = await reader.search(with_text(LogFilter(scope=EVERYTHING, **fields), text), None, 100)
    assert found.complete
    return [each.text for each in found.lines]


SAID = (
    line(1, "opening INV-123 in C:\\Users\\anna\\invoice_17.pdf"),
    line(2, "total differs: 10.50 instead of 105.0", "ERROR", stream="stderr"),
    line(3, "differs the total", "WARNING"),
    line(4, "Проверка Накладной №17 завершена"),
    line(5, "'quoted' \\ back & | ! ( ) : * <-> 'or''"),
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("total differs", [2, 3]),
        ('"total differs"', [2]),
        ("TOTAL -instead", [3]),
        ("inv*", [1]),
        ("inv-123", [1]),
        ("invoice_17.pdf", [1]),
        ("users\\anna", [1]),
        ("10.50", [2]),
        ("накладной", [4]),
        ("НАКЛ* 17", [4]),
        ("'quoted'", [5]),
        ("or''", [5]),
        ("level:error total", [2]),
        ("stream:stderr", [2]),
        ("robot:mail definition:invoice.post total", [2, 3]),
        ("source:event total", []),
        ("nowhere", []),
    ],
)
async def test_lines_are_found_by_words_phrases_beginnings_and_fields(
    reader: tuple[LogReader, Database], text: str, found: list[int]
) -> None:
    look, rows = reader
    await write(rows, "said", Origin("find", "mail", activity="post-1", definition="invoice.post"), *SAID)
    assert await texts(look, text, namespace="find") == [SAID[number - 1].text for number in found]


def test_words_are_parted_by_the_same_characters_when_written_and_when_looked_for() -> None:
    sql = next(sql for _, name, sql in migrations() if name == "logs")
    assert "translate(text, '" + PUNCTUATION.replace("'", "''") + "'," in sql


async def test_pages_in_both_directions_have_every_line_once_over_days_and_levels(
    reader: tuple[LogReader, Database],
) -> None:
    look, rows = reader
    levels = ("DEBUG", "INFO", "ERROR")
    lines = [
        line(seq, f"page {'even' if seq % 2 == 0 else 'odd'}", levels[seq % 3], ago=timedelta(hours=600 - 3 * seq))
        for seq in range(1, 201)
    ]
    await write(rows, "pages", Origin("pages"), *lines)
    for text, expected in (("", range(1, 201)), ("even", range(2, 201, 2)), ("-even", range(1, 201, 2))):
        wanted = with_text(LogFilter(namespace="pages", scope=EVERYTHING), text)
        for older in (True, False):
            groups = [each async for each in pages(look, wanted, older=older)]
            in_order = groups[::-1] if older else groups
            assert [each.seq for group in in_order for each in group] == list(expected), (text, older)


async def pages(look: LogReader, wanted: LogFilter, *, older: bool) -> AsyncIterator[Sequence[LogRecord]]:
    spot: Spot | None = None
    while True:
        found = await look.search(wanted, spot, 33, older=older)
        yield found.lines
        if found.next is None:
            return
        spot = found.next


async def test_counts_by_minute_and_by_counting_agree(reader: tuple[LogReader, Database]) -> None:
    look, rows = reader
    lines = [
        line(seq, "count me", "ERROR" if seq % 5 == 0 else "INFO", ago=timedelta(minutes=seq)) for seq in range(1, 101)
    ]
    await write(rows, "counts", Origin("counts"), *lines)
    until = now().replace(second=0, microsecond=0) + timedelta(minutes=1)
    since, width = until - timedelta(minutes=120), timedelta(minutes=10)
    quick = await look.counts(LogFilter(namespace="counts", scope=EVERYTHING), since, until, width)
    slow = await look.counts(with_text(LogFilter(namespace="counts", scope=EVERYTHING), "me"), since, until, width)
    assert quick.lines == slow.lines
    assert sum(quick.lines.values()) == 100
    assert sum(count for (_, level), count in quick.lines.items() if level == "ERROR") == 20


async def test_days_are_made_ahead_and_dropped_by_level(reader: tuple[LogReader, Database]) -> None:
    look, rows = reader
    ago = timedelta(days=10)
    await write(rows, "old", Origin("old"), line(1, "trifle", "INFO", ago=ago), line(2, "trouble", "ERROR", ago=ago))
    assert await texts(look, "", namespace="old") == ["trifle", "trouble"]
    settings = Settings.of({"retention": {"logs": {"debugDays": 1, "infoDays": 5, "errorDays": 20}}})
    days = LogDays(rows, lambda: settings)
    connection = await rows.connect_alone()
    try:
        await days.once(connection)
        await days.once(connection)  # what is done stays done
        tomorrow = f"{now() + timedelta(days=2):%Y%m%d}"
        made = await connection.fetchval(
            "SELECT count(*) FROM pg_class WHERE relname ~ $1", f"^logs_[a-z]+_{tomorrow}$"
        )
    finally:
        await connection.close()
    assert made == 4
    assert await texts(look, "", namespace="old") == ["trouble"]
    # a late line of a dropped day makes the day anew
    await write(rows, "old", Origin("old"), line(3, "late trifle", "INFO", ago=ago))
    assert await texts(look, "", namespace="old") == ["trouble", "late trifle"]


async def test_a_line_of_a_thousand_years_ago_makes_no_day_of_its_own(reader: tuple[LogReader, Database]) -> None:
    look, rows = reader
    await write(rows, "ancient", Origin("ancient"), line(1, "amphora", ago=timedelta(days=365_000)))
    (found,) = (await look.search(LogFilter(namespace="ancient", scope=EVERYTHING), None, 10)).lines
    assert timedelta(days=29) < now() - found.time < timedelta(days=31)


# ---- over HTTP


@pytest.fixture(scope="module")
async def people(panel_site: Cluster, world: World) -> dict[str, str]:
    """Tokens: all sees everything, team one namespace, mailman the robot mail alone, nobody nothing."""
    kubectl = panel_site.kubectl
    for namespace in (TEAM, OTHER):
        kubectl("create", "namespace", namespace)
        for robot in ("mail", "desk"):
            body = {"metadata": {"name": robot}, "spec": {"runtime": {"linuxPod": {}}}}
            await world.cluster.create(ROBOTS, namespace, body)
    for name in ("all", "team", "mailman", "nobody"):
        kubectl("create", "serviceaccount", name, "-n", TEAM)
    kubectl("create", "clusterrolebinding", "logs-all", "--clusterrole=kuberpa-admin", f"--serviceaccount={TEAM}:all")
    kubectl(
        "create", "rolebinding", "team", "-n", TEAM, "--clusterrole=kuberpa-viewer", f"--serviceaccount={TEAM}:team"
    )
    rules = [
        {"apiGroups": ["kuberpa.dev"], "resources": ["logs"], "verbs": ["list"]},
        {"apiGroups": ["kuberpa.dev"], "resources": ["robots"], "resourceNames": ["mail"], "verbs": ["get"]},
    ]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "mail", "namespace": TEAM},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(role | {"rules": rules}))
    kubectl("create", "rolebinding", "mail", "-n", TEAM, "--role=mail", f"--serviceaccount={TEAM}:mailman")
    names = ("all", "team", "mailman", "nobody")
    return {name: kubectl("create", "token", name, "-n", TEAM).strip() for name in names}


@asynccontextmanager
async def client(panel: PanelProcess, token: str) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(panel.url, headers=headers) as session:
        yield session


async def seeded(panel: PanelProcess) -> None:
    """Lines of two robots in two namespaces, of a deed and of the operator; again is no matter."""
    connection = await asyncpg.connect(panel.database_url)
    try:
        entries = [
            Lines(f"{space}-{robot}", 1, (line(1, f"seed {space} {robot}"),), Origin(space, robot))
            for space in (TEAM, OTHER)
            for robot in ("mail", "desk")
        ]
        deed = Origin(TEAM, "mail", LogSource.AUDIT)
        entries.append(Lines("deed", 1, (line(1, "seed deed"),), deed))
        entries.append(
            Lines("oper", 1, (line(1, "seed operator"),), Origin("kuberpa-system", source=LogSource.OPERATOR))
        )
        await store(connection, entries)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("who", "seen"),
    [
        ("all", {f"seed {s} {r}" for s in (TEAM, OTHER) for r in ("mail", "desk")} | {"seed deed", "seed operator"}),
        ("team", {f"seed {TEAM} mail", f"seed {TEAM} desk"}),
        ("mailman", {f"seed {TEAM} mail"}),
    ],
)
async def test_everybody_sees_the_lines_of_robots_that_they_may_see(
    panel: PanelProcess, people: dict[str, str], who: str, seen: set[str]
) -> None:
    await seeded(panel)

    async def found() -> bool:
        async with client(panel, people[who]) as http, http.get("/api/v1/logs?text=seed") as response:
            body = await response.json()
            assert response.status == 200, body
            assert {each["text"] for each in body["lines"]} == seen
            return True

    await eventually(found)  # the panel hears of new robots by its watch
    async with client(panel, people[who]) as http:
        async with http.get("/api/v1/logs/export?text=seed") as response:
            assert {json.loads(raw)["text"] for raw in (await response.text()).splitlines()} == seen
        async with http.get("/api/v1/logs/histogram?text=seed") as response:
            assert sum(sum(bar["lines"].values()) for bar in (await response.json())["bars"]) == len(seen)


async def test_whoever_may_not_list_logs_gets_nothing_of_any_route(panel: PanelProcess, people: dict[str, str]) -> None:
    await seeded(panel)
    async with client(panel, people["all"]) as http, http.get("/api/v1/logs?text=seed") as response:
        ident = (await response.json())["lines"][0]["id"]
    for who, query in (("nobody", ""), ("team", f"?namespace={OTHER}")):
        async with client(panel, people[who]) as http:
            for path in ("", "/histogram", "/export", "/stream", f"/{ident}", f"/{ident}/around"):
                async with http.get(f"/api/v1/logs{path}{query}") as response:
                    assert response.status == 403, path
    async with client(panel, people["all"]) as http, http.get(f"/api/v1/logs?namespace={OTHER}&text=seed") as response:
        theirs = (await response.json())["lines"][0]["id"]
    async with client(panel, people["team"]) as http, http.get(f"/api/v1/logs/{theirs}/around") as response:
        assert response.status == 404


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ('text="open', "text", 'no closing "'),
        ("text=***", "text", "no letter or digit"),
        ("text=level:loud", "level", "none of DEBUG"),
        ("source=nobody", "source", "none of activity"),
        ("since=yesterday", "since", "15m"),
        ("since=1h&until=2h", "since", "not before"),
        ("cursor=older.1.x", "cursor", "not a cursor"),
        ("limit=0", "limit", ""),
        ("text=" + "%20".join(["w"] * 40), "text", "at most 32"),
        ("text=a%00b", "text", "NUL"),
    ],
)
async def test_a_wrong_query_is_answered_with_its_field_and_what_would_be_right(
    panel: PanelProcess, people: dict[str, str], query: str, field: str, words: str
) -> None:
    async with client(panel, people["all"]) as http, http.get(f"/api/v1/logs?{query}") as response:
        body = await response.json()
        assert response.status == 422, body
        (error,) = body["errors"]
        assert (error["field"].rpartition(".")[2], words in error["message"]) == (field, True), body


async def test_a_line_is_found_two_seconds_after_an_agent_sent_it(
    panel: PanelProcess, world: World, people: dict[str, str]
) -> None:
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent, client(panel, people["all"]) as http:
        item = await world.item(robot.metadata.name)
        await world.assign(item, robot)
        start = await agent.receive(wire.Start)
        await agent.print(start, "a needle, and \x1b[31mred\x07", "x" * wire.MAX_LINE_CHARS)
        await agent.receive(wire.Ack, where=lambda ack: ack.seq == 2)
        # acknowledged is stored, and stored is found: the index has no delay of its own
        async with http.get(f"/api/v1/logs?text=needle&robot={robot.metadata.name}&namespace=default") as response:
            (found,) = (await response.json())["lines"]
        async with http.get(f"/api/v1/logs/{found['id']}/around") as response:
            around = await response.json()
    assert (found["activity"], found["definition"], found["source"]) == (item.metadata.name, "os.command", "activity")
    assert found["text"] == "a needle, and \x1b[31mred\x07"
    assert [len(each["text"]) for each in around] == [len(found["text"]), wire.MAX_LINE_CHARS]


async def test_an_export_in_csv_computes_nothing(panel: PanelProcess, people: dict[str, str]) -> None:
    connection = await asyncpg.connect(panel.database_url)
    try:
        await store(
            connection,
            [Lines("csv", 1, (line(1, '=HYPERLINK("http://x") sheet'), line(2, 'a "b", c sheet')), Origin(TEAM))],
        )
    finally:
        await connection.close()
    async with client(panel, people["all"]) as http, http.get("/api/v1/logs/export?text=sheet&format=csv") as response:
        rows = list(csv.DictReader(io.StringIO(await response.text())))
        assert "attachment" in response.headers["Content-Disposition"]
    assert [row["text"] for row in rows] == ['\'=HYPERLINK("http://x") sheet', 'a "b", c sheet']


# ---- what writes besides robots


async def found(panel: PanelProcess, token: str, query: str, count: int = 1) -> list[dict[str, Any]]:
    """The lines of a search, once there are so many."""
    lines: list[dict[str, Any]] = []

    async def ask() -> bool:
        async with client(panel, token) as http, http.get(f"/api/v1/logs?{query}") as response:
            lines[:] = (await response.json())["lines"]
            return len(lines) >= count

    await eventually(ask, query)
    return lines


async def test_the_panel_and_the_audit_trail_are_in_the_log(panel: PanelProcess, people: dict[str, str]) -> None:
    own = await found(panel, people["all"], "source=panel&namespace=kuberpa-system")
    assert {each["origin"] for each in own} == {panel.replica}
    async with client(panel, people["team"]) as http:
        body = {"namespace": TEAM, "spec": {"robotRef": {"name": "mail"}, "def": "os.command"}}
        async with http.post("/api/v1/activities", json=body) as response:
            assert response.status == 403
    deeds = await found(panel, people["all"], "source=audit&text=denied%20team")
    assert deeds[-1]["level"] == "WARNING"


async def test_events_of_robots_and_of_their_pods_are_in_the_log_and_others_are_not(
    panel: PanelProcess, panel_site: Cluster, world: World, people: dict[str, str]
) -> None:
    robot = await world.robot()
    for kind, version, name in (
        ("Robot", "kuberpa.dev/v1alpha1", robot.metadata.name),
        ("Pod", "v1", f"robot-{robot.metadata.name}"),
        ("Pod", "v1", "robot-of-nobody"),
    ):
        about = {"apiVersion": version, "kind": kind, "name": name, "namespace": "default", "uid": f"{kind}-{name}"}
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{kind.lower()}", "namespace": "default"},
            "eventTime": now().isoformat().replace("+00:00", "Z"),
            "reportingController": "test",
            "reportingInstance": "test",
            "action": "Testing",
            "reason": "Testing",
            "note": f"eventful {kind} {name}",
            "type": "Warning",
            "regarding": about,
        }
        panel_site.kubectl("apply", "-f", "-", stdin=json.dumps(event))
    lines = await found(panel, people["all"], "source=event&text=eventful", 2)
    assert {each["origin"] for each in lines} == {f"Robot/{robot.metadata.name}", f"Pod/robot-{robot.metadata.name}"}
    assert {(each["robot"], each["level"]) for each in lines} == {(robot.metadata.name, "WARNING")}


async def test_the_operator_brings_its_lines_once_and_nobody_else_may(
    panel: PanelProcess, panel_site: Cluster, people: dict[str, str]
) -> None:
    def token(account: str, namespace: str, *options: str) -> str:
        return panel_site.kubectl("create", "token", account, "-n", namespace, *options).strip()

    mine = token("kuberpa-operator", "kuberpa-system", "--audience=kuberpa")
    lines = tuple(ProcessLine(seq=n, time=now(), text=f"operating {n}") for n in (1, 2))
    body = ProcessLines(process="5f1e0d4c-0000-4000-8000-00000000000a", replica="operator-1", lines=lines).to_json()
    for _ in range(2):
        async with client(panel, mine) as http, http.post("/api/v1/logs/process", json=body) as response:
            assert response.status == 204, await response.text()
    seen = await found(panel, people["all"], "source=operator&text=operating", 2)
    assert [(each["text"], each["origin"]) for each in seen] == [(f"operating {n}", "operator-1") for n in (1, 2)]
    others = {
        "for the API server": (token("kuberpa-operator", "kuberpa-system"), 401),
        "of the panel": (token("kuberpa-panel", "kuberpa-system", "--audience=kuberpa"), 403),
        "of somebody": (token("all", TEAM, "--audience=kuberpa"), 403),
    }
    for who, (other, status) in others.items():
        async with client(panel, other) as http, http.post("/api/v1/logs/process", json=body) as response:
            assert response.status == status, who


async def test_a_process_delivers_what_it_logged_while_the_panel_was_away(
    panel: PanelProcess, panel_site: Cluster, people: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "token"
    log = ProcessLog()
    logger = logging.getLogger("test.delivery")
    logger.addHandler(log)
    task = asyncio.create_task(deliver(log, panel.url, file, "operator-9"))
    try:
        logger.warning("delivered late \x00")  # there is no token yet
        create = ("create", "token", "kuberpa-operator", "-n", "kuberpa-system", "--audience=kuberpa")
        file.write_text(panel_site.kubectl(*create))
        (line,) = await found(panel, people["all"], "source=operator&text=delivered%20late")
        assert (line["level"], line["origin"], line["seq"]) == ("WARNING", "operator-9", 1)
        assert line["text"] == "test.delivery: delivered late \ufffd"
    finally:
        logger.removeHandler(log)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# ---- the command line


def command(panel: PanelProcess, token: str, *arguments: str) -> "subprocess.Popen[str]":
    environ = {**os.environ, "KUBERPA_URL": panel.url, "KUBERPA_TOKEN": token, "KUBECONFIG": "/nowhere"}
    words = [sys.executable, "-m", "kuberpa_cli", "logs", *arguments]
    return subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = await asyncio.to_thread(process.communicate, timeout=60)
    return process.returncode, out, err


async def test_the_command_finds_lines_and_follows(panel: PanelProcess, people: dict[str, str]) -> None:
    connection = await asyncpg.connect(panel.database_url)
    try:
        lines = tuple(line(n, f"shell {n}", "ERROR" if n % 2 else "INFO") for n in range(1, 6))
        await store(connection, [Lines("shell", 1, lines, Origin(TEAM, "mail", activity="shell-1"))])
        options = ("-n", TEAM, "--search", "shell", "--level", "error")
        code, out, err = await ended(command(panel, people["team"], *options, "-o", "jsonl"))
        assert (code, [json.loads(raw)["seq"] for raw in out.splitlines()]) == (0, [1, 3, 5]), err
        code, out, err = await ended(
            command(panel, people["team"], "shell-1", *options[:4], "--since", "1h", "--limit", "2")
        )
        assert code == 0, err
        assert [raw.split(": ")[-1] for raw in out.splitlines()] == ["shell 4", "shell 5"]
        assert f" {TEAM}/mail shell-1: " in out
        follower = command(panel, people["team"], *options[:4], "-f", "-o", "jsonl")
        try:
            assert follower.stdout is not None
            seen = [json.loads(await asyncio.to_thread(follower.stdout.readline))["seq"] for _ in range(5)]
            await store(connection, [Lines("shell", 1, (line(6, "shell 6"),), Origin(TEAM, "mail"))])
            seen.append(json.loads(await asyncio.to_thread(follower.stdout.readline))["seq"])
        finally:
            follower.kill()
            follower.communicate()
        assert seen == [1, 2, 3, 4, 5, 6]
    finally:
        await connection.close()
    for token, words, code in ((people["nobody"], "list logs", 6), (people["team"], 'no closing "', 2)):
        found_code, _, err = await ended(command(panel, token, "-n", TEAM, "--search", '"open' if code == 2 else "x"))
        assert (found_code, words in err) == (code, True), err


# ---- the tail


class Tail:
    """A reader of the stream that goes on where it was when its panel dies, as a browser does."""

    def __init__(self, panels: Sequence[PanelProcess], token: str, query: str) -> None:
        self.panels, self.token, self.query = panels, token, query
        self.lines: list[dict[str, Any]] = []
        self.place = ""
        self.connections = 0

    async def run(self) -> None:
        while True:
            panel = self.panels[self.connections % len(self.panels)]
            self.connections += 1
            headers = {"Last-Event-ID": self.place} if self.place else {}
            with suppress(aiohttp.ClientError):
                async with client(panel, self.token) as http, http.get(self.query, headers=headers) as response:
                    await self._read(response)
            await asyncio.sleep(0.05)

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        event = ident = ""
        async for raw in response.content:
            name, _, value = raw.decode().rstrip("\n").partition(": ")
            match name:
                case "event":
                    event = value
                case "id":
                    ident = value
                case "data" if event == "log":
                    self.lines += json.loads(value)
                    self.place = ident
                case "":
                    event = ident = ""


async def test_a_tail_under_which_panels_die_has_no_gap_and_no_duplicate(
    panel_site: Cluster, panel_kubeconfig: Path, people: dict[str, str], tmp_path: Path
) -> None:
    async with database(panel_site.postgres_admin_url, panel_site.postgres_url) as url:
        panels = [PanelProcess(panel_kubeconfig, url, tmp_path, replica=f"tail-{n}") for n in range(2)]
        for each in panels:
            await each.start()
            await each.archive_is("ok")
        tail = Tail(panels, people["all"], "/api/v1/logs/stream?text=tail&after=0")
        follower = asyncio.create_task(tail.run())
        try:
            for victim in (0, 1):
                await asyncio.gather(*(_writes(url, f"w{victim}-{n}") for n in range(3)))
                await eventually(partial(_has, tail, 600 * victim + 300), "the tail having what was written")
                writers = asyncio.gather(*(_writes(url, f"k{victim}-{n}") for n in range(3)))
                seen = len(tail.lines)
                await eventually(partial(_has, tail, seen + 1, exactly=False), "the tail going on")
                panels[victim].kill()
                await writers
                await panels[victim].start()
                await panels[victim].archive_is("ok")
                await eventually(partial(_has, tail, 600 * (victim + 1)), "the tail being whole again")
                for number in range(3):
                    await _again(url, f"k{victim}-{number}")
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
            for each in panels:
                each.kill()
    places = [(each["uid"], each["seq"]) for each in tail.lines]
    assert len(places) == len(set(places)) == 1200
    for uid in {uid for uid, _ in places}:
        assert [seq for each, seq in places if each == uid] == list(range(1, 101))
    assert tail.connections >= 2


async def _writes(url: str, uid: str) -> None:
    """A hundred lines in twenty transactions, every other with lines that come late."""
    connection = await asyncpg.connect(url)
    try:
        for batch in range(20):
            ago = timedelta(days=batch % 2)
            lines = tuple(line(batch * 5 + n, f"tail {uid}", ago=ago) for n in range(1, 6))
            await store(connection, [Lines(uid, 1, lines, Origin(TEAM, "mail"))])
    finally:
        await connection.close()


async def _again(url: str, uid: str) -> None:
    """An agent sends what it had sent before."""
    connection = await asyncpg.connect(url)
    try:
        await store(
            connection, [Lines(uid, 1, tuple(line(n, "tail again") for n in range(50, 101)), Origin(TEAM, "mail"))]
        )
    finally:
        await connection.close()


async def _has(tail: Tail, count: int, *, exactly: bool = True) -> bool:
    assert len(tail.lines) == count if exactly else len(tail.lines) >= count, len(tail.lines)
    return True
