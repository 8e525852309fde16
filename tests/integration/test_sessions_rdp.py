"""Sessions held over RDP: xrdp, whose sessions go on without a client, and NLA at FreeRDP's own server."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest
from tests.support.descendants import descendants
from tests.support.rdp import PASSWORD, USER, Server, certificate, shadow, xrdp
from tests.support.waiting import eventually

from kuberpa.session import Observed, SessionState
from kuberpa_agent.desktop.ending import Stage
from kuberpa_agent.desktop.freerdp import Target
from kuberpa_agent.desktop.holder import Holder, Wish
from kuberpa_agent.screen.capture import Screen
from kuberpa_agent.screen.input import open_hand, read_events

BLUE = (0x20, 0x60, 0xA0)


class Held:
    """A holder, and what it has seen."""

    def __init__(self, folder: Path, target: Target, password: str) -> None:
        self.account = folder / "account"
        self.account.mkdir()
        (self.account / "username").write_text(USER)
        (self.account / "password").write_text(password, encoding="utf-8")
        private = folder / "private"
        private.mkdir(mode=0o700)
        self.seen: list[Observed] = []
        self._changed = asyncio.Event()
        self.holder = Holder(Wish(target, self.account), private, self._note)

    def _note(self, seen: Observed) -> None:
        self.seen.append(seen)
        self._changed.set()

    async def until(self, holds: Callable[[Observed], bool]) -> Observed:
        with suppress(TimeoutError):
            async with asyncio.timeout(45):
                while not holds(self.holder.seen):
                    self._changed.clear()
                    await self._changed.wait()
        assert holds(self.holder.seen), self.seen
        return self.holder.seen

    async def active(self) -> Observed:
        return await self.until(lambda seen: seen.state is SessionState.ACTIVE)

    async def ended(self, cause: str) -> Observed:
        return await self.until(lambda seen: seen.cause == cause)


@asynccontextmanager
async def held(folder: Path, target: Target, password: str = PASSWORD) -> AsyncIterator[Held]:
    it = Held(folder, target, password)
    it.holder.open()
    try:
        yield it
    finally:
        await it.holder.close()


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An xrdp whose sessions are blue and hold a terminal; what is typed into it goes into `typed` of the home."""
    folder = tmp_path_factory.mktemp("xrdp")
    typing = "xterm -geometry 60x10+0+0 -e sh -c 'while read -r line; do echo \"$line\" >>~/typed; done'"
    with xrdp(folder, f'xsetroot -solid "#2060a0"; exec {typing}') as server:
        yield server


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Server]:
    with shadow(tmp_path) as server:
        yield server


