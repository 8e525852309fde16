"""The supervisor's calls of `remote.calls`: installs the bundle when it is missing, checks what comes back."""

import hashlib
import json
import logging
import secrets
import threading
from pathlib import Path
from typing import Any, Final

from kuberpa.host import HostReason, Supervised
from kuberpa_agent.host.bundle import INSTALLER, bundle
from kuberpa_agent.host.channel import Channel, Done
from kuberpa_agent.host.errors import HostError
from kuberpa_agent.host.guard import Guard, wall_clock
from kuberpa_agent.worker import rundir

log = logging.getLogger(__name__)

_CALL_SECONDS: Final = 60.0
_INSTALL_SECONDS: Final = 180.0
_MAX_REPLY_BYTES: Final = 8 * 1024 * 1024


class RefusedCallError(Exception):
    """The host's side did not carry the call out; nothing was done. `why` is one of its words."""

    def __init__(self, why: str, message: str) -> None:
        super().__init__(message)
        self.why = why


class Calls:
    """Blocking calls about one robot, at most `connections` at a time."""

    def __init__(self, channel: Channel, supervised: Supervised, guard: Guard, holder: str) -> None:
        self._channel = channel
        self._robot = supervised.robot
        self._python = supervised.host.python
        self._guard = guard
        self._holder = holder
        self._room = threading.BoundedSemaphore(supervised.connections)
        self._installing = threading.Lock()

    @property
    def installed(self) -> str:
        """Name of the bundle, which says which code it is."""
        return bundle()[0]

    def hello(self, known: list[str]) -> dict[str, Any]:
        """Take the robot over. Raises HostError, RefusedCallError."""
        return self._call("hello", {"known": known})

    def sync(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Say what is wanted, hear what is new. Raises HostError, RefusedCallError."""
        return self._call("sync", wanted)

    def leave(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Remove the robot from the host; refused while anything of it runs. Raises HostError, RefusedCallError."""
        return self._call("leave", asked)

    def _call(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        text = json.dumps({"robot": self._robot, "holder": self._holder, **body})
        nonce = secrets.token_hex(8)
        digest = hashlib.sha256(text.encode()).hexdigest()
        data = json.dumps({"nonce": nonce, "sha256": digest, "body": text}).encode("ascii")
        done = self._run(self._line(verb), data, _CALL_SECONDS)
        if _is_missing(done):
            self._install()
            done = self._run(self._line(verb), data, _CALL_SECONDS)
        return _answer(done, nonce)

    def _run(self, line: str, data: bytes, seconds: float) -> Done:
        with self._room:
            self._guard.check(wall_clock())
            try:
                done = self._channel.run(line, data, seconds)
            except HostError as error:
                if error.reason is HostReason.CREDENTIALS_REFUSED:
                    self._guard.refused(wall_clock())
                raise
        self._guard.accepted()
        return done

    def _line(self, verb: str) -> str:
        boot = rf"%ProgramData%\kuberpa\agent\{self.installed}\boot.py"
        return f'{self._interpreter()} -X utf8 "{boot}" kuberpa_agent.remote.calls {verb}'

    def _interpreter(self) -> str:
        """`call` first: cmd.exe takes the outer quotes off a line that begins with one."""
        return f'call "{self._python}" -I'

    def _install(self) -> None:
        """Bring the bundle there, once; it appears under its name only when it is whole."""
        name, data = bundle()
        code = f"exec(bytes.fromhex('{INSTALLER.encode().hex()}'))"
        digest = hashlib.sha256(data).hexdigest()
        with self._installing:
            done = self._run(f'{self._interpreter()} -c "{code}" {name} {digest}', data, _INSTALL_SECONDS)
        if b"installed" not in done.stdout:
            raise _python_error(done, self._python)
        log.info("installed the agent's code on the host", extra={"bundle": name, "bytes": len(data)})


def _is_missing(done: Done) -> bool:
    """Python found no boot.py; or there is no Python, which the installation will say."""
    return done.code != 0 and not done.stdout.strip()


def _python_error(done: Done, python: str) -> HostError:
    said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-400:]
    if "No space left" in said or "not enough space" in said:
        return HostError(HostReason.DISK_FULL, f"the agent's code could not be written on the host: {said}")
    return HostError(
        HostReason.PYTHON_MISSING,
        f"spec.python: {python!r} does not run Python 3.11 or newer on the host (exit code {done.code}): {said}",
    )


def _answer(done: Done, nonce: str) -> dict[str, Any]:
    """The document, if it is the answer to this call. An empty answer with exit code 0 is none."""
    try:
        said = json.loads(done.stdout[-_MAX_REPLY_BYTES:])
        mine = said["nonce"] == nonce
    except (ValueError, TypeError, KeyError):
        words = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-400:] or "nothing"
        raise HostError(
            HostReason.PROTOCOL_ERROR, f"the call ended with exit code {done.code} and said: {words}"
        ) from None
    if not mine:
        raise HostError(HostReason.PROTOCOL_ERROR, "the host answered another call than this one")
    if "refused" in said:
        raise RefusedCallError(said["refused"], said["message"])
    return dict(said)


def make_holder(state_dir: Path) -> str:
    """A name of this supervisor that its restarts keep: whoever holds its volume holds its runs."""
    path = state_dir / "holder.json"
    if (kept := rundir.read_json(path)) is None:
        kept = {"holder": secrets.token_hex(16)}
        rundir.write_json(path, kept, durable=True)
    return str(kept["holder"])
