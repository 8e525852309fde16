"""Robot packages made on the spot, without a build backend or an index."""

import base64
import hashlib
import textwrap
import zipfile
from pathlib import Path


def make_wheel(folder: Path, module: str, source: str, *, version: str = "1.0", requires: tuple[str, ...] = ()) -> Path:
    """A wheel of one module whose activities are an entry point; `module` is the distribution's name too."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{module}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {r}\n" for r in requires)
    files = {
        f"{module}.py": textwrap.dedent(source),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[kuberpa.activities]\n{module} = {module}\n",
    }
    record = "".join(f"{name},sha256={_digest(text)},{len(text.encode())}\n" for name, text in files.items())
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def make_source_tree(folder: Path, wheel: Path) -> Path:
    """A source folder whose own build backend hands out the wheel: it builds offline."""
    folder.mkdir(parents=True, exist_ok=True)
    name, version, *_ = wheel.name.split("-")
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "{version}"\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (folder / "backend.py").write_text(
        "import shutil\n"
        "def build_wheel(directory, *_):\n"
        f"    return __import__('os').path.basename(shutil.copy({str(wheel)!r}, directory))\n"
    )
    return folder


def requirement(path: Path) -> str:
    """The pip requirement of a local file or folder."""
    return path.as_uri()


ACTIVITIES = '''
    """Activities of every kind that the tests ask for."""
    import asyncio, dataclasses, datetime, decimal, enum, json, logging, os, subprocess, sys, threading, time, warnings
    from pathlib import Path

    from kuberpa_agent import activity
    from kuberpa_agent.sdk import credential, log, progress, should_stop, wait_for_stop

    logging.basicConfig(level=logging.INFO)  # as programs do; must not say everything twice


    class Color(enum.Enum):
        RED = "red"
        BLUE = "blue"


    @dataclasses.dataclass
    class Row:
        amount: decimal.Decimal
        day: datetime.date
        note: str = ""


    @activity
    def add(a: int, b: int = 2) -> int:
        """Add two numbers."""
        return a + b


    @activity(name="bank.typed")
    def typed(rows: list[Row], color: Color, where: Path, *tags: str, limit: float | None = None) -> dict:
        """Echo the types that arrived."""
        return {
            "rows": rows,
            "types": [type(rows[0].amount).__name__, type(rows[0].day).__name__, type(where).__name__],
            "color": color, "where": where, "tags": tags, "limit": limit,
        }


    @activity
    async def slow_hello(name: str) -> str:
        """Asynchronous."""
        await asyncio.sleep(0.01)
        return f"hello {name}"


    @activity
    def speak() -> None:
        print("printed", end="")
        print(" and ended")
        print("to stderr", file=sys.stderr)
        logging.getLogger("mine").warning("warned")
        log.debug("unseen"); log.error("failed %s", "softly")
        warnings.warn("a Python warning")
        os.write(1, b"raw \\xff bytes\\n")


    @activity
    def with_logger(text: str, my_logger) -> None:
        my_logger.critical(text)


    @activity
    def with_annotated_logger(logger: logging.Logger, text: str) -> None:
        logger.info(text)


    @activity
    def fail(text: str) -> None:
        inner(text)


    def inner(text):
        raise LookupError(text)


    @activity
    def polite() -> str:
        print("ready", flush=True)
        while not should_stop():
            time.sleep(0.01)
        return "stopped in order"


    @activity
    def waits() -> bool:
        print("ready", flush=True)
        return wait_for_stop(60)


    @activity
    def deaf() -> None:
        print("ready", flush=True)
        while True:
            time.sleep(1)


    @activity
    def child_sees_stop() -> str:
        child = "from kuberpa_agent.sdk import wait_for_stop; print('ready', flush=True); print(wait_for_stop(60))"
        import signal
        signal.signal(signal.SIGTERM, lambda *_: None)
        return subprocess.Popen([sys.executable, "-c", child], start_new_session=True, stdout=None).wait()


    @activity
    def report_progress() -> None:
        for i in range(100):
            progress(i / 100, f"step {i}")
        progress(1, "done")


    @activity
    def secret() -> list[str]:
        return sorted(credential("sap"))


    @activity
    def missing_secret() -> None:
        credential("nope")


    @activity
    def bad_result() -> object:
        return {"f": open(os.devnull)}


    @activity
    def not_a_number() -> float:
        return float("nan")


    @activity
    def surrogate() -> str:
        return "\\udc80"


    @activity
    def big(size: int) -> str:
        return "x" * size


    @activity
    def leave(code: int) -> None:
        sys.exit(code)


    @activity
    def vanish() -> None:
        os._exit(0)


    @activity
    def crash() -> None:
        os.abort()


    @activity
    def leaves_things_running(nap: str) -> int:
        subprocess.Popen(["setsid", "sleep", nap])
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("sleep", ["sleep", nap])
            os._exit(0)
        threading.Thread(target=time.sleep, args=(600,)).start()
        return os.getpid()


    @activity
    def forks_without_exec() -> None:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                Path("stray.pid").write_text(str(os.getpid()))
                time.sleep(600)
            os._exit(0)
        while not Path("stray.pid").exists():
            time.sleep(0.01)
        print("ready", flush=True)
        time.sleep(600)


    @activity
    def lies(pid: int) -> None:
        """Pretends that a process of its own may stay."""
        from kuberpa_agent.sdk import running
        running.detach(pid or subprocess.Popen(["sleep", "601"]).pid)


    @activity
    def garbage() -> None:
        from kuberpa_agent.sdk import running
        fd = running._send.__self__._fd
        os.write(fd, b'garbage\\n[1]\\n{"kind": "progress", "fraction": "x"}\\n')


    @activity
    def ledger(path: str, line: str, seconds: float = 0) -> None:
        with open(path, "a") as file:
            file.write(line + "\\n")
        time.sleep(seconds)


    @activity
    def whereami() -> dict:
        return {"executable": sys.executable, "pid": os.getpid(), "cwd": os.getcwd(), "modules": sorted(sys.modules)}
'''
