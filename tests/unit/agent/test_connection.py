# length: one scripted panel on real sockets, and every way that a connection goes
import asyncio
import logging
import random
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent_panel import ScriptedPanel, eventually, scripted_panel, start
from websockets.asyncio.server import serve

from kuberpa import wire
from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason
from kuberpa_agent import agent as agent_module
from kuberpa_agent.agent import Agent, Facts, Pacing
from kuberpa_agent.backoff import Bounds, Cause
from kuberpa_agent.connection import ConnectError, Endpoint, open_socket, read_token
from kuberpa_agent.executor import CloseMode
from kuberpa_agent.settings import websocket_url
from kuberpa_agent.simulated import Duration, Plan, SimulatedRuns

LINE_CHARS = 10_000
FACTS = Facts("0.1.0", "host", "Linux")


@pytest.fixture
async def panel() -> AsyncIterator[ScriptedPanel]:
    async with scripted_panel() as panel:
        yield panel


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = dict.fromkeys(Cause, Bounds(0.01, 0.02))
    monkeypatch.setattr("kuberpa_agent.backoff.BOUNDS", quick)


def replace(token_file: Path) -> None:
    token_file.write_text("second\n")


def agent_of(
    panel: ScriptedPanel, token_file: Path, plan: Plan | None = None, *, url: str = "", keepalive: float = 60.0
) -> tuple[Agent, SimulatedRuns]:
    rng = random.Random(1)
    runs = SimulatedRuns(plan or Plan(), rng)
    endpoint = Endpoint(websocket_url(url or panel.url), token_file)
    return Agent(endpoint, runs, FACTS, pacing=Pacing(rng, keepalive)), runs


@asynccontextmanager
async def running(agent: Agent) -> AsyncIterator[None]:
    work = asyncio.create_task(agent.run())
    try:
        yield
        assert not work.done(), work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_an_agent_says_hello_with_its_token_and_tells_its_definitions_and_packages(
    panel: ScriptedPanel, token_file: Path
) -> None:
    agent, _ = agent_of(panel, token_file)
    async with running(agent):
        await panel.until(lambda: panel.of(wire.Packages) and panel.of(wire.Definitions))
    assert panel.tokens == ["first"]
    assert (panel.received[0].hostname, panel.received[0].runs) == ("host", ())
    assert [d.name for d in panel.of(wire.Definitions)[0].definitions] == ["os.command", "sim.fail", "sim.sleep"]


async def test_an_attempt_is_started_followed_and_forgotten_once_its_result_is_acknowledged(
    panel: ScriptedPanel, token_file: Path
) -> None:
    agent, runs = agent_of(panel, token_file, Plan(lines=3))
    async with running(agent):
        link = await panel.connected()
        await link.send(start("a", "os.command", ["echo"]))
        await panel.until(lambda: ("a", 1) in panel.finished)
        assert panel.finished["a", 1].outcome is Outcome.SUCCEEDED
        assert len(panel.text("a")) == 3
        await link.send(start("b", "sim.sleep", 0))
        await panel.until(lambda: ("b", 1) in panel.finished)
    assert ("a", 1) not in {(run.uid, run.token) for run in runs.runs()}
    assert panel.gaps == []


async def test_a_start_that_comes_again_is_reported_and_not_run_again(panel: ScriptedPanel, token_file: Path) -> None:
    agent, runs = agent_of(panel, token_file)
    async with running(agent):
        link = await panel.connected()
        await link.send(start("a", "sim.sleep", 60))
        await panel.until(lambda: panel.of(wire.Started, "a"))
        await link.send(start("a", "sim.sleep", 60))
        await panel.until(lambda: len(panel.of(wire.Started, "a")) == 2)
        assert len(runs.runs()) == 1


