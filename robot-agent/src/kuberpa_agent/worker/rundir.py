"""The run directory `runs/<uid>-<token>/`: the truth about an attempt, whoever is alive.

| File           | Writer        | Content                                                             |
|----------------|---------------|---------------------------------------------------------------------|
| `job.json`     | agent         | what to run and within which limits; fsynced before anything starts |
| `state.json`   | shim          | shim, payload, boot; created exclusively: there is only one shim    |
| `output.jsonl` | shim          | one record a line, see `output`                                     |
| `progress.json`| shim          | the latest progress                                                 |
| `stop`         | agent or shim | exists once a stop was asked for; says how                          |
| `held`        | shim          | exists while it waits at a checkpoint of a paused robot             |
| `exit.json`    | shim          | how it ended; written last, atomically                              |
| `debug.json`   | adapter       | where its debugger listens, and the secret that opens it            |
| `ack.json`     | agent         | output confirmed so far                                             |
"""

import json
import os
from pathlib import Path
from threading import Event
from typing import Any, Final

JOB: Final = "job.json"
STATE: Final = "state.json"
OUTPUT: Final = "output.jsonl"
PROGRESS: Final = "progress.json"
STOP: Final = "stop"
HELD: Final = "held"
EXIT: Final = "exit.json"
ACK: Final = "ack.json"
STDIN: Final = "stdin"
DEBUG: Final = "debug.json"

_REPLACE_ATTEMPTS: Final = 50


def write_json(path: Path, value: Any, *, durable: bool = False) -> None:
    """Replace a file atomically; with `durable` it survives a power cut once this returns."""
    temporary = _write_temporary(path, json.dumps(value).encode(), durable=durable)
    _replace(temporary, path)
    if durable:
        sync_directory(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file's content atomically."""
    _replace(_write_temporary(path, data, durable=False), path)


def create_json(path: Path, value: Any) -> bool:
    """Create a file with its full content, unless it exists; tells whether this call created it."""
    temporary = _write_temporary(path, json.dumps(value).encode(), durable=False)
    try:
        # A link either appears whole or fails: nobody sees a half-written claim, nobody claims twice.
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def read_json(path: Path) -> Any:
    """Content of a file, or None when there is none or it is no JSON (a torn write before a power cut)."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _write_temporary(path: Path, data: bytes, *, durable: bool) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    return temporary


def _replace(source: Path, target: Path) -> None:
    for _ in range(_REPLACE_ATTEMPTS):
        try:
            source.replace(target)
        except PermissionError:
            if os.name != "nt":
                raise
            # Windows refuses while a reader has the target open, which takes a moment.
            Event().wait(0.01)
        else:
            return
    source.replace(target)


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable."""
    if os.name == "nt":  # NTFS journals its directories, and Python cannot open them
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
