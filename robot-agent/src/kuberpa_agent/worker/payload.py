"""Runs a definition in the process made for it and reports to the shim over the control channel."""

import asyncio
import inspect
import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from kuberpa_agent.sdk import queues, running, storage
from kuberpa_agent.sdk.channel import Channel
from kuberpa_agent.sdk.registry import REGISTRY
from kuberpa_agent.worker import debugging, rundir, signature, values

MAX_MESSAGE_CHARS: Final = 4000
MAX_TRACEBACK_CHARS: Final = 16000


def run(job: Mapping[str, Any], channel_fd: int, load: Callable[[], list[str]]) -> NoReturn:
    """Run the job's definition and leave the process. `load` imports the definitions, if that is still to do."""
    channel = Channel(channel_fd)
    _prepare(job, channel)
    report = _attempt(job, load)
    channel.send(report)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    # Threads and processes that are left end with the run: waiting for them could take forever.
    os._exit(report.get("code", 0) if report["kind"] == "exit" else 0)


def _prepare(job: Mapping[str, Any], channel: Channel) -> None:
    os.chdir(job["filesDir"])
    running.begin(channel.send)
    signal.signal(signal.SIGTERM, lambda *_: running.request_stop())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform == "win32":
        signal.signal(signal.SIGBREAK, lambda *_: running.request_stop())
    else:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  open for the process's life
    sys.stdout, sys.stderr = text_stream(1), text_stream(2)
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr  # type: ignore[misc]
    root = logging.getLogger()
    # Console handlers that a package configured at import would say everything twice.
    root.handlers = [h for h in root.handlers if type(h) is not logging.StreamHandler]
    root.addHandler(running.ChannelHandler())
    if root.level in (logging.NOTSET, logging.WARNING):
        root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    threading.excepthook = _thread_failed


class _Unbuffered(io.RawIOBase):
    """A descriptor whose write is never short: a signal may interrupt write(2) half-way."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        size = len(view)
        while view:
            view = view[os.write(self._fd, view) :]
        return size


def text_stream(fd: int) -> io.TextIOWrapper:
    """A descriptor as sys.stdout is wanted: what is written is out at once."""
    raw: Any = _Unbuffered(fd)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", newline="\n", write_through=True)


def _attempt(job: Mapping[str, Any], load: Callable[[], list[str]]) -> dict[str, Any]:
    """Everything that can go wrong with robot code, as the message that says so."""
    start = job["start"]
    try:
        load()
        function = REGISTRY.get(start["def"])
        if function is None:
            return _error("UnknownDefinition", "UnknownDefinition", f"the robot has no definition {start['def']!r}")
        args, kwargs = _arguments(job, function)
        if wish := start.get("debug"):
            debugging.wait(float(wish["waitSeconds"]), allowed=bool(job.get("debuggable")))
        value = function(*args, **kwargs)
        if inspect.iscoroutine(value):
            value = asyncio.run(value)
        queues.finish(None)
    except (signature.ArgumentError, debugging.NotPossibleError) as error:
        reason = "InvalidArguments" if isinstance(error, signature.ArgumentError) else "NotSupported"
        return _error(reason, reason, str(error))
    except running.StopRequestedError:
        return {"kind": "yielding"}
    except SystemExit as error:
        _settle_items(error)
        return _system_exit(error)
    except BaseException as error:  # noqa: BLE001  whatever robot code raises is its result
        _settle_items(error)
        return _exception(error)
    return _result(value, job["resultLimitBytes"])


def _settle_items(error: BaseException) -> None:
    """Items that the activity still held when it raised fail with it; trouble about them must not hide the error."""
    try:
        queues.finish(error)
    except Exception:  # noqa: BLE001  the edge: see above
        running.log.exception("an item could not be settled")


def _arguments(job: Mapping[str, Any], function: Callable[..., Any]) -> tuple[list[Any], dict[str, Any]]:
    given = job["start"].get("input") or {}
    injected: dict[str, Any] = {p.name: running.log for p in signature.parameters_of(function) if p.logger}
    wanted = job["start"].get("inject") or {}
    if (name := wanted.get("logger")) is not None:
        injected[name] = running.log
    if (name := wanted.get("gsettings")) is not None:
        injected[name] = storage.gsettings()
    return signature.call_arguments(function, given.get("args") or [], given.get("kwargs") or {}, injected)


def _result(value: Any, limit: int) -> dict[str, Any]:
    try:
        text = values.result_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        return _error("ResultNotSerializable", type(error).__name__, f"the result is not JSON: {error}")
    size = len(text.encode())
    if size > limit:
        message = f"the result is {size} bytes of JSON; at most {limit} are kept: write it to a file instead"
        return _error("ResultTooLarge", "ResultTooLarge", message)
    return {"kind": "result", "json": text}


def _system_exit(error: SystemExit) -> dict[str, Any]:
    if error.code is None or error.code == 0:
        return {"kind": "result", "json": "null"}
    if isinstance(error.code, int):
        return {"kind": "exit", "code": error.code & 0xFF}
    print(error.code, file=sys.stderr)  # noqa: T201  as the interpreter does
    return {"kind": "exit", "code": 1}


def _exception(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    own = str(Path(__file__).parent)
    # The frames of the machinery below the definition tell its author nothing.
    kept = [f for f in frames if not f.filename.startswith(own)]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(kept or frames)]
    lines += traceback.TracebackException.from_exception(error).format_exception_only()
    if error.__cause__ is not None or error.__context__ is not None:
        lines = traceback.format_exception(error)
    return _error("ExceptionRaised", type(error).__name__, _text_of(error), "".join(lines))


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001  robot code again, and its __str__ may raise anything
        return f"(its text cannot be shown: {type(second).__name__})"


def _error(reason: str, kind: str, message: str, trace: str = "") -> dict[str, Any]:
    return {
        "kind": "error",
        "reason": reason,
        "type": kind[:256],
        "message": message[:MAX_MESSAGE_CHARS],
        "traceback": trace[-MAX_TRACEBACK_CHARS:],
    }


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        running.log.error("thread failed", exc_info=(args.exc_type, args.exc_value, args.exc_traceback))


def main() -> None:
    """Entry of a started (not forked) payload: import, then wait for a run directory on stdin."""
    from kuberpa_agent.platform import selected  # noqa: PLC0415  not needed in forks
    from kuberpa_agent.worker import discovery  # noqa: PLC0415  as above

    platform = selected()
    channel = platform.open_control()
    loaded = discovery.load(builtin="--builtin" in sys.argv)
    directory = sys.stdin.readline().strip()
    if not directory:
        return
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    job = rundir.read_json(Path(directory, rundir.JOB))
    os.environ.update(job["env"])
    os.environ[running.STOP_FILE_VARIABLE] = str(Path(directory, rundir.STOP))
    platform.mark(job["run"])
    run(job, channel, lambda: loaded)


if __name__ == "__main__":
    main()