async def test_a_start_of_an_attempt_whose_result_was_acknowledged_is_refused_as_done(
    panel: ScriptedPanel, token_file: Path
) -> None:
    agent, _ = agent_of(panel, token_file)
    async with running(agent):
        link = await panel.connected()
        await link.send(start("a", "os.command", ["true"]))
        await panel.until(lambda: ("a", 1) in panel.finished)
        await link.send(start("a", "os.command", ["true"]))
        await panel.until(lambda: panel.of(wire.Refused, "a"))
    assert panel.of(wire.Refused, "a")[0].reason is Reason.STARTED
    assert len(panel.of(wire.Started, "a")) == 1


async def test_what_has_no_slot_is_handed_back(panel: ScriptedPanel, token_file: Path) -> None:
    agent, _ = agent_of(panel, token_file)
    async with running(agent):
        link = await panel.connected()
        await link.send(start("a", "sim.sleep", 60))
        await link.send(start("b", "sim.sleep", 60))
        await panel.until(lambda: panel.of(wire.Refused, "b"))
    assert panel.of(wire.Refused, "b")[0].reason is Reason.ROBOT_BUSY


@pytest.mark.parametrize(
    ("definition", "args", "reason"),
    [("no.such", [], Reason.UNKNOWN_DEFINITION), ("sim.sleep", ["long"], Reason.INVALID_ARGUMENTS)],
)
async def test_what_cannot_be_started_is_refused_with_its_reason(
    panel: ScriptedPanel, token_file: Path, definition: str, args: list[Any], reason: Reason
) -> None:
    agent, _ = agent_of(panel, token_file)
    async with running(agent):
        link = await panel.connected()
        await link.send(start("a", definition, *args))
        await panel.until(lambda: panel.of(wire.Refused, "a"))
    assert panel.of(wire.Refused, "a")[0].reason is reason


async def test_stop_and_kill_of_a_running_attempt_end_it(panel: ScriptedPanel, token_file: Path) -> None:
    panel.settings = wire.Settings(concurrency=2)
    agent, _ = agent_of(panel, token_file)
    async with running(agent):
        link = await panel.connected()
        await link.send(start("a", "sim.sleep", 60))
        await link.send(start("b", "sim.sleep", 60))
        await link.send(wire.Stop(uid="a", token=1))
        await link.send(wire.Kill(uid="b", token=1))
        await panel.until(lambda: len(panel.finished) == 2)
    assert panel.finished["a", 1].outcome is Outcome.STOPPED
    assert panel.finished["b", 1].outcome is Outcome.KILLED


async def test_a_stop_for_an_attempt_that_never_came_ends_it_for_good(panel: ScriptedPanel, token_file: Path) -> None:
    agent, runs = agent_of(panel, token_file)
    async with running(agent):
        link = await panel.connected()
        await link.send(wire.Stop(uid="a", token=1))
        await panel.until(lambda: ("a", 1) in panel.finished)
        await link.send(start("a", "sim.sleep", 60))
        await panel.until(lambda: len(panel.of(wire.Finished, "a")) == 2)
        assert runs.runs() == ()
    assert panel.finished["a", 1].outcome is Outcome.STOPPED


async def test_an_attempt_goes_on_without_a_connection_and_its_output_and_result_come_with_the_next_one(
    panel: ScriptedPanel, token_file: Path, no_waits: None
) -> None:
    agent, runs = agent_of(panel, token_file, Plan(lines=20, duration=Duration("fixed", 0.2)))
    async with running(agent):
        link = await panel.connected()
        await link.send(start("a", "os.command", ["echo"]))
        await panel.until(lambda: panel.of(wire.Output, "a"))
        await panel.close()
        await eventually(lambda: not any(run.running for run in runs.runs()))
        await panel.open()
        await panel.until(lambda: ("a", 1) in panel.finished)
    hellos = panel.of(wire.Hello)
    assert hellos[-1].runs == (wire.RunState(uid="a", token=1, running=False),)
    assert len(panel.text("a")) == 20
    assert panel.gaps == []


