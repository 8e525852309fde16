"""Fork server: a process that has imported everything and forks a shim, and the shim a payload, for each run.

It speaks JSON lines with the agent on an inherited socket and ends when the agent does; shims do not.

    zygote ──▶ ready {definitions, errors, cold}        agent ──▶ start {dir}
           ──▶ forked {dir, pid}

Packages that start threads when imported, or replace the standard library's primitives (gevent), cannot be
forked safely: then the process starts over cold, where each payload does the imports itself.
"""

import contextlib
import gc
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Final, NoReturn

from kuberpa_agent.platform import selected
from kuberpa_agent.sdk import running
from kuberpa_agent.worker import command, discovery, payload, rundir
from kuberpa_agent.worker.shim import Shim, Starting

assert sys.platform != "win32"  # noqa: S101  tells type checkers, and anyone who imports it there

_READ_BYTES: Final = 65536
_PATCHERS: Final = ("gevent.monkey", "eventlet.patcher")


class Zygote:
    """The fork server's loop."""

    def __init__(self, fd: int, *, builtin: bool, cold: bool) -> None:
        self._fd = fd
        self._builtin = builtin
        self._cold = cold

    def serve(self) -> None:
        """Report what there is, then fork until the agent closes its end."""
        found = self._discover()
        # Whatever is loaded and looked up here costs no run anything; frozen objects keep their pages shared.
        selected().warm_up()
        gc.collect()
        gc.freeze()
        self._send({"op": "ready", "cold": self._cold, **found})
        buffer = b""
        signal.signal(signal.SIGCHLD, self._reap)
        while data := os.read(self._fd, _READ_BYTES):
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                directory = json.loads(line)["dir"]
                self._send({"op": "forked", "dir": directory, "pid": self._fork(Path(directory))})

    def _discover(self) -> dict[str, Any]:
        if self._cold:
            return self._discover_in_a_fork()
        errors = discovery.load(builtin=self._builtin)
        if threading.active_count() > 1 or any(name in sys.modules for name in _PATCHERS):
            os.set_inheritable(self._fd, True)
            os.execv(sys.executable, [*_command_line(), *sys.argv[1:], "--cold"])  # noqa: S606  itself
        return {"definitions": discovery.describe(builtin=self._builtin), "errors": errors}

    def _discover_in_a_fork(self) -> dict[str, Any]:
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            found: dict[str, Any] = {"errors": discovery.load(builtin=self._builtin)}
            found["definitions"] = discovery.describe(builtin=self._builtin)
            with os.fdopen(write_end, "w") as file:
                json.dump(found, file)
            os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end) as file:
            text = file.read()
        os.waitpid(pid, 0)
        if not text:
            return {"definitions": [], "errors": ["the import of the packages crashed"]}
        return dict(json.loads(text))

    def _fork(self, directory: Path) -> int:
        pid = os.fork()
        if pid == 0:
            os.close(self._fd)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._shim(directory)
        return pid

    def _shim(self, directory: Path) -> NoReturn:
        try:
            job = rundir.read_json(directory / rundir.JOB)
            platform = selected()
            os.environ.update(job["env"])
            os.environ[running.STOP_FILE_VARIABLE] = str(directory / rundir.STOP)
            platform.become_shim()
            platform.mark(job["run"])
            load = self._load if self._cold else list
            Shim(directory, job, platform).run(lambda: starting(job, directory, load))
        except BaseException:  # noqa: BLE001  the edge of the process: nothing may unwind into the server's loop
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)

    def _load(self) -> list[str]:
        return discovery.load(builtin=self._builtin)

    def _send(self, message: dict[str, Any]) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[os.write(self._fd, data) :]

    @staticmethod
    def _reap(*_: object) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass


def starting(job: dict[str, Any], directory: Path, load: Any) -> Starting:
    """How a job is started by a process that can fork."""
    platform = selected()
    if job["kind"] == "command":
        plan = command.plan(job["start"]["def"], job, directory, platform.default_encoding())
        return Starting(
            lambda group: platform.spawn(plan.command, control=False, group=group),
            plan.encoding,
            is_command=True,
            check=plan.check,
        )
    return Starting(
        lambda group: platform.fork(lambda channel: payload.run(job, channel, load), group),
        "utf-8",
        is_command=False,
    )


def _command_line() -> list[str]:
    return [sys.executable, "-I", "-u", "-X", "utf8", "-m", "kuberpa_agent.worker.zygote"]


def main() -> None:
    """`zygote --fd N [--builtin] [--cold]`."""
    arguments = sys.argv[1:]
    fd = int(arguments[arguments.index("--fd") + 1])
    os.set_inheritable(fd, False)
    with contextlib.suppress(BrokenPipeError, ConnectionError):
        Zygote(fd, builtin="--builtin" in arguments, cold="--cold" in arguments).serve()


if __name__ == "__main__":
    main()