async def pixel(environment: dict[str, str], place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Wait until the screen has this colour there."""

    def look() -> bool | None:
        with Screen(environment["DISPLAY"]) as screen:
            return screen.grab().image().getpixel(place) == colour or None

    await asyncio.to_thread(eventually, look, f"the colour {colour}")


@pytest.fixture
def as_holder(monkeypatch: pytest.MonkeyPatch) -> Callable[[Held], dict[str, str]]:
    """Let this process see the screen of a holder, as the agent's own processes do."""

    def see(it: Held) -> dict[str, str]:
        monkeypatch.setenv("XAUTHORITY", it.holder.environment["XAUTHORITY"])
        return it.holder.environment

    return see


async def test_a_session_is_held_and_comes_back_as_it_was_when_it_is_cut(
    desktop: Server, tmp_path: Path, as_holder: Callable[[Held], dict[str, str]]
) -> None:
    target = Target("localhost", desktop.port, 900, 600, security="tls", ca_file=desktop.certificate)
    async with held(tmp_path, target) as it:
        seen = await it.active()
        assert (seen.width, seen.height, seen.cause) == (900, 600, "")
        screen = as_holder(it)
        await pixel(screen, (850, 550), BLUE)
        await type_line(screen, "one")
        await told("one\n")
        desktop.stop()
        lost = await it.until(lambda seen: seen.state is SessionState.DISCONNECTED)
        assert lost.cause in {"Lost", "Unreachable"}
        desktop.start()
        await it.active()
        await pixel(screen, (850, 550), BLUE)
        await type_line(screen, "two")
        await told("one\ntwo\n")


async def type_line(screen: dict[str, str], text: str) -> None:
    """In the terminal: it has the keyboard when the pointer is over it."""

    def work() -> None:
        hand = open_hand(screen["DISPLAY"])
        for event in read_events([{"move": [300, 300]}, {"move": [100, 50]}, {"text": text}, {"key": "Enter"}]):
            hand.perform(event)
        hand.close()

    await asyncio.to_thread(work)


def typed() -> str | None:
    path = Path(f"~{USER}/typed").expanduser()
    return path.read_text() if path.exists() else None


async def told(text: str) -> None:
    await asyncio.to_thread(eventually, lambda: typed() == text or None, "the line")


async def test_a_virtual_screen_that_dies_is_started_again(desktop: Server, tmp_path: Path) -> None:
    target = Target("localhost", desktop.port, 900, 600, security="tls", ca_file=desktop.certificate)
    async with held(tmp_path, target) as it:
        await it.active()
        screen = next(each.process for each in descendants() if each.name == "Xvfb")
        screen.kill()
        await it.until(lambda seen: seen.state is not SessionState.ACTIVE)
        await it.active()


async def test_nla_takes_the_right_password_and_nothing_of_it_is_seen(guarded: Server, tmp_path: Path) -> None:
    async with held(tmp_path, Target("localhost", guarded.port, 800, 600, ca_file=guarded.certificate)) as it:
        await it.active()
        for each in descendants():
            shown = " ".join([*each.command, *each.environment.values()])
            assert PASSWORD not in shown
            if each.name in {"xfreerdp", "stdbuf", "setpriv"}:
                assert USER not in shown
        assert not any(PASSWORD in seen.message for seen in it.seen)


async def test_a_wrong_password_is_tried_once_and_a_new_one_at_once(guarded: Server, tmp_path: Path) -> None:
    async with held(tmp_path, Target("localhost", guarded.port, 800, 600, ca_file=guarded.certificate), "wrong") as it:
        refused = await it.ended("CredentialsRefused")
        assert "connects again in 30 s" in refused.message
        assert guarded.log.read_text(errors="replace").count("client authentication failure") == 1
        (it.account / "password").write_text(PASSWORD, encoding="utf-8")
        await it.active()


async def test_a_certificate_that_nobody_vouches_for_ends_before_the_password(guarded: Server, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other, _ = certificate(tmp_path / "other")
    async with held(tmp_path, Target("localhost", guarded.port, 800, 600, ca_file=other)) as it:
        invalid = await it.ended("CertificateInvalid")
        assert "not trusted" in invalid.message
        connection = it.holder._connection
        assert connection is not None
        assert connection.reached is Stage.NEGOTIATING


async def test_a_host_that_says_so_is_trusted_without_a_certificate(guarded: Server, tmp_path: Path) -> None:
    async with held(tmp_path, Target("127.0.0.1", guarded.port, 800, 600, validate=False)) as it:
        await it.active()


async def test_what_cannot_be_reached_is_said_with_its_place(tmp_path: Path) -> None:
    async with held(tmp_path, Target("127.0.0.1", 9, 800, 600)) as it:
        unreachable = await it.ended("Unreachable")
        assert "127.0.0.1:9 cannot be reached" in unreachable.message


async def test_a_secret_without_a_password_is_named_and_waited_for(tmp_path: Path) -> None:
    async with held(tmp_path, Target("127.0.0.1", 9, 800, 600), "") as it:
        await it.until(lambda seen: "no key 'password'" in seen.message)
        (it.account / "password").write_text("now")
        await it.ended("Unreachable")


def test_everything_ends_with_an_agent_that_is_killed(guarded: Server, tmp_path: Path) -> None:
    code = (
        "import asyncio,sys;from pathlib import Path;from tests.integration import test_sessions_rdp as t\n"
        "async def main():\n"
        f"    target = t.Target('127.0.0.1', {guarded.port}, 800, 600, validate=False)\n"
        f"    async with t.held(Path({str(tmp_path)!r}), target) as it:\n"
        "        await it.active(); print('active', flush=True); await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    agent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ})
    assert agent.stdout is not None
    assert agent.stdout.readline() == b"active\n"
    children = list(descendants(agent.pid))
    assert {"Xvfb", "xfreerdp"} <= {child.name for child in children}
    agent.kill()
    agent.wait()
    _, alive = psutil.wait_procs([child.process for child in children], 10)
    assert not alive
    agent.stdout.close()
