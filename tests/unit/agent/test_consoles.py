"""Python consoles: real processes, from the first line to the last child that they leave."""

import asyncio
import json
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.agent_panel import eventually
from tests.support.streams import Wire

from kuberpa.streams import Stream, StreamClosedError
from kuberpa.wire import StreamKind
from kuberpa_agent.bench import Bench
from kuberpa_agent.sdk.credentials import SECRETS_DIR_VARIABLE
from kuberpa_agent.visits import consoles as module
from kuberpa_agent.visits.consoles import Consoles
from kuberpa_agent.visits.service import RemoteError
from kuberpa_agent.worker.console import LEFT_OUT, OUTPUT_CHARS

DEADLINE = 60.0


class Sitting:
    """A person at a console."""

    def __init__(self, consoles: Consoles, user: str = "anna", **options: Any) -> None:
        self.person, agents = Wire().open(StreamKind.CONSOLE, **options)
        self.news: list[dict[str, Any]] = []
        self.task = asyncio.create_task(self._serve(consoles, agents, user, options))

    @staticmethod
    async def _serve(consoles: Consoles, stream: Stream, user: str, options: dict[str, Any]) -> None:
        try:
            await consoles.serve(stream, user, options)
        except RemoteError as error:
            stream.close(str(error))
        except StreamClosedError:
            return

    async def told(self, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE):
            while True:
                self.news.append(json.loads(await self.person.receive()))
                if holds(self.news[-1]):
                    return self.news[-1]

    async def send(self, **message: Any) -> None:
        await self.person.send(json.dumps(message))

    async def run(self, source: str) -> tuple[str, dict[str, Any]]:
        """What a piece writes, and how it was done."""
        already = len(self.news)
        await self.send(run=source)
        done = await self.told(lambda news: "done" in news)
        lines = [each for each in self.news[already:] if "text" in each]
        return "".join(each["text"] + "\n" * (not each["continues"]) for each in lines), done

    async def ends(self) -> str:
        with suppress(asyncio.TimeoutError):
            try:
                await self.told(lambda _: False)
            except StreamClosedError as end:
                return str(end)
        raise AssertionError("the console goes on")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "secrets/sap").mkdir(parents=True)
    (tmp_path / "secrets/sap/password").write_text("hunter2-hunter2")
    return Bench(Path(sys.executable), tmp_path, {SECRETS_DIR_VARIABLE: str(tmp_path / "secrets")})


@pytest.fixture
async def consoles(bench: Bench) -> Any:
    consoles = Consoles(lambda: bench)
    consoles.allow(True)
    yield consoles
    await consoles.close()


async def test_pieces_run_in_one_namespace_and_the_last_value_is_shown(consoles: Consoles) -> None:
    person = Sitting(consoles)
    await person.told(lambda news: news.get("ready"))
    assert (await person.run("x = 6"))[0] == ""
    assert (await person.run("y = 7\nx * y"))[0] == "42\n"
    assert (await person.run("import asyncio\nawait asyncio.sleep(0, 'slept')"))[0] == "'slept'\n"
    text, done = await person.run("for each in range(2):")
    assert (text, done["more"]) == ("", True)
    assert (await person.run("for each in range(2):\n    print(each)"))[0] == "0\n1\n"
    assert "NameError" in (await person.run("nothing"))[0]
    text, _ = await person.run("def broken():\n    raise ValueError('why')\n\nbroken()")
    assert "raise ValueError('why')" in text
    assert "console_payload" not in text
    assert "SyntaxError" in (await person.run("1 +* 2"))[0]


async def test_user_code_finds_no_input_and_nothing_of_the_agents(consoles: Consoles, monkeypatch: Any) -> None:
    monkeypatch.setenv("KUBERPA_TOKEN_FILE", "/secret/token")
    person = Sitting(consoles)
    assert "EOFError" in (await person.run("input()"))[0]
    assert (await person.run("import os; print(os.environ.get('KUBERPA_TOKEN_FILE'))"))[0] == "None\n"
    assert (await person.run("sorted(definitions)"))[0] == "[]\n"


async def test_credentials_are_not_shown(consoles: Consoles) -> None:
    person = Sitting(consoles)
    text, _ = await person.run("from kuberpa_agent import sdk\nprint('hunter2' + '-hunter2')")
    assert text == "***\n"


