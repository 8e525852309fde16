"""RDP servers to hold sessions on: xrdp, whose sessions go on without a client, and FreeRDP's own, which has NLA."""

import configparser
import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.displays import display
from tests.support.waiting import eventually

SESMAN_PORT = 3350
"""xrdp looks for it in /etc, whatever it is told."""
USER = "kuberpa-rdp"
PASSWORD = 'a long "pass word" with €'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    for address in ("127.0.0.1", "::1"):
        with suppress(OSError), socket.create_connection((address, port), timeout=1):
            return True
    return False


def certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A certificate for this name that vouches for itself, and its key."""
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    alternative = ["-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"]
    subprocess.run(
        [*request, *alternative, "-keyout", str(key), "-out", str(cert)], check=True, stderr=subprocess.DEVNULL
    )
    return cert, key


@dataclass
class Server:
    """A server that can be cut off and come back."""

    port: int
    command: list[str]
    env: dict[str, str]
    certificate: Path
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        eventually(lambda: answers(self.port), f"an RDP server on port {self.port}")

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            self.process = None


@contextmanager
def shadow(folder: Path) -> Iterator[Server]:
    """A desktop behind NLA for USER with PASSWORD."""
    sam = folder / "sam"
    hashed = subprocess.run(
        ["winpr-hash", "-u", USER, "-p", PASSWORD, "-f", "sam"], check=True, capture_output=True, text=True
    )
    sam.write_text(hashed.stdout)
    home = folder / "shadow-home"
    (home / ".config/freerdp/server").mkdir(parents=True)
    (home / ".config/freerdp/shadow").mkdir(parents=True)
    cert, key = certificate(folder)
    for name in ("server", "shadow"):
        shutil.copy(cert, home / f".config/freerdp/{name}/{name}.crt")
        shutil.copy(key, home / f".config/freerdp/{name}/{name}.key")
    port = free_port()
    options = [f"/port:{port}", "/bind-address:127.0.0.1", "+auth", "/sec:nla", f"/sam-file:{sam}"]
    with display("640x480") as name:
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "DISPLAY": name, "LC_ALL": "C.UTF-8"}
        server = Server(port, ["freerdp-shadow-cli", *options], env, cert, folder / "shadow.log")
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def xrdp(folder: Path, script: str) -> Iterator[Server]:
    """An xrdp of its own, whose sessions for USER run a shell script on their desktop."""
    _user()
    cert, key = certificate(folder)
    desktop = Path(f"~{USER}/desktop.sh").expanduser()  # a test's folder is closed to other users
    desktop.write_text(f"#!/bin/sh\n{script}\n")
    desktop.chmod(0o755)
    port = free_port()
    sesman = _sesman(folder, desktop)
    settings = _ini("xrdp")
    _set(settings, "Globals", port=f"tcp://127.0.0.1:{port}", fork="false", security_layer="tls")
    _set(settings, "Globals", certificate=str(cert), key_file=str(key), autorun="Xorg")
    _set(settings, "Logging", LogFile=str(folder / "xrdp.log"), EnableSyslog="false")
    for name in set(settings.sections()) - {"Globals", "Logging", "LoggingPerLogger", "Channels"}:
        settings.remove_section(name)
    settings["Xorg"] = {"name": "Xorg", "lib": "libxup.so", "username": "ask", "password": "ask", "ip": "127.0.0.1"}
    _set(settings, "Xorg", port="-1", code="20")
    with (folder / "xrdp.ini").open("w") as file:
        settings.write(file, space_around_delimiters=False)
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    command = ["xrdp", "-n", "-c", str(folder / "xrdp.ini")]
    server = Server(port, command, env, cert, folder / "xrdp.out")
    with (folder / "sesman.out").open("ab") as log:
        manager = subprocess.Popen(["xrdp-sesman", "-n", "-c", str(sesman)], env=env, stdout=log, stderr=log)
    try:
        eventually(lambda: answers(SESMAN_PORT), "xrdp-sesman")
        server.start()
        yield server
    finally:
        server.stop()
        manager.terminate()
        manager.wait(10)
        subprocess.run(["pkill", "-KILL", "-U", USER], check=False)
        subprocess.run(["userdel", "--remove", USER], check=False, stderr=subprocess.DEVNULL)


def _sesman(folder: Path, desktop: Path) -> Path:
    settings = _ini("sesman")
    _set(settings, "Globals", EnableUserWindowManager="false", DefaultWindowManager=str(desktop))
    _set(settings, "Logging", LogFile=str(folder / "sesman.log"), EnableSyslog="false")
    with (folder / "sesman.ini").open("w") as file:
        # sesman wants its repeated keys as they are
        for section in settings.sections():
            file.write(f"[{section}]\n")
            file.writelines(f"{key}={value}\n" for key, value in settings[section].items())
    text = Path("/etc/xrdp/sesman.ini").read_text(encoding="utf-8")
    xorg = "\n".join(line for line in text.split("[Xorg]")[1].split("[")[0].splitlines() if line.startswith("param="))
    path = folder / "sesman.ini"
    written = path.read_text(encoding="utf-8")
    before, _, after = written.partition("[Xorg]\n")
    path.write_text(f"{before}[Xorg]\n{xorg}\n[{after.partition('[')[2]}", encoding="utf-8")
    return path


def _ini(name: str) -> configparser.RawConfigParser:
    settings = configparser.RawConfigParser(strict=False)
    settings.optionxform = str  # type: ignore[assignment,method-assign]
    settings.read(f"/etc/xrdp/{name}.ini", encoding="utf-8")
    return settings


def _set(settings: configparser.RawConfigParser, section: str, **values: str) -> None:
    for key, value in values.items():
        settings.set(section, key, value)


def _user() -> None:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", USER], check=True)
    subprocess.run(["chpasswd"], input=f"{USER}:{PASSWORD}\n".encode(), check=True)
