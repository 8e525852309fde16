"""Waits for somebody's debugger before a definition begins.

debugpy's own way is a port that whoever reaches it may use. Here its adapter is a process of the run
(worker.debug_adapter) that lets in who knows the secret in the run's folder, which is the agent's alone.
"""

import json
import os
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from kuberpa_agent.sdk import running

START_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.2


class NotPossibleError(Exception):
    """There can be no debugger here; the text says why."""


def wait(seconds: float, *, allowed: bool) -> None:
    """Until somebody attached, or the time is over. Raises NotPossibleError, running.StopRequestedError."""
    if not allowed:
        raise NotPossibleError("spec.debug: this robot allows no debuggers: its spec.debug.enabled is not true")
    debugpy = _debugpy()
    endpoint = _start_adapter()
    debugpy.configure(subProcess=False)  # brings its pydevd into reach
    # as debugpy.connect does, but without waiting for an editor for ever
    import_module("pydevd").settrace(
        host="127.0.0.1",
        port=endpoint["port"],
        client_access_token=endpoint["token"],
        suspend=False,
        block_until_connected=True,
        wait_for_ready_to_run=False,
        patch_multiprocessing=False,
        dont_trace_start_patterns=(str(Path(debugpy.__file__).parent),),
    )
    running.log.info("waits up to %g s for a debugger", seconds)
    running.progress(message="waits for a debugger")
    over = threading.Event()
    watch = threading.Thread(target=_give_up, args=(debugpy, seconds, over), daemon=True)
    watch.start()
    debugpy.wait_for_client()
    over.set()
    if running.should_stop():
        raise running.StopRequestedError
    if debugpy.is_client_connected():
        running.log.info("a debugger is attached")
    else:
        running.log.warning("no debugger came within %g s: it goes on without", seconds)
    running.progress(message="")


def _debugpy() -> Any:
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a warning for people who start Python themselves
    try:
        import debugpy  # noqa: PLC0415, T100  an optional package of the robot's, and the point of it
    except ImportError:
        message = "spec.debug: debugpy is not among the robot's packages: add it to spec.packages"
        raise NotPossibleError(message) from None
    return debugpy


def _start_adapter() -> dict[str, Any]:
    directory = Path(os.environ[running.STOP_FILE_VARIABLE]).parent
    command = [sys.executable, "-I", "-X", "utf8", "-m", "kuberpa_agent.worker.debug_adapter", str(directory)]
    # it ends with the run, as everything that the run started
    adapter = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)  # noqa: S603  own code
    assert adapter.stdout is not None  # noqa: S101  it was asked for
    timer = threading.Timer(START_SECONDS, adapter.kill)
    timer.start()
    line = adapter.stdout.readline()
    timer.cancel()
    if not line:
        raise NotPossibleError("spec.debug: debugpy's adapter did not start")
    return dict(json.loads(line))


def _give_up(debugpy: Any, seconds: float, over: threading.Event) -> None:
    """End the wait when its time is over, or the run is to stop."""
    left = seconds
    while left > 0 and not running.should_stop():
        if over.wait(min(left, LOOK_SECONDS)):
            return
        left -= LOOK_SECONDS
    while not over.is_set():
        try:
            debugpy.wait_for_client.cancel()
        except RuntimeError:  # it has not begun to wait
            over.wait(LOOK_SECONDS)
        else:
            return
