"""One-way channel from the payload to its shim: JSON objects, one a line, on an inherited pipe."""

import json
import os
import threading
from typing import Any


class Channel:
    """Writes messages to a file descriptor; may be used by many threads."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.RLock()  # a signal handler may log while its thread is logging

    def send(self, message: dict[str, Any]) -> None:
        """Write one message. Silent when the shim is gone: there is nobody left to tell."""
        data = memoryview(json.dumps(message).encode() + b"\n")
        with self._lock:
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BrokenPipeError:
                    return