async def test_a_panel_that_stores_nothing_gets_everything_again_from_its_successor(
    panel: ScriptedPanel, token_file: Path, no_waits: None
) -> None:
    panel.acknowledges = False
    agent, _ = agent_of(panel, token_file, Plan(lines=wire.MAX_LINES + 7))
    async with running(agent):
        link = await panel.connected()
        await link.send(start("a", "os.command", ["echo"]))
        await panel.until(lambda: panel.of(wire.Finished, "a"))
        panel.acknowledges = True
        await link.socket.close(1012)
        await panel.until(lambda: ("a", 1) in panel.finished)
    assert len(panel.text("a")) == wire.MAX_LINES + 7
    assert panel.gaps == []


async def test_a_changed_token_makes_a_new_connection_with_it(panel: ScriptedPanel, token_file: Path) -> None:
    agent, _ = agent_of(panel, token_file, keepalive=0.05)
    async with running(agent):
        await panel.connected()
        replace(token_file)
        await panel.until(lambda: panel.tokens[-1] == "second" and panel.links)
    assert panel.tokens == ["first", "second"]


async def test_a_connection_that_expired_is_replaced_with_the_token_that_is_in_the_file_then(
    panel: ScriptedPanel, token_file: Path
) -> None:
    agent, _ = agent_of(panel, token_file)
    async with running(agent):
        link = await panel.connected()
        replace(token_file)
        await link.socket.close(wire.CLOSE_TOKEN_EXPIRED)
        await panel.until(lambda: len(panel.tokens) == 2)
    assert panel.tokens == ["first", "second"]


