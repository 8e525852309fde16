"""Where an agent that was installed by hand keeps what is its own: one folder, closed to other users.

| File            | Content                                                        |
|-----------------|----------------------------------------------------------------|
| `agent.json`    | the panel, and who this agent is there                         |
| `agent.key`     | its private key, which leaves this machine never               |
| `state/`        | spool, journal, virtual environments: KUBERPA_STATE_DIR        |
| `logs/`         | `agent.log` and its predecessors                               |
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from kuberpa.model import Model
from kuberpa_agent.errors import AgentError

HOME_VARIABLE: Final = "KUBERPA_AGENT_HOME"


class HomeError(AgentError):
    """The folder does not hold what it should; the message says what to do."""


class Membership(Model):
    """Who this agent is, and where."""

    panel: str = Field(min_length=1)
    """Base URL."""
    enrolment: str
    namespace: str
    robot: str
    ca_file: str = ""


@dataclass(frozen=True)
class Home:
    """The folder of one agent."""

    folder: Path

    @property
    def key_file(self) -> Path:
        """The private key."""
        return self.folder / "agent.key"

    @property
    def state(self) -> Path:
        """KUBERPA_STATE_DIR."""
        return self.folder / "state"

    @property
    def log_file(self) -> Path:
        """The present log."""
        return self.folder / "logs" / "agent.log"

    def prepare(self) -> None:
        """Make the folders; only their owner and administrators may enter."""
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            close_to_others(self.folder)
        for folder in (self.state, self.log_file.parent):
            folder.mkdir(parents=True, exist_ok=True)

    def membership(self) -> Membership:
        """Raises HomeError."""
        try:
            return Membership.of(json.loads((self.folder / "agent.json").read_bytes()))
        except FileNotFoundError:
            raise HomeError(
                f"{self.folder} has no enrolment: run the command that `kuberpa enroll ROBOT` prints"
            ) from None
        except (ValueError, ValidationError) as error:
            raise HomeError(f"{self.folder / 'agent.json'} is damaged ({type(error).__name__}): enrol again") from None

    def keep(self, membership: Membership, key: bytes) -> None:
        """Write both files; a crash in between leaves the former ones, or an enrolment that must be made again."""
        self.prepare()
        write_private(self.key_file, key)
        write_private(self.folder / "agent.json", json.dumps(membership.to_json(), indent=2).encode())


def granted_to(folder: Path) -> str | None:
    """The user in whose session a service starts the agent, if there is one."""
    try:
        user = json.loads((folder / "service.json").read_bytes())["user"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return user if isinstance(user, str) else None


def home(folder: str | None = None) -> Home:
    """The folder that is named, or the environment's, or this system's usual one."""
    if named := folder or os.environ.get(HOME_VARIABLE):
        return Home(Path(named).absolute())
    if sys.platform == "win32":
        return Home(Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData"), "kuberpa", "agent"))
    if os.geteuid() == 0:
        return Home(Path("/var/lib/kuberpa-agent"))
    state = os.environ.get("XDG_STATE_HOME", "")
    return Home(Path(state if state.startswith("/") else Path.home() / ".local" / "state", "kuberpa-agent"))


def write_private(path: Path, data: bytes) -> None:
    """Replace a file that only its owner (and administrators) may read; it never exists otherwise, not for a moment."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        close_to_others(temporary)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def close_to_others(path: Path) -> None:
    """Take access from everybody but the owner and the system's administrators."""
    if sys.platform == "win32":
        from kuberpa_agent import windows_access  # noqa: PLC0415  Windows alone has it

        windows_access.close_to_others(path)
    else:
        path.chmod(0o700 if path.is_dir() else 0o600)


def is_closed_to_others(path: Path) -> bool:
    """Whether nobody else may read it."""
    if sys.platform == "win32":
        from kuberpa_agent import windows_access  # noqa: PLC0415  Windows alone has it

        return windows_access.is_closed_to_others(path, granted_to(path.parent))
    else:  # noqa: RET505  type checkers follow the branches of one statement
        return path.stat().st_mode & 0o077 == 0
