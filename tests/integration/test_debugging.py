"""People at Python consoles and editors at debuggers of a real agent's robot, through another replica than its own."""

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from tests.support.cluster import Cluster
from tests.support.dap import Editor
from tests.support.panel import NAMESPACE, PanelProcess, World, database, eventually
from tests.support.remote import Person, real_agent
from websockets.exceptions import InvalidStatus, WebSocketException

from kuberpa.activity import ActivityItem
from kuberpa.client import ROBOTS
from kuberpa_agent.builtin import files

ROBOT = "bench"
PIECE = "import os; os.getpid()"
SOURCE = Path(files.__file__)
LINE = SOURCE.read_text().splitlines().index("        status = os.fstat(file.fileno())") + 1
"""Of file.get."""


@dataclass(frozen=True)
class Bench:
    """Two replicas; the robot's agent is connected to the first, people come to the second."""

    far: PanelProcess
    world: World
    tokens: dict[str, str]
    folder: Path

    def path(self, what: str = "console") -> str:
        return f"/api/v1/robots/{NAMESPACE}/{ROBOT}/{what}"

    def person(self, who: str = "boss", query: str = "") -> Any:
        return Person.at(self.far, self.path("console") + query, self.tokens[who])

    async def allow(self, *, enabled: bool) -> None:
        body = {"spec": {"debug": {"enabled": enabled}}}
        await self.world.cluster.merge(ROBOTS, NAMESPACE, ROBOT, body)

    async def deeds(self) -> list[dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.tokens['boss']}"}
        async with aiohttp.ClientSession(self.far.url, headers=headers) as http, http.get(self.path("audit")) as answer:
            return list(await answer.json())

    async def waiting(self) -> ActivityItem:
        """An activity that runs and waits for a debugger."""
        given = {"args": ["numbers"]}
        item = await self.world.item(ROBOT, **{"def": "file.get", "input": given, "debug": {"waitSeconds": 300}})
        await self.world.assign(item, await self.world.get_robot(ROBOT))
        return await self.world.phase(item, "Running")

    @asynccontextmanager
    async def kuberpa(self, *words: str, who: str = "boss") -> AsyncIterator[asyncio.subprocess.Process]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}
        env = {**kept, "KUBECONFIG": str(self.far.kubeconfig), "KUBERPA_URL": self.far.url}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kuberpa_cli", "debug", "-n", NAMESPACE, "--port", "0", *words),
            env={**env, "KUBERPA_TOKEN": self.tokens[who]},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def port_of(process: asyncio.subprocess.Process) -> int:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        line = (await process.stdout.readline()).decode()
    return int(line.partition("127.0.0.1:")[2].partition(";")[0])