async def test_an_agent_that_was_superseded_stays_away_for_a_while(
    panel: ScriptedPanel, token_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent, _ = agent_of(panel, token_file)
    with caplog.at_level(logging.WARNING, agent_module.__name__):
        async with running(agent):
            link = await panel.connected()
            await link.socket.close(wire.CLOSE_SUPERSEDED, "another agent took over")
            await eventually(lambda: caplog.records)
    assert vars(caplog.records[0])["cause"] == Cause.SUPERSEDED.value
    assert vars(caplog.records[0])["retry_seconds"] >= 30
    assert len(panel.tokens) == 1


@pytest.mark.parametrize("frame", ["garbage", b"\x00\x00", '{"type": "welcome"}', "x" * (wire.MAX_FRAME_BYTES + 1)])
async def test_a_panel_that_sends_nonsense_is_left_and_told_why(
    panel: ScriptedPanel, token_file: Path, frame: str | bytes, no_waits: None
) -> None:
    agent, _ = agent_of(panel, token_file)
    async with running(agent):
        link = await panel.connected()
        await link.socket.send(frame)
        await link.socket.wait_closed()
        assert link.socket.close_code in {1008, 1009}
        await panel.until(lambda: len(panel.of(wire.Hello)) == 2)


async def test_a_panel_that_never_welcomes_is_left(
    panel: ScriptedPanel, token_file: Path, no_waits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "WELCOME_SECONDS", 0.05)
    panel.welcomes = False
    agent, _ = agent_of(panel, token_file)
    async with running(agent):
        await panel.until(lambda: len(panel.tokens) >= 2)


async def test_a_panel_that_does_not_answer_pings_is_left(
    token_file: Path, no_waits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "PONG_SECONDS", 0.1)
    seen = 0
    twice = asyncio.Event()

    async def deaf(connection: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == 2:
            twice.set()
        welcome = wire.Welcome(robot="r", namespace="n", server="p", epoch=1, settings=wire.Settings())
        await connection.send(wire.encode(welcome))
        connection.transport.pause_reading()
        await twice.wait()

    async with serve(deaf, "127.0.0.1", 0, subprotocols=[wire.PROTOCOL], close_timeout=0.1) as server:  # type: ignore[list-item]
        port = next(iter(server.sockets)).getsockname()[1]
        agent, _ = agent_of(ScriptedPanel(), token_file, url=f"http://127.0.0.1:{port}", keepalive=0.05)
        async with running(agent), asyncio.timeout(20):
            await twice.wait()


async def test_draining_hands_back_new_work_stops_what_runs_and_delivers_the_results(
    panel: ScriptedPanel, token_file: Path
) -> None:
    agent, _ = agent_of(panel, token_file)
    async with running(agent):
        link = await panel.connected()
        await link.send(start("a", "sim.sleep", 60))
        await panel.until(lambda: panel.of(wire.Started, "a"))
        assert await agent.drain(CloseMode.SAFE, 10.0)
    assert panel.finished["a", 1].outcome is Outcome.STOPPED


async def test_draining_ends_at_its_deadline_when_no_panel_takes_the_results(
    panel: ScriptedPanel, token_file: Path
) -> None:
    panel.acknowledges = False
    agent, _ = agent_of(panel, token_file)
    async with running(agent):
        link = await panel.connected()
        await link.send(start("a", "sim.sleep", 60))
        await panel.until(lambda: panel.of(wire.Started, "a"))
        assert not await agent.drain(CloseMode.SAFE, 0.5)


class _Flood(SimulatedRuns):
    """Offers output without end and counts what was taken."""

    def __init__(self) -> None:
        super().__init__(Plan(), random.Random(1))
        self.taken = 0
        self.wanted = asyncio.Event()

    def replay(self, uid: str | None = None, token: int | None = None) -> None:
        self.wanted.set()

    async def events(self) -> AsyncIterator[Any]:
        template = wire.Line.of(
            {"seq": 1, "time": "2026-01-01T00:00:00Z", "stream": "stdout", "text": "x" * LINE_CHARS}
        )
        await self.wanted.wait()
        while True:
            await asyncio.sleep(0)
            seq = self.taken + 1
            yield wire.Output(uid="u", token=1, lines=(template.model_copy(update={"seq": seq}),))
            self.taken += 1


async def test_a_panel_that_reads_slowly_slows_the_executor_down_instead_of_filling_memory(token_file: Path) -> None:
    reading = asyncio.Event()
    received = 0

    async def slow(connection: Any) -> None:
        nonlocal received
        welcome = wire.Welcome(robot="r", namespace="n", server="p", epoch=1, settings=wire.Settings())
        await connection.send(wire.encode(welcome))
        await reading.wait()
        async for frame in connection:
            message = wire.FROM_AGENT.validate_json(frame)
            if isinstance(message, wire.Output):
                assert message.lines[0].seq == received + 1
                received = message.lines[-1].seq
            await connection.ping()

    async with serve(slow, "127.0.0.1", 0, subprotocols=[wire.PROTOCOL], max_queue=1, close_timeout=0.1) as server:  # type: ignore[list-item]
        port = next(iter(server.sockets)).getsockname()[1]
        runs = _Flood()
        endpoint = Endpoint(websocket_url(f"http://127.0.0.1:{port}"), token_file)
        async with running(Agent(endpoint, runs, FACTS)), asyncio.timeout(30):
            stuck_at = await _settled(lambda: runs.taken)
            reading.set()
            await eventually(lambda: runs.taken > stuck_at and received > 0)
            assert stuck_at * LINE_CHARS < 32 * 1024 * 1024


async def _settled(value: Callable[[], int]) -> int:
    """The value once it is positive and has not changed for half a second."""
    last, since = -1, 0
    while since < 50 or last <= 0:
        await asyncio.sleep(0.01)
        last, since = (value(), 0) if value() != last else (last, since + 1)
    return last


async def test_the_panels_words_are_told_when_it_refuses_the_token(panel: ScriptedPanel, token_file: Path) -> None:
    panel.accepts = lambda token: 403
    with pytest.raises(ConnectError, match="HTTP 403: refused by the test's panel") as caught:
        await open_socket(Endpoint(websocket_url(panel.url), token_file), "first")
    assert caught.value.cause is Cause.FORBIDDEN


async def test_a_redirect_is_not_followed_so_that_the_token_goes_nowhere_else(
    panel: ScriptedPanel, token_file: Path
) -> None:
    def elsewhere(connection: Any, request: Any) -> Any:
        response = connection.respond(307, "")
        response.headers["Location"] = websocket_url(panel.url)
        return response

    async def never(connection: Any) -> None: ...

    async with serve(never, "127.0.0.1", 0, process_request=elsewhere) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with pytest.raises(ConnectError, match="HTTP 307"):
            await open_socket(Endpoint(websocket_url(f"http://127.0.0.1:{port}"), token_file), "first")
    assert panel.tokens == []


async def test_a_server_of_another_protocol_is_left(token_file: Path) -> None:
    async def other(connection: Any) -> None:
        await connection.wait_closed()

    async with serve(other, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with pytest.raises(ConnectError) as caught:
            await open_socket(Endpoint(websocket_url(f"http://127.0.0.1:{port}"), token_file), "first")
    assert caught.value.cause in {Cause.PROTOCOL, Cause.UNREACHABLE}


async def test_a_port_where_nobody_listens_is_an_unreachable_panel(token_file: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ConnectError) as caught:
            await open_socket(Endpoint(websocket_url(url), token_file), "first")
    assert caught.value.cause is Cause.UNREACHABLE


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", "/CN=panel", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


async def test_the_ca_file_decides_whether_a_panel_is_trusted(certificate: tuple[Path, Path], token_file: Path) -> None:
    cert, key = certificate
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    async with scripted_panel(tls) as panel:
        url = websocket_url(panel.url.replace("http:", "https:"))
        trusted = await open_socket(Endpoint(url, token_file, cert), "first")
        await trusted.close()
        with pytest.raises(ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await open_socket(Endpoint(url, token_file), "first")
    assert panel.tokens == ["first"]


async def test_a_missing_ca_file_is_named(tmp_path: Path, token_file: Path) -> None:
    with pytest.raises(ConnectError, match=r"ca\.pem: No such file"):
        await open_socket(Endpoint("wss://127.0.0.1:1/x", token_file, tmp_path / "ca.pem"), "first")


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"a\nb", "тайна".encode(), b"x" * 20_000])
def test_a_token_file_must_hold_one_bearer_token_and_its_content_is_not_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ConnectError) as caught:
        read_token(path)
    assert str(caught.value) == f"token file {path} does not hold one bearer token"


def test_a_missing_token_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match="token: No such file or directory"):
        read_token(tmp_path / "token")


class _SlowToStart(SimulatedRuns):
    """Takes an attempt only when told to, and does not know of a stop that comes before."""

    def __init__(self) -> None:
        super().__init__(Plan(), random.Random(1))
        self.go = asyncio.Event()

    async def start(self, job: wire.Start) -> None:
        await self.go.wait()
        await super().start(job)


@pytest.mark.parametrize(
    ("end", "outcome"),
    [(wire.Stop(uid="a", token=1), Outcome.STOPPED), (wire.Kill(uid="a", token=1), Outcome.KILLED)],
)
async def test_a_stop_that_meets_a_start_under_way_is_not_lost(
    panel: ScriptedPanel, token_file: Path, end: wire.Stop | wire.Kill, outcome: Outcome
) -> None:
    runs = _SlowToStart()
    async with running(Agent(Endpoint(websocket_url(panel.url), token_file), runs, FACTS)):
        link = await panel.connected()
        await link.send(start("a", "sim.sleep", 600))
        await link.send(end)
        await link.send(start("b", "no.such"))
        runs.go.set()
        await panel.until(lambda: ("a", 1) in panel.finished)
    assert panel.finished["a", 1].outcome is outcome
