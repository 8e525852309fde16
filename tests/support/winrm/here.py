"""A host that is a folder of this machine: the calls are processes here, as they are over WinRM there."""

import json
import os
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from kuberpa.host import HostReason
from kuberpa_agent.host.bundle import bundle
from kuberpa_agent.host.channel import Done
from kuberpa_agent.host.errors import HostError


@dataclass
class Here:
    """A channel to this machine, which can be cut and can lose answers."""

    base: Path
    cut: HostReason | None = None
    lose: int = 0
    """So many answers are lost after the call was carried out."""
    damage: int = 0
    calls: list[str] = field(default_factory=list)
    most: int = 0
    _running: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, command: str, data: bytes, seconds: float) -> Done:
        """The line's last words name the call; there is no cmd.exe."""
        if self.cut is not None:
            raise HostError(self.cut, "cut by the test")
        verb = command.rsplit(maxsplit=1)[-1]
        folder = self.base / "agent" / bundle()[0]
        if len(verb) == 64:
            zipfile.ZipFile(BytesIO(bundle()[1])).extractall(folder)
            return Done(0, b"installed\n", b"")
        if not folder.exists():
            return Done(2, b"", b"no boot.py")
        self.calls.append(verb)
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
        line = [sys.executable, "-I", "-X", "utf8", str(folder / "boot.py"), "kuberpa_agent.remote.calls", verb]
        if self.damage:
            self.damage -= 1
            data = data.replace(b"holder", b"h\\u006flder", 1)
        # what this process has of a screen is the supervisor's, which is another machine
        there = {name: value for name, value in os.environ.items() if name not in {"DISPLAY", "XAUTHORITY"}}
        done = subprocess.run(line, input=data, capture_output=True, timeout=seconds, check=False, env=there)
        with self._lock:
            self._running -= 1
        if self.lose:
            self.lose -= 1
            raise HostError(HostReason.TIMED_OUT, "the answer is lost")
        return Done(done.returncode, done.stdout, done.stderr)

    @property
    def runs(self) -> Path:
        return self.base / "robots" / "r" / "runs"


_SCHTASKS = """#!{python}
import json, os, subprocess, sys, xml.etree.ElementTree as ET
base, (verb, *given) = {base!r}, sys.argv[1:]
options = dict(zip(given, given[1:]))
with open(base + "/asked", "a") as asked:
    asked.write(json.dumps(sys.argv[1:]) + "\\n")
file = base + "/" + options["/TN"].replace("\\\\", "-") + ".xml"
if verb == "/Create":
    open(file, "wb").write(open(options["/XML"], "rb").read())
if verb == "/Delete":
    os.unlink(file)
if verb == "/Run":
    task = ET.fromstring(open(file, "rb").read().decode("utf-16").partition("?>")[2])
    word = lambda name: task.findtext(".//{{http://schemas.microsoft.com/windows/2004/02/mit/task}}" + name)
    assert word("LogonType") == "InteractiveToken" and word("ExecutionTimeLimit") == "PT0S"
    sessions = json.load(open(base + "/sessions.json"))
    if (session := sessions.get(word("UserId"))) is not None:
        import shlex
        process = subprocess.Popen(
            [word("Command"), *shlex.split(word("Arguments"))], cwd=word("WorkingDirectory"), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | session,
        )
"""


class Scheduler:
    """A Task Scheduler for hosts of this kind, found by PATH: it starts what a session's user is to start there.

    As Windows' it starts nothing, and says nothing of that, when the user has no session.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.sessions()
        program = folder / "schtasks"
        program.write_text(_SCHTASKS.format(python=sys.executable, base=str(folder)))
        program.chmod(0o755)

    def sessions(self, **environments: dict[str, str]) -> None:
        """Which users have one, and what programs in it find in their environment."""
        part = self._folder / "sessions.part"
        part.write_text(json.dumps(environments))
        part.rename(self._folder / "sessions.json")

    @property
    def path(self) -> str:
        """To be put before PATH."""
        return str(self._folder)

    @property
    def asked(self) -> list[list[str]]:
        """Command lines, as they came."""
        file = self._folder / "asked"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
