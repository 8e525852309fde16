"""A Python console in a process of its own, with the robot's packages and their definitions at hand.

Its supervisor (worker.console) sends pieces of source, one JSON object a line, on its stdin; user code finds an empty
stdin instead. A thread reads them, so that an interrupt arrives while something runs.
"""

import __future__

import ast
import asyncio
import codeop
import inspect
import json
import linecache
import os
import platform
import queue
import signal
import sys
import threading
import time
import traceback
from types import CodeType
from typing import Any, Final

from kuberpa_agent import sdk
from kuberpa_agent.platform import selected
from kuberpa_agent.sdk.channel import Channel
from kuberpa_agent.sdk.registry import REGISTRY
from kuberpa_agent.worker import discovery
from kuberpa_agent.worker.payload import text_stream

AWAIT: Final = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


class Console:
    """Runs pieces of source, one after another, in one namespace."""

    def __init__(self, channel: Channel, commands: int) -> None:
        self._channel, self._commands = channel, commands
        self._sources: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._busy = False
        self._number = 0
        self._flags = AWAIT
        self._loop = asyncio.new_event_loop()
        self._names: dict[str, Any] = {"__name__": "__console__", "sdk": sdk, "definitions": REGISTRY}

    def serve(self) -> None:
        """Until the supervisor ends it."""
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            try:
                source = self._sources.get()
                self._busy = True
                begun = time.perf_counter()
                more = self._run(source)
                self._busy = False
                for stream in (sys.stdout, sys.stderr):
                    stream.flush()
                self._channel.send({"done": True, "more": more, "seconds": time.perf_counter() - begun})
            except KeyboardInterrupt:  # one that came too late for what it meant
                continue
            finally:
                self._busy = False

    def _listen(self) -> None:
        with os.fdopen(self._commands, encoding="utf-8") as lines:
            for line in lines:
                command = json.loads(line)
                if "run" in command:
                    self._sources.put(command["run"])
                elif self._busy:
                    _interrupt()

    def _run(self, source: str) -> bool:
        """Run a piece; whether it is only the beginning of one."""
        try:
            name = self._remember(source)
            codes = self._parts(source, name)
            if codes is None:
                return True
            for code in codes:
                value = eval(code, self._names)  # noqa: S307  the point of it
                if inspect.iscoroutine(value):
                    self._loop.run_until_complete(value)
        except SystemExit as end:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
        except BaseException as error:  # noqa: BLE001  whatever people's code raises is shown to them
            self._show(error)
        return False

    def _parts(self, source: str, name: str) -> list[CodeType] | None:
        """The piece as code, its last expression such that its value is shown; None: it goes on."""
        try:
            tree: ast.Module = compile(source, name, "exec", self._flags | ast.PyCF_ONLY_AST)
        except SyntaxError:
            if codeop.compile_command(source, name, "exec") is None:
                return None
            raise
        last = tree.body[-1:] if tree.body and isinstance(tree.body[-1], ast.Expr) else []
        first = ast.Module(tree.body[: len(tree.body) - len(last)], [])
        codes = [compile(first, name, "exec", self._flags)]
        for feature in __future__.all_feature_names:
            self._flags |= codes[0].co_flags & getattr(__future__, feature).compiler_flag
        return codes + [compile(ast.Interactive([each]), name, "single", self._flags) for each in last]

    def _remember(self, source: str) -> str:
        """So that a traceback shows the lines."""
        self._number += 1
        name = f"<console {self._number}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        return name

    @staticmethod
    def _show(error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt):
            print("KeyboardInterrupt", file=sys.stderr)  # noqa: T201  what Python's own console says
            return
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename in {__file__, codeop.__file__}:
            trace = trace.tb_next
        traceback.print_exception(type(error), error, trace)


def _interrupt() -> None:
    """Ctrl-C for the main thread, whatever it waits for."""
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:
        main_thread = threading.main_thread().ident
        if main_thread is not None:
            signal.pthread_kill(main_thread, signal.SIGINT)


def main() -> None:
    """Take the streams, import the robot's definitions, serve."""
    channel = Channel(selected().open_control())
    commands = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  open for the process's life
    sys.stdout, sys.stderr = text_stream(1), text_stream(2)
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr  # type: ignore[misc]
    for failed in discovery.load(builtin=False):
        print(failed, file=sys.stderr)  # noqa: T201  for whoever opened the console
    channel.send({"ready": platform.python_version(), "definitions": len(REGISTRY)})
    Console(channel, commands).serve()


if __name__ == "__main__":
    main()
