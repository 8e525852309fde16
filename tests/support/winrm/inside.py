"""Runs in Windows' Python under wine, standard library alone: executes command lines for the peer.

One connection to the peer, one JSON document a line. A command line goes to cmd.exe as it is (subprocess would quote
what Linux hands to wine), in a job that ends everything when the shell ends, from which processes may break away:
what the WinRM service does to processes of a shell.
"""

import base64
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from typing import Any

assert sys.platform == "win32"  # tells type checkers

LIMIT_CHARS = 8191
EXTENDED_LIMIT = 9
KILL_ON_CLOSE = 0x2000
BREAKAWAY_OK = 0x800


class Limits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

    _fields_ = (
        ("times", ctypes.c_int64 * 2),
        ("flags", ctypes.c_uint32),
        ("sizes", ctypes.c_size_t * 2),
        ("active", ctypes.c_uint32),
        ("affinity", ctypes.c_size_t),
        ("classes", ctypes.c_uint32 * 2),
        ("counters", ctypes.c_uint64 * 6),
        ("memory", ctypes.c_size_t * 4),
    )


class Runner:
    """Commands by their identity."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.lock = threading.Lock()
        self.running: dict[str, tuple[subprocess.Popen[bytes], int]] = {}

    def serve(self) -> None:
        """Obey until the peer closes."""
        with self.socket.makefile("rb") as lines:
            for line in lines:
                asked = json.loads(line)
                getattr(self, asked.pop("op"))(**asked)
        os._exit(0)

    def say(self, **message: Any) -> None:
        """One line to the peer."""
        with self.lock:
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def start(self, identity: str, line: str, environment: dict[str, str], job: bool, breakaway: bool) -> None:
        """As the service does: cmd.exe /c LINE."""
        if len(line) > LIMIT_CHARS:  # wine's cmd.exe dies of it
            self.say(identity=identity, stream="stderr", data=_text(b"The command line is too long.\r\n"))
            self.say(identity=identity, code=1)
            return
        process = subprocess.Popen(
            f"cmd.exe /c {line}",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            creationflags=0x4,
        )
        handle = _job(int(process._handle), breakaway) if job else 0
        ctypes.WinDLL("ntdll").NtResumeProcess(ctypes.c_void_p(int(process._handle)))
        self.running[identity] = (process, handle)
        threading.Thread(target=self.follow, args=(identity, process), daemon=True).start()

    def follow(self, identity: str, process: "subprocess.Popen[bytes]") -> None:
        """Output, then the code."""
        streams = [("stdout", process.stdout), ("stderr", process.stderr)]
        readers = [threading.Thread(target=self.read, args=(identity, *each), daemon=True) for each in streams]
        for each in readers:
            each.start()
        code = process.wait()
        for each in readers:
            each.join(10)
        self.say(identity=identity, code=code & 0xFFFFFFFF)

    def read(self, identity: str, name: str, stream: Any) -> None:
        """One stream."""
        while data := os.read(stream.fileno(), 32768):
            self.say(identity=identity, stream=name, data=_text(data))

    def send(self, identity: str, data: str, end: bool) -> None:
        """Input of a command."""
        process, _ = self.running[identity]
        try:
            process.stdin.write(base64.b64decode(data))
            process.stdin.flush()
            if end:
                process.stdin.close()
        except OSError:
            pass

    def end(self, identity: str) -> None:
        """Close the job, which ends what is in it."""
        process, handle = self.running.pop(identity, (None, 0))
        if process is None:
            return
        if handle:
            ctypes.WinDLL("kernel32").TerminateJobObject(ctypes.c_void_p(handle), 1)
            ctypes.WinDLL("kernel32").CloseHandle(ctypes.c_void_p(handle))
        elif process.poll() is None:
            process.kill()


def _job(process: int, breakaway: bool) -> int:
    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.CreateJobObjectW.restype = ctypes.c_void_p
    job = kernel32.CreateJobObjectW(None, None)
    limits = Limits()
    limits.flags = KILL_ON_CLOSE | (BREAKAWAY_OK if breakaway else 0)
    kernel32.SetInformationJobObject(ctypes.c_void_p(job), EXTENDED_LIMIT, ctypes.byref(limits), ctypes.sizeof(limits))
    kernel32.AssignProcessToJobObject(ctypes.c_void_p(job), ctypes.c_void_p(process))
    return int(job)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


if __name__ == "__main__":
    Runner(int(sys.argv[1])).serve()
