"""X displays without a monitor, for whatever draws, and programs on them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def display(size: str = "800x600", *options: str) -> Iterator[str]:
    """A fresh X display of this size, as its name."""
    reader, writer = os.pipe()
    command = [
        "Xvfb",
        "-displayfd",
        str(writer),
        "-screen",
        "0",
        f"{size}x24",
        "-nolisten",
        "tcp",
        "-noreset",
        *options,
    ]
    server = subprocess.Popen(command, pass_fds=[writer], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(writer)
    try:
        with os.fdopen(reader) as said:
            number = said.readline().strip()
        assert number, "Xvfb did not come up"
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(10)


@contextmanager
def typing_window(name: str, told: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An xterm that fills the display and writes the one line that is typed into it to the file `told`."""
    ready = told.with_suffix(".ready")
    script = f'printf x >"{ready}"; IFS= read -r line; printf %s "$line" >"{told}.part"; mv "{told}.part" "{told}"'
    window = subprocess.Popen(
        ["xterm", "-u8", "-geometry", "400x200+0+0", "-e", "sh", "-c", script],
        env={**os.environ, "DISPLAY": name, "LC_ALL": "C.UTF-8"},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield window
    finally:
        window.terminate()
        window.wait(10)
