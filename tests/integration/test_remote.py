"""People at robots' terminals, screens, files and processes, by real agents on a real X display."""

import asyncio
import io
import json
import os
import secrets
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from PIL import Image
from tests.support.cluster import Cluster
from tests.support.panel import NAMESPACE, PanelProcess, World, database, eventually
from tests.support.remote import Person, Screen, real_agent, x_display, x_program
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kuberpa.streams import MAX_STREAMS
from kuberpa_panel.remote.sockets import PER_VIEWER

ROBOT = "desk"


@dataclass(frozen=True)
class Room:
    """Two replicas; the robot's agent is connected to the first, people come to the second."""

    near: PanelProcess
    far: PanelProcess
    tokens: dict[str, str]
    home: Path
    display: str
    agent: int

    def path(self, what: str) -> str:
        return f"/api/v1/robots/{NAMESPACE}/{ROBOT}/{what}"

    async def kuberpa(self, *words: str, who: str = "boss", stdin: bytes = b"") -> tuple[int, str, str]:
        """`kuberpa robot …`: exit code, output, what it said."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}
        env = {**kept, "KUBECONFIG": str(self.far.kubeconfig), "KUBERPA_URL": self.far.url}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kuberpa_cli", "robot", "-n", NAMESPACE, *words),
            env={**env, "KUBERPA_TOKEN": self.tokens[who]},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, said = await process.communicate(stdin)
        return process.returncode or 0, out.decode(), said.decode()

    async def ask(
        self, method: str, what: str, who: str = "boss", data: bytes | None = None, **query: Any
    ) -> tuple[int, bytes]:
        """Status and body of an answer of the far replica."""
        headers = {"Authorization": f"Bearer {self.tokens[who]}"}
        path = what if what.startswith("/") else self.path(what)
        body = None if data is None else io.BytesIO(data)
        async with (
            aiohttp.ClientSession(self.far.url, headers=headers) as http,
            http.request(method, path, params=query, data=body) as answer,
        ):
            return answer.status, await answer.read()

    async def told(self, method: str, what: str, who: str = "boss", **query: Any) -> Any:
        """The JSON of an answer."""
        return json.loads((await self.ask(method, what, who, **query))[1])


def people(cluster: Cluster) -> dict[str, str]:
    kubectl = cluster.kubectl
    for name, role in (("boss", "admin"), ("chief", "admin"), ("operator", "operate"), ("looker", "viewer")):
        kubectl("create", "serviceaccount", name, "-n", "default")
        account = f"--serviceaccount=default:{name}"
        kubectl("create", "rolebinding", f"remote-{name}", "-n", NAMESPACE, f"--clusterrole=kuberpa-{role}", account)
    return {
        name: kubectl("create", "token", name, "-n", "default").strip()
        for name in ("boss", "chief", "operator", "looker")
    }


@pytest.fixture(scope="module")
async def room(
    panel_site: Cluster, panel_kubeconfig: Path, world: World, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Room]:
    folder = tmp_path_factory.mktemp("remote")
    (folder / "session.key").write_text(secrets.token_urlsafe(48))
    extra = {"KUBERPA_SESSION_KEY_FILE": str(folder / "session.key")}
    async with database(panel_site.postgres_admin_url, panel_site.postgres_url) as url:
        near = PanelProcess(panel_kubeconfig, url, folder, replica="near", extra=extra)
        far = PanelProcess(panel_kubeconfig, url, folder, replica="far", extra=extra)
        try:
            for panel in (near, far):
                await panel.start()
            for panel in (near, far):
                await panel.archive_is("ok")
            await world.robot(ROBOT)
            async with (
                x_display() as display,
                real_agent(near, world, folder / "agent", ROBOT, display) as agent,
            ):
                yield Room(near, far, people(panel_site), folder / "agent/home", display, agent.pid)
        finally:
            for panel in (near, far):
                panel.kill()


async def refused(panel: PanelProcess, path: str, token: str = "", **headers: str) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with Person.at(panel, path, token, **headers):
            pass
    return int(caught.value.response.status_code)


@pytest.mark.parametrize("what", ["terminal", "screen"])
async def test_a_socket_is_refused_to_whoever_may_not_or_comes_from_elsewhere(room: Room, what: str) -> None:
    for panel in (room.near, room.far):
        assert await refused(panel, room.path(what), room.tokens["looker"]) == 403
        assert await refused(panel, room.path(what)) == 403
        assert await refused(panel, room.path(what), "nonsense") == 401
        assert await refused(panel, room.path(what), Origin="https://evil.example") == 403
        assert await refused(panel, room.path(what), Origin=panel.url) == 401


async def test_an_operator_sees_screens_and_gets_no_terminal(room: Room) -> None:
    assert await refused(room.far, room.path("terminal"), room.tokens["operator"]) == 403
    async with Person.at(room.far, room.path("screen"), room.tokens["operator"]) as person:
        await person.told(lambda news: "viewers" in news)


@pytest.mark.parametrize("far", [False, True], ids=["the agent's replica", "another replica"])
async def test_a_terminal_runs_a_shell_as_the_robots_user_and_dies_with_its_tree(room: Room, far: bool) -> None:
    panel = room.far if far else room.near
    async with Person.at(panel, room.path("terminal?columns=100&rows=30"), room.tokens["boss"]) as person:
        await person.type("stty size; echo pid=$$ home=$HOME; env | grep -c ^KUBERPA_ \n")
        await person.sees("30 100")
        text = await person.sees(f"home={room.home}")
        pid = int(text.rsplit("pid=", 1)[1].split()[0])
        first, second = f"600.{secrets.randbelow(10**9)}", f"601.{secrets.randbelow(10**9)}"
        await person.type(
            f"setsid sh -c 'sleep {first}' & (sleep {second} &) ; echo hidden=$(env | grep -c ^KUBERPA_P)\n"
        )
        await person.sees("hidden=0")
        wanted = (["sleep", first], ["sleep", second])

        async def both() -> list[psutil.Process]:
            found = [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] in wanted]
            return found if len(found) == len(wanted) else []

        below = await eventually(both, "both processes")
        await person.send(size=[120, 40])
        await person.type("stty size\n")
        await person.sees("40 120")
        await person.socket.close(1000, "closed")

    async def gone() -> bool:
        return not psutil.pid_exists(pid) and not any(process.is_running() for process in below)

    await eventually(gone, "everything of the terminal being gone")
    deeds = await room.told("GET", "audit")
    assert {deed["verb"] for deed in deeds} >= {"terminal.open", "terminal.leave"}
    assert {deed["username"] for deed in deeds} >= {"system:serviceaccount:default:boss"}


async def test_a_flood_stops_at_the_persons_pace_and_ends_with_ctrl_c(room: Room) -> None:
    async with Person.at(room.far, room.path("terminal"), room.tokens["boss"]) as person:
        await person.type("PS1='> '; yes kuberpa\n")
        taken = 0
        while taken < 100_000:
            message = await person.read()
            taken += len(message) if isinstance(message, bytes) else 0
        with suppress(TimeoutError):  # nothing was said to be shown, so no more comes
            async with asyncio.timeout(2):
                while taken < 2_000_000:
                    taken += len(await person.socket.recv())
        assert taken < 512 * 1024
        await person.send(shown=taken)
        await person.type("\x03")
        await person.type("echo done-$((6*7))\n")
        await person.sees("done-42")
        await person.socket.close(1000, "closed")


async def test_a_terminal_outlives_a_lost_connection_for_whoever_opened_it(room: Room) -> None:
    async with Person.at(room.far, room.path("terminal"), room.tokens["boss"]) as person:
        ident = (await person.told(lambda news: "terminal" in news))["terminal"]
        await person.type("kept=still-here\n")
        await person.sees("kept=still-here")
    async with Person.at(room.near, room.path(f"terminal?terminal={ident}"), room.tokens["boss"]) as person:
        assert (await person.told(lambda news: "terminal" in news))["terminal"] == ident
        await person.type("echo it=$kept\n")
        await person.sees("it=still-here")
        await person.type("exit\n")
        assert (await person.closed())[1] == "the shell has ended"


async def test_a_terminal_dies_with_the_right_to_it(room: Room, panel_site: Cluster) -> None:
    kubectl = panel_site.kubectl
    kubectl("create", "serviceaccount", "guest", "-n", "default")
    binding = ("rolebinding", "remote-guest", "-n", NAMESPACE)
    kubectl("create", *binding, "--clusterrole=kuberpa-admin", "--serviceaccount=default:guest")
    token = kubectl("create", "token", "guest", "-n", "default").strip()
    async with Person.at(room.far, room.path("terminal"), token) as person:
        await person.type("printf 'p%s' id=$$.\n")
        await person.sees("pid=")
        pid = int((await person.sees("."))[:-1])
        await asyncio.to_thread(kubectl, "delete", *binding)
        code, reason = await person.closed()
        assert code == 4403
        assert "create robots/terminal" in reason

    async def gone() -> bool:
        return not psutil.pid_exists(pid)

    await eventually(gone, "the shell being gone")


async def test_processes_are_listed_and_killed_by_number_and_start(room: Room) -> None:
    async with Person.at(room.near, room.path("terminal"), room.tokens["boss"]) as person:
        await person.type("sleep 733 & printf 'p%s' id=$!. ; wait\n")
        await person.sees("pid=")
        pid = int((await person.sees("."))[:-1])
        found = (await room.told("GET", "processes", "operator"))["processes"]
        started = next(each for each in found if each["pid"] == pid)["started"]
        one = f"processes/{pid}"
        assert (await room.ask("DELETE", one, "operator", started=started))[0] == 403
        assert (await room.told("DELETE", one, started=started - 60))["detail"] == f"Process {pid} is gone."
        assert await room.told("DELETE", one, started=started) == {"killed": [pid], "survivors": []}
        agent = next(each for each in found if each["pid"] == room.agent)
        assert (await room.ask("DELETE", f"processes/{room.agent}", started=agent["started"]))[0] == 409
        await person.sees("Killed")
        await person.socket.close(1000, "closed")


async def test_files_go_there_and_back_and_nothing_outside_of_the_roots_is_reached(room: Room) -> None:
    data = secrets.token_bytes(3_000_000)
    home, target = str(room.home), str(room.home / "in.bin")
    (room.home / "out").symlink_to("/etc")
    assert await room.told("GET", "files/roots") == {"roots": [home]}
    assert await room.told("PUT", "files/content", data=data, path=target) == {"written": len(data)}
    assert await room.ask("GET", "files/content", path=target) == (200, data)
    names = {each["name"] for each in (await room.told("GET", "files", path=home))["entries"]}
    assert names >= {"in.bin", "out"}
    assert "state" not in names
    for path in ("/etc/passwd", f"{home}/../secret/token", f"{home}/out/passwd", f"{home}/state", "in.bin"):
        for what in ("files", "files/content"):
            assert (await room.ask("GET", what, path=path))[0] == 409, path
    for path in (f"{home}/out/x", f"{home}/state/x", f"{home}/../x", home):
        assert (await room.ask("PUT", "files/content", data=b"x", path=path))[0] == 409, path
    assert (await room.ask("DELETE", "files", path=target))[0] == 200
    assert (await room.ask("GET", "files", "operator", path=home))[0] == 403


async def test_what_a_person_types_is_seen_on_the_robots_screen_and_one_person_has_control(room: Room) -> None:
    async with (
        x_program(room.display, "xterm", "-geometry", "80x24+0+0", "-fa", "Monospace", "-e", "sh"),
        Screen.at(room.far, room.path("screen"), room.tokens["chief"]) as anna,
        Screen.at(room.near, room.path("screen"), room.tokens["boss"]) as oleg,
    ):
        assert isinstance(anna, Screen)
        assert isinstance(oleg, Screen)
        await anna.shows(lambda image: image.size == (1024, 768) and bright(image) > 1000)
        await anna.send(events=[{"text": "touch never\n"}])
        await anna.send(take=True)
        assert (await anna.told(lambda news: news.get("mine")))["controller"].endswith("chief")
        await oleg.send(take=True)
        assert "has control" in (await oleg.told(lambda news: "refused" in news))["refused"]
        await oleg.send(events=[{"text": "touch never\n"}])
        marker = room.home / f"typed-{secrets.token_hex(4)}"
        before = bright(await anna.shows(lambda _: True))
        await anna.send(events=[{"move": [100, 100]}, {"text": f"touch {marker}\n"}])
        await eventually(lambda: exists(marker), "what was typed being done")
        await anna.shows(lambda image: bright(image) != before)
        assert not (room.home / "never").exists()
        await oleg.send(take=True, force=True)
        assert (await anna.told(lambda news: "lost" in news))["lost"].endswith("boss took control")
        await oleg.told(lambda news: news.get("mine"))
        await oleg.send(release=True)
        await oleg.told(lambda news: news.get("controller") == "")


async def test_who_may_only_look_does_not_get_the_keyboard(room: Room) -> None:
    async with Screen.at(room.far, room.path("screen"), room.tokens["operator"]) as person:
        await person.send(take=True)
        assert "create robots/control" in (await person.told(lambda news: "refused" in news))["refused"]
        assert not (await person.told(lambda news: "controller" in news))["mine"]


async def test_of_a_thousand_sockets_of_one_person_a_hundred_are_opened_and_nobody_else_suffers(room: Room) -> None:
    answers: Counter[int] = Counter()
    said: set[str] = set()
    async with AsyncExitStack() as stack:

        async def open_one() -> None:
            try:
                await stack.enter_async_context(Person.at(room.far, "/api/v1/thumbnails", room.tokens["chief"]))
                answers[101] += 1
            except InvalidStatus as error:
                answers[error.response.status_code] += 1
                said.add(json.loads(error.response.body or b"{}")["detail"])

        for _ in range(20):
            await asyncio.gather(*(open_one() for _ in range(50)))
        assert answers == {101: PER_VIEWER, 429: 1000 - PER_VIEWER}
        assert said == {f"You have {PER_VIEWER} screens and terminals open: close some first."}
        async with Person.at(room.far, room.path("screen"), room.tokens["operator"]) as other:
            await other.told(lambda news: "viewers" in news)
    async with asyncio.timeout(30):
        while True:  # what was closed counts no more, as soon as the panel has noticed
            with suppress(InvalidStatus):
                async with Person.at(room.far, room.path("screen"), room.tokens["chief"]) as again:
                    await again.told(lambda news: "viewers" in news)
                    return


async def test_of_a_hundred_views_of_one_robot_those_beyond_its_streams_are_told_why(room: Room) -> None:
    ends: Counter[str] = Counter()
    async with AsyncExitStack() as stack:

        async def look() -> None:
            person = await stack.enter_async_context(Person.at(room.near, room.path("screen"), room.tokens["boss"]))
            with suppress(ConnectionClosed):
                await person.told(lambda news: "viewers" in news)
            ends[person.socket.close_reason or "looks"] += 1

        await asyncio.gather(*(look() for _ in range(PER_VIEWER)))
        why = f"{MAX_STREAMS} streams of this robot are open: close one first"
        assert ends == {"looks": MAX_STREAMS, why: PER_VIEWER - MAX_STREAMS}
    async with asyncio.timeout(60):
        while True:  # the agent hears of each that is closed
            async with Person.at(room.near, room.path("screen"), room.tokens["operator"]) as person:
                with suppress(ConnectionClosed):
                    await person.told(lambda news: "viewers" in news)
                    return


async def test_a_screenshot_is_a_picture_for_whoever_may_see_it(room: Room) -> None:
    status, picture = await room.ask("GET", "screenshot", "operator")
    assert (status, size_of(picture)) == (200, (1024, 768))
    assert (await room.ask("GET", "screenshot", "looker"))[0] == 403


async def test_what_was_on_the_screen_before_an_attempt_failed_is_kept_with_it(room: Room, world: World) -> None:
    robot = await world.get_robot(ROBOT)
    script = "echo looking; xmessage -geometry 300x200+10+10 broken & sleep 3; kill $!; exit 7"
    item = await world.item(ROBOT, input={"args": [["sh", "-c", script]]})
    await world.assign(item, robot)
    await world.phase(item, "Failed")
    place = f"/api/v1/activities/{NAMESPACE}/{item.metadata.name}/recording"

    async def stored() -> list[dict[str, Any]]:
        return list(await room.told("GET", place, "operator"))

    pictures = await eventually(stored, "the recording")
    sizes = [size_of((await room.ask("GET", f"{place}/{each['number']}", "operator"))[1]) for each in pictures]
    assert set(sizes) == {(1024, 768)}
    assert [each["at"] for each in pictures] == sorted(each["at"] for each in pictures)
    assert (await room.ask("GET", place, "looker"))[0] == 403
    kept = room.home / "state/recorder/kept"
    await eventually(lambda: asyncio.to_thread(lambda: not any(kept.iterdir())), "the agent forgetting it")


async def test_the_command_line_takes_pictures_copies_lists_and_opens_a_shell(room: Room, tmp_path: Path) -> None:
    assert await room.kuberpa("screenshot", ROBOT, "-o", str(tmp_path / "screen.png")) == (0, "", "")
    assert size_of((tmp_path / "screen.png").read_bytes()) == (1024, 768)
    (tmp_path / "there.txt").write_text("to the robot")
    code, _, said = await room.kuberpa("cp", str(tmp_path / "there.txt"), f"{ROBOT}:{room.home}/")
    assert (code, said.strip()) == (0, "12 bytes")
    assert (await room.kuberpa("cp", f"{ROBOT}:{room.home}/there.txt", str(tmp_path / "back.txt")))[0] == 0
    assert (tmp_path / "back.txt").read_text() == "to the robot"
    code, _, said = await room.kuberpa("cp", f"{ROBOT}:/etc/passwd", str(tmp_path / "passwd"))
    assert code == 2
    assert "outside of what may be seen here" in said
    code, table, _ = await room.kuberpa("ps", ROBOT, who="operator")
    assert (code, f"\n{room.agent} " in table) == (0, True)
    code, out, _ = await room.kuberpa("shell", ROBOT, stdin=b"echo it=$((6*7)); exit 3\n")
    assert (code, "it=42" in out) == (3, True)
    code, _, said = await room.kuberpa("shell", ROBOT, who="operator", stdin=b"")
    assert (code, "create robots/terminal" in said) == (6, True)


async def exists(path: Path) -> bool:
    return await asyncio.to_thread(path.exists)


def size_of(picture: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(picture)) as image:
        return image.size


def bright(image: Image.Image) -> int:
    return sum(image.convert("L").histogram()[128:])
