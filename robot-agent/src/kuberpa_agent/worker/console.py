"""Supervises a Python console: one process beside it, which records nothing and leaves nothing.

It passes the agent's lines (see visits.consoles) on to the console (worker.console_payload), and what that writes back
as JSON, one object a line. It ends with its input, which ends with the agent, and kills everything that was started in
it.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from kuberpa_agent.platform import Tree, selected
from kuberpa_agent.platform.base import Command
from kuberpa_agent.sdk.credentials import SECRETS_DIR_VARIABLE
from kuberpa_agent.sdk.running import RUN_VARIABLE
from kuberpa_agent.worker.masking import Masking
from kuberpa_agent.worker.output import LineSplitter

OUTPUT_CHARS: Final = 256 * 1024
"""Let through of what one piece of source writes."""
LEFT_OUT: Final = f"More than {OUTPUT_CHARS // 1024} KiB: the rest of what this wrote is left out."
CONTROL_BYTES: Final = 64 * 1024
LOOK_SECONDS: Final = 0.2
FLUSH_SECONDS: Final = 0.1
KILL_SECONDS: Final = 5.0
ROUNDS: Final = 64
"""How often pipes are looked at for what was written before something was done."""


class Supervisor:
    """One console."""

    def __init__(self) -> None:
        folder = os.environ.get(SECRETS_DIR_VARIABLE)
        self._masking = Masking(Path(folder) if folder else None)
        self._splitters = {name: LineSplitter("utf-8") for name in ("stdout", "stderr")}
        self._left = OUTPUT_CHARS
        self._control = bytearray()
        self._over = threading.Event()

    def run(self) -> None:
        """From start to end."""
        platform = selected()
        platform.become_shim()
        marker = os.environ[RUN_VARIABLE]
        platform.mark(marker)
        read_end, write_end = os.pipe()
        argv = [sys.executable, "-I", "-u", "-X", "utf8", "-m", "kuberpa_agent.worker.console_payload"]
        waiting = Command(argv=argv, cwd=str(Path.cwd()), env=dict(os.environ), stdin=read_end)
        tree = platform.spawn(waiting, control=True, group=platform.make_group(f"kuberpa-{marker}"))
        os.close(read_end)
        threading.Thread(target=self._listen, args=(write_end,), daemon=True).start()
        try:
            while tree.exit_status() is None and not self._over.is_set():
                self._turn(tree, LOOK_SECONDS)
            self._drain(tree)
        finally:
            tree.kill(frozenset(), KILL_SECONDS)
            tree.kill_strays(marker, KILL_SECONDS)
        self._say({"exit": tree.exit_status()})

    def _listen(self, console: int) -> None:
        try:
            for line in sys.stdin.buffer:
                os.write(console, line)
        except OSError:
            pass
        finally:
            self._over.set()
            if sys.platform != "win32":
                os.kill(os.getpid(), signal.SIGUSR1)  # as a shim is woken

    def _turn(self, tree: Tree, timeout: float) -> bool:
        """Take what was written; whether there was anything."""
        taken = False
        for event in tree.wait(timeout):
            if event.source == "signal":
                continue
            taken = taken or bool(event.data)
            if event.source == "control":
                self._control += event.data
            else:
                splitter = self._splitters[event.source]
                for text, continues in splitter.feed(event.data, time.monotonic()):
                    self._line(event.source, text, continues=continues)
        now = time.monotonic()
        for name, splitter in self._splitters.items():
            if now >= splitter.begun + FLUSH_SECONDS:
                self._flush(name)
        self._obey(tree)
        return taken

    def _obey(self, tree: Tree) -> None:
        """What the console says of itself. It is user code's process: nothing it says is trusted."""
        while (end := self._control.find(b"\n")) >= 0:
            line = bytes(self._control[:end])
            del self._control[: end + 1]
            try:
                message = json.loads(line)
                known = {
                    key: message[key] for key in ("ready", "definitions", "done", "more", "seconds") if key in message
                }
            except (ValueError, TypeError):
                continue
            if "done" in known:
                self._drain(tree)
                self._left = OUTPUT_CHARS
            if known:
                self._say(known)
        if len(self._control) > CONTROL_BYTES:
            self._control.clear()

    def _drain(self, tree: Tree) -> None:
        """What was written before comes before."""
        for _ in range(ROUNDS):
            events = [event for event in tree.wait(0) if event.source != "signal"]
            for event in events:
                if event.source == "control":
                    self._control += event.data
                    continue
                for text, continues in self._splitters[event.source].feed(event.data, time.monotonic()):
                    self._line(event.source, text, continues=continues)
            if not any(event.data for event in events):
                break
        for name in self._splitters:
            self._flush(name)

    def _flush(self, name: str) -> None:
        for text, continues in self._splitters[name].flush(time.monotonic()):
            self._line(name, text, continues=continues)

    def _line(self, stream: str, text: str, *, continues: bool) -> None:
        if self._left <= 0:
            return
        self._left -= len(text) + 1
        self._say({"text": self._masking.text(text), "stream": stream, "continues": continues})
        if self._left <= 0:
            self._say({"text": LEFT_OUT, "stream": "agent", "continues": False})

    def _say(self, message: dict[str, Any]) -> None:
        try:
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            self._over.set()


if __name__ == "__main__":
    Supervisor().run()
