"""Where the processes of runs ask for work items: a local socket, see kuberpa_agent.sdk.link for what is said on it.

A process proves that it belongs to a run by the secret in the run's directory, and for as long as that run lasts. When
it is gone, so is its work: the items it held are given back when somebody ended the activity, and fail otherwise, so
that an item which kills its robot does not go round for ever.
"""

import asyncio
import contextlib
import hmac
import json
import logging
import os
import secrets
import socket
import sys
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from kuberpa import wire
from kuberpa.lifecycle import Outcome
from kuberpa.queueing import QueueProblem
from kuberpa.reasons import Reason
from kuberpa_agent.relay import LeaseKey, QueueRelay
from kuberpa_agent.runs import run_name
from kuberpa_agent.sdk.link import PORT_NAME, SOCKET_NAME, proof
from kuberpa_agent.worker import rundir

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS: Final = 5.0
LINE_BYTES: Final = 4 * 1024 * 1024
"""Longest request: a payload of 1 MiB, and what JSON makes of it."""
BACKLOG_BYTES: Final = 16 * 1024 * 1024
"""Answers that a process does not read, after which it is cut off."""
PROCESSES: Final = 256
ENDING_SECONDS: Final = 3.0
"""How long the end of a run may come after the end of its process."""
LOOK_SECONDS: Final = 0.02
ENDINGS_KEPT: Final = 256
Ending = tuple[str, str]
"""Outcome and reason of a run."""


class Runs(Protocol):
    """What the desk asks of the executor."""

    def running(self, name: str) -> Mapping[str, Any] | None:
        """The job of a run that has not ended."""

    def ending(self, name: str) -> Ending | None:
        """How a run ended that is still remembered."""


class Desk:
    """Serves the processes of one robot's runs."""

    def __init__(self, state_dir: Path, runs: Runs, relay: QueueRelay) -> None:
        self._state_dir = state_dir.absolute()
        self._runs, self._relay = runs, relay
        self._server: asyncio.Server | None = None
        self._endings: OrderedDict[str, Ending] = OrderedDict()
        """Of runs that the executor may have forgotten by now."""
        self._processes: dict[asyncio.Task[None], Process | None] = {}

    async def open(self) -> None:
        """Listen."""
        if sys.platform == "win32":
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=LINE_BYTES)
            port = self._server.sockets[0].getsockname()[1]
            rundir.write_json(self._state_dir / PORT_NAME, {"port": port})
            return
        listener = _listen(self._state_dir)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=LINE_BYTES)

    async def close(self) -> None:
        """Listen no more, and leave what runs to the next agent."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._processes)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def note(self, finished: wire.Finished) -> None:
        """A run has ended: what is left of it, which can only be what it was allowed to leave, asks no more."""
        run = run_name(finished.uid, finished.token)
        self._endings[run] = (finished.outcome, finished.reason)
        while len(self._endings) > ENDINGS_KEPT:
            self._endings.popitem(last=False)
        for process in self._processes.values():
            if process is not None and process.run == run:
                process.cut()

    # ---- one process

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._processes) >= PROCESSES:
            writer.close()
            return
        self._processes[task] = None
        process: Process | None = None
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                process, leases = await self._welcome(reader, writer)
            self._processes[task] = process
            for queue, item, token, seconds in leases:
                self._relay.adopt(process, (str(queue), str(item), int(token)), float(seconds))
            while line := await reader.readline():
                self._take(process, line)
        except (ValueError, KeyError, TypeError, RecursionError, TimeoutError, OSError) as error:
            log.info("a process of a run is cut off: %s", str(error) or type(error).__name__)
        finally:
            writer.close()
            if process is not None and not self._closing:
                await self._part(process)
            del self._processes[task]

    @property
    def _closing(self) -> bool:
        return self._server is None or not self._server.is_serving()

    async def _welcome(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple["Process", list[list[Any]]]:
        """Both sides prove who they are. Raises ValueError when the other side cannot."""
        hello = json.loads(await reader.readline())
        run, theirs, mine = str(hello["run"]), str(hello["nonce"]), secrets.token_hex(16)
        job = self._runs.running(run)
        if job is None or "channel" not in job:
            raise ValueError("it names no run that goes on")
        secret = bytes.fromhex(job["channel"]["secret"])
        writer.write(_line({"nonce": mine, "proof": proof(secret, "agent", theirs, mine)}))
        answer = json.loads(await reader.readline())
        if not hmac.compare_digest(str(answer["proof"]), proof(secret, "run", theirs, mine)):
            raise ValueError(f"it does not belong to {run}")
        return Process(run, job["start"]["name"], writer), list(answer["leases"])[: wire.MAX_CALLS]

    def _take(self, process: "Process", line: bytes) -> None:
        message = json.loads(line)
        if "cancel" in message:
            self._relay.cancel(process, str(message["cancel"]))
            return
        key = str(message["id"])
        if not (len(key) == 32 and key.isalnum() and key.isascii()):  # noqa: PLR2004  a UUID in hex
            raise ValueError("a call's id must be a UUID in hex")
        self._relay.ask(process, key, dict(message["request"]))

    async def _part(self, process: "Process") -> None:
        """The process is gone: end what it held, by how its run ended."""
        held = self._relay.left(process)
        if not held:
            return
        op, body = verdict(await self._ending(process.run))
        for lease in held:
            self._relay.settle(lease, op, body, process.activity)

    async def _ending(self, run: str) -> Ending | None:
        """How the run ended; None when it goes on without this process."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING_SECONDS):
                while (ending := self._runs.ending(run) or self._endings.get(run)) is None:  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_SECONDS)
                return ending
        return None