@pytest.fixture(scope="module")
async def bench(
    panel_site: Cluster, panel_kubeconfig: Path, world: World, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("debugging")
    (folder / "session.key").write_text(secrets.token_urlsafe(48))
    extra = {"KUBERPA_SESSION_KEY_FILE": str(folder / "session.key")}
    kubectl = panel_site.kubectl
    tokens = {}
    for name, role in (("boss", "admin"), ("operator", "operate"), ("guest", "admin")):
        kubectl("create", "serviceaccount", f"debug-{name}", "-n", "default")
        account = f"--serviceaccount=default:debug-{name}"
        kubectl("create", "rolebinding", f"debug-{name}", "-n", NAMESPACE, f"--clusterrole=kuberpa-{role}", account)
        tokens[name] = kubectl("create", "token", f"debug-{name}", "-n", "default").strip()
    async with database(panel_site.postgres_admin_url, panel_site.postgres_url) as url:
        near = PanelProcess(panel_kubeconfig, url, folder, replica="debug-near", extra=extra)
        far = PanelProcess(panel_kubeconfig, url, folder, replica="debug-far", extra=extra)
        try:
            for panel in (near, far):
                await panel.start()
            for panel in (near, far):
                await panel.archive_is("ok")
            await world.robot(ROBOT, debug={"enabled": True})
            async with real_agent(near, world, folder / "agent", ROBOT):
                (folder / "agent/home/state/files/numbers").write_text("1 2 3")
                yield Bench(far, world, tokens, folder)
        finally:
            for panel in (near, far):
                panel.kill()


async def pid_of(person: Person) -> int:
    """Of the console's process, which is there."""
    await person.send(run=PIECE)
    return int((await person.told(lambda news: news.get("stream") == "stdout"))["text"])


async def gone(pid: int) -> None:
    async def is_gone() -> bool:
        return not psutil.pid_exists(pid)

    await eventually(is_gone, "the console's process being gone")


async def refusal(bench: Bench, who: str) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with bench.person(who):
            pass
    return int(caught.value.response.status_code)


async def test_a_piece_runs_as_the_robot_and_is_written_down_with_the_name(bench: Bench) -> None:
    async with bench.person() as person:
        await pid_of(person)
        await person.send(run="print(6 * 7)")
        await person.told(lambda news: news.get("text") == "42")
        await person.send(run="a\0b")
        assert "characters" in (await person.told(lambda news: news.get("stream") == "agent"))["text"]
        await person.socket.close(1000, "closed")
    assert await refusal(bench, "operator") == 403
    deeds = [each for each in await bench.deeds() if each["verb"].startswith("console.")]
    pieces = [json.loads(each["new"])["source"] for each in deeds if each["verb"] == "console.run"]
    assert pieces == ["print(6 * 7)", PIECE]
    assert {each["username"] for each in deeds} == {"system:serviceaccount:default:debug-boss"}


async def test_a_console_outlives_a_lost_connection_for_whoever_opened_it(bench: Bench) -> None:
    async with bench.person() as person:
        ident = (await person.told(lambda news: "console" in news))["console"]
        pid = await pid_of(person)
    async with bench.person(query=f"?console={ident}") as person:
        assert await pid_of(person) == pid
        await person.socket.close(1000, "closed")
    await gone(pid)


async def test_a_console_dies_with_the_right_to_it(bench: Bench, panel_site: Cluster) -> None:
    async with bench.person("guest") as person:
        pid = await pid_of(person)
        await asyncio.to_thread(panel_site.kubectl, "delete", "rolebinding", "debug-guest", "-n", NAMESPACE)
        code, reason = await person.closed()
    assert code == 4403
    assert "create robots/console" in reason
    await gone(pid)


async def test_a_console_dies_when_its_robot_allows_none_any_more(bench: Bench) -> None:
    async with bench.person() as person:
        pid = await pid_of(person)
        await bench.allow(enabled=False)
        _, reason = await person.closed()
    assert "spec.debug.enabled" in reason
    await gone(pid)

    async def refused() -> bool:
        try:
            async with bench.person():
                return False  # this replica has not heard of it yet
        except InvalidStatus as error:
            return error.response.status_code == 409

    await eventually(refused, "consoles being refused")
    await bench.allow(enabled=True)

    async def opens() -> bool:
        try:
            async with bench.person() as person:
                await pid_of(person)
                await person.socket.close(1000, "closed")
        except (WebSocketException, OSError):
            return False
        return True

    await eventually(opens, "consoles being allowed again")


async def test_an_editor_attaches_through_the_command_line(bench: Bench) -> None:
    item = await bench.waiting()
    async with bench.kuberpa(ROBOT) as process, Editor.at(await port_of(process)) as editor:
        await editor.attach(SOURCE, LINE)
        thread = await editor.stopped()
        assert await editor.value(thread, "path") == "'numbers'"
        await editor.go_on(thread)
        done = await bench.world.phase(item, "Succeeded")
    assert any(each["verb"] == "debugger.attach" for each in await bench.deeds())
    assert done.status.survivors == ()


async def test_an_editor_without_the_right_is_refused_and_the_command_ends(bench: Bench) -> None:
    item = await bench.waiting()
    name = item.metadata.name
    async with bench.kuberpa(ROBOT, name, who="operator") as process:
        _, writer = await asyncio.open_connection("127.0.0.1", await port_of(process))
        async with asyncio.timeout(60):
            _, said = await process.communicate()
        writer.close()
    assert process.returncode == 6
    assert "create activityitems/debug" in said.decode()
    await bench.world.desire(item, "Kill")
    await bench.world.phase(item, "Killed")
