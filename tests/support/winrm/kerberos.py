"""A realm of a test's own: Debian's KDC, and the libraries that Kerberos needs, which are compiled once.

Run as a program it is client and peer in one process, apart from the tests': pywinrm and pyspnego look for those
libraries when they are imported. `kerberos.py FOLDER PASSWORD` prints what became of a command.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from kuberpa_cli.embedded import files, paths

REALM = "KUBERPA.TEST"
USER, PASSWORD = "robot", "Correct-1"
_ACCEPTOR = ("gssapi==1.12.0", "krb5==0.10.0", "decorator==5.3.1")
_LOCK = Path(__file__).parents[3] / "uv.lock"


@dataclass(frozen=True)
class Realm:
    """A KDC that runs, and the environment in which its tools and an acceptor find it."""

    folder: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """For programs of the realm."""
        return {
            **os.environ,
            "KRB5_CONFIG": str(self.folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
            "KRB5_KTNAME": str(self.folder / "http.keytab"),
            "KRB5RCACHETYPE": "none",
        }


@contextlib.contextmanager
def realm(folder: Path) -> Iterator[Realm]:
    """A realm with a user and the service HTTP/localhost."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "krb5.conf").write_text(
        f"[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n rdns = false\n"
        f" dns_canonicalize_hostname = false\n udp_preference_limit = 1\n"
        f"[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n }}\n"
    )
    (folder / "kdc.conf").write_text(
        f"[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n"
        f"[realms]\n {REALM} = {{\n  database_name = {folder}/principal\n  key_stash_file = {folder}/stash\n"
        f"  acl_file = {folder}/acl\n }}\n[logging]\n kdc = FILE:{folder}/kdc.log\n"
    )
    found = Realm(folder, port)
    _tool(found, "kdb5_util", "create", "-s", "-P", "master", "-r", REALM)
    for words in (
        f"addprinc -pw {PASSWORD} +requires_preauth {USER}",
        "addprinc -randkey HTTP/localhost",
        f"ktadd -k {folder}/http.keytab HTTP/localhost",
    ):
        _tool(found, "kadmin.local", "-r", REALM, "-q", words)
    kdc = subprocess.Popen(
        [_found("krb5kdc"), "-n", "-r", REALM],
        env=found.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield found
    finally:
        kdc.terminate()
        kdc.wait(10)


def libraries() -> Path:
    """Folder of the compiled libraries, in the cache."""
    cache = paths.from_environment().cache
    wanted = (*_extra(), *_ACCEPTOR)
    target = cache / f"kerberos-{hashlib.sha256(repr((wanted, sys.version)).encode()).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with files.locked(cache / "kerberos.lock"):
        if not target.exists():
            making = target.with_name(f".{target.name}.part")
            shutil.rmtree(making, ignore_errors=True)
            install = [find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--python", sys.executable]
            subprocess.run([*install, "--target", str(making), *wanted], check=True)
            making.rename(target)
    return target


def _extra() -> list[str]:
    """What the agent's extra `kerberos` installs, as it is locked."""
    packages = {each["name"]: each for each in tomllib.loads(_LOCK.read_text(encoding="utf-8"))["package"]}
    extra = packages["kuberpa-agent"]["optional-dependencies"]["kerberos"]
    return [f"{each['name']}=={packages[each['name']]['version']}" for each in extra]


def _found(name: str) -> str:
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert path is not None, f"{name} is missing: tests/tools/find-peers installs it"
    return path


def _tool(found: Realm, name: str, *words: str) -> None:
    subprocess.run([_found(name), *words], env=found.environment, check=True, capture_output=True, timeout=60)


def call(folder: Path, password: str, port: int) -> dict[str, object]:
    """What becomes of a command by Kerberos, every message sealed; the command's answers are recorded ones."""
    from tests.support.winrm.peer import Identities, Peer  # noqa: PLC0415  see above
    from tests.support.winrm.recordings import Replay  # noqa: PLC0415  as above

    from kuberpa.host import RobotHostSpec  # noqa: PLC0415  as above
    from kuberpa_agent.host.channel import WinRMChannel  # noqa: PLC0415  as above
    from kuberpa_agent.host.errors import HostError  # noqa: PLC0415  as above

    peer = Peer(Replay("stderr_rc"), Identities({}, kerberos=True))
    credentials = folder / "credentials"
    credentials.mkdir(exist_ok=True)
    (credentials / "username").write_text(USER)
    (credentials / "password").write_text(password)
    winrm = {
        "port": peer.port,
        "tls": {"enabled": False},
        "transport": "Kerberos",
        "kerberos": {"realm": REALM, "kdc": f"127.0.0.1:{port}"},
        "credentialsSecretRef": {"name": "x"},
    }
    spec = RobotHostSpec.of({"address": "localhost", "winrm": winrm})
    try:
        done = WinRMChannel(spec, credentials, None, folder).run("whatever", b"", 60)
        return {"code": done.code, "stdout": done.stdout.decode()}
    except HostError as error:
        return {"reason": error.reason, "message": str(error)}
    finally:
        peer.close()


if __name__ == "__main__":
    print(json.dumps(call(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