class Process:
    """A process of a run, as the relay knows it."""

    def __init__(self, run: str, activity: str, writer: asyncio.StreamWriter) -> None:
        self.run, self.activity = run, activity
        self._writer = writer

    def answer(self, key: str, result: Any, problem: QueueProblem | None) -> None:
        """The answer to a call."""
        error = None if problem is None else {"code": problem.code, "message": sentence(problem)}
        self._send({"id": key, "error": error} if error else {"id": key, "result": result})

    def tell(self, lease: LeaseKey, news: dict[str, str]) -> None:
        """Something about a lease."""
        self._send({"lease": list(lease), **news})

    def cut(self) -> None:
        """End the connection."""
        self._writer.transport.abort()

    def _send(self, message: dict[str, Any]) -> None:
        if self._writer.is_closing():
            return
        self._writer.write(_line(message))
        if self._writer.transport.get_write_buffer_size() > BACKLOG_BYTES:
            self._writer.transport.abort()


def verdict(ending: Ending | None) -> tuple[wire.QueueOp, dict[str, Any]]:
    """What becomes of an item whose process ended without a word about it."""
    if ending is None:
        why = "the process that worked on it ended"
    elif ending[0] in {Outcome.STOPPED, Outcome.KILLED} and ending[1] != Reason.TIMEOUT_EXCEEDED:
        return wire.QueueOp.RELEASE, {"reason": f"the activity was ended: {ending[1]}"}
    else:
        why = f"the activity ended while it worked on it: {ending[1]}"
    return wire.QueueOp.FAIL, {"errorClass": "Application", "type": "ActivityEnded", "message": why}


def sentence(problem: QueueProblem) -> str:
    """A refusal as one text, with the fields that it is about."""
    details = "; ".join(f"{each.field}: {each.message}" for each in problem.errors)
    return f"{problem.message}: {details}" if details and details not in problem.message else problem.message


def _listen(folder: Path) -> socket.socket:
    path = folder / SOCKET_NAME
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    handle = os.open(folder, os.O_RDONLY)
    try:
        # A socket's address has at most 107 bytes, which a path may exceed.
        listener.bind(f"/proc/self/fd/{handle}/{SOCKET_NAME}")
        path.chmod(0o600)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(handle)
    return listener


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