@pytest.mark.parametrize("source", ["while True: pass", "import time; time.sleep(600)", "while True: print('on')"])
async def test_what_runs_is_interrupted_and_the_console_goes_on(consoles: Consoles, source: str) -> None:
    person = Sitting(consoles)
    await person.run("z = 1")
    await person.send(run=f"print('begun')\n{source}")
    await person.told(lambda news: news.get("text") == "begun")
    await person.send(interrupt=True)
    await person.told(lambda news: "done" in news)
    assert (await person.run("z + 1"))[0] == "2\n"


async def test_output_is_bounded_and_the_next_piece_has_its_own(consoles: Consoles) -> None:
    person = Sitting(consoles)
    text, _ = await person.run("for n in range(100_000): print('x' * 100)")
    assert text.endswith(LEFT_OUT + "\n")
    assert len(text) <= OUTPUT_CHARS + len(LEFT_OUT) + 200
    assert (await person.run("print('next')"))[0] == "next\n"


async def test_what_is_closed_leaves_nothing(consoles: Consoles) -> None:
    person = Sitting(consoles)
    first, second = f"610.{secrets.randbelow(10**9)}", f"611.{secrets.randbelow(10**9)}"
    source = (
        "import subprocess\n"
        f"subprocess.Popen(['sleep', '{first}'], start_new_session=True)\n"
        f"subprocess.Popen(['sh', '-c', 'setsid sleep {second} &'])\n"
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('on')"
    )
    assert (await person.run(source))[0] == "on\n"

    def left() -> int:
        wanted = (["sleep", first], ["sleep", second])
        return sum(each.info["cmdline"] in wanted for each in psutil.process_iter(["cmdline"]))

    await eventually(lambda: left() == 2)
    person.person.close("closed")
    await eventually(lambda: left() == 0)


async def test_it_ends_when_the_robot_no_longer_allows_it_and_none_is_opened(consoles: Consoles) -> None:
    person = Sitting(consoles)
    await person.run("1")
    consoles.allow(False)
    assert await person.ends() == module.NOT_ALLOWED
    assert await Sitting(consoles).ends() == module.NOT_ALLOWED


async def test_a_console_that_is_left_ends_it_and_says_its_code(consoles: Consoles) -> None:
    person = Sitting(consoles)
    await person.send(run="print('last'); raise SystemExit(3)")
    assert await person.ends() == "the console has ended"
    assert {"exit": 3} in person.news
    assert [each["text"] for each in person.news if "text" in each] == ["last"]


async def test_who_lost_the_stream_finds_the_console_again_and_nobody_else_does(consoles: Consoles) -> None:
    first = Sitting(consoles)
    ident = (await first.told(lambda news: "console" in news))["console"]
    await first.run("kept = 'kept'")
    first.person.close("")
    again = Sitting(consoles, console=ident)
    assert (await again.run("kept"))[0] == "'kept'\n"
    other = Sitting(consoles, user="oleg", console=ident)
    assert (await other.told(lambda news: "console" in news))["console"] != ident


async def test_there_are_only_so_many(consoles: Consoles) -> None:
    people = [Sitting(consoles) for _ in range(module.CONSOLES)]
    for person in people:
        await person.told(lambda news: "console" in news)
    assert "close one first" in await Sitting(consoles).ends()


@pytest.mark.parametrize("message", ["no JSON", "[]", '{"run": 7}', '{"other": 1}', json.dumps({"run": "x" * 70_000})])
async def test_what_is_no_message_of_a_console_ends_the_stream(consoles: Consoles, message: str) -> None:
    person = Sitting(consoles)
    await person.told(lambda news: "console" in news)
    await person.person.send(message)
    assert await person.ends()


async def test_a_console_that_nobody_comes_back_to_is_killed(bench: Bench) -> None:
    consoles = Consoles(lambda: bench, detached_seconds=0.1)
    consoles.allow(True)
    person = Sitting(consoles)
    pid = int((await person.run("import os; print(os.getpid())"))[0])
    person.person.close("")
    await eventually(lambda: not psutil.pid_exists(pid))
    await consoles.close()
