"""Installing robots' packages: real uv, real environments, packages made on the spot."""

import asyncio
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.agent_runs import Bench, eventually
from tests.support.robot_packages import make_source_tree, make_wheel, requirement

from kuberpa import wire
from kuberpa.robot import PackageIndex
from kuberpa_agent import requirements
from kuberpa_agent.errors import StoppedBeforeStartError, UnknownDefinitionError

WHO = """
    from kuberpa_agent import activity

    @activity
    def who() -> str:
        return {answer!r}

    @activity
    def wait_then_who(go: str) -> str:
        import time
        from pathlib import Path
        print("ready", flush=True)
        while not Path(go).exists():
            time.sleep(0.01)
        import json as late_import
        return who()
"""


def wheel(tmp_path: Path, answer: str, **options: object) -> Path:
    return make_wheel(tmp_path / answer, "whoami", WHO.format(answer=answer), **options)  # type: ignore[arg-type]


async def test_no_packages_is_a_state_of_its_own(bench: Bench) -> None:
    verdict = await bench.installed()
    assert (verdict.status.state, verdict.status.message) == ("None", "")


async def test_a_change_switches_new_runs_and_lets_running_ones_end(bench: Bench, tmp_path: Path) -> None:
    first = await bench.installed(requirement(wheel(tmp_path, "one")), concurrency=2)
    go = tmp_path / "go"
    uid = await bench.start("wait_then_who", str(go))
    await bench.printed(uid, "ready")
    second = await bench.installed(requirement(wheel(tmp_path, "two", version="2.0")), concurrency=2)
    assert second.status.state == "Installed"
    assert second.status.fingerprint != first.status.fingerprint
    assert (await bench.run("who")).end.result == "two"
    go.touch()
    assert (await bench.finished(uid)).end.result == "one"


async def test_a_start_waits_for_the_packages_that_are_being_installed(bench: Bench, tmp_path: Path) -> None:
    await bench.executor.configure(wire.Settings(packages=(requirement(wheel(tmp_path, "one")),)))
    assert (await bench.run("who")).end.result == "one"


async def test_a_builtin_definition_does_not_wait(bench: Bench, tmp_path: Path) -> None:
    await bench.executor.configure(wire.Settings(packages=(requirement(_hanging_tree(tmp_path)),)))
    assert (await bench.run("os.command", ["true"])).end.outcome == "Succeeded"
    assert bench.executor.packages().state == "Installing"


async def test_a_start_that_waits_can_be_stopped(bench: Bench, tmp_path: Path) -> None:
    await bench.executor.configure(wire.Settings(packages=(requirement(_hanging_tree(tmp_path)),)))
    starting = asyncio.create_task(bench.start("who", options={"uid": "waiting"}))
    await eventually(lambda: "waiting-1" in bench.executor._starting)
    await bench.executor.stop("waiting", 1)
    with pytest.raises(StoppedBeforeStartError):
        await starting


async def test_a_newer_spec_cancels_an_installation(bench: Bench, tmp_path: Path) -> None:
    tree = _hanging_tree(tmp_path)
    await bench.executor.configure(wire.Settings(packages=(requirement(tree),)))
    await eventually((tree / "building").exists)
    builder = int((tree / "building").read_text())
    verdict = await bench.installed(requirement(wheel(tmp_path, "one")))
    assert verdict.status.state == "Installed"
    await eventually(lambda: not Path(f"/proc/{builder}").exists())


async def test_a_source_folder_is_built_and_installed(bench: Bench, tmp_path: Path) -> None:
    tree = make_source_tree(tmp_path / "tree", wheel(tmp_path, "built"))
    verdict = await bench.installed(f"whoami @ {requirement(tree)}")
    assert verdict.status.state == "Installed", verdict.status.message
    assert (await bench.run("who")).end.result == "built"


async def test_a_failed_install_says_why_and_keeps_the_last_working_set(bench: Bench, tmp_path: Path) -> None:
    await bench.installed(requirement(wheel(tmp_path, "one")))
    broken = wheel(tmp_path, "broken", version="3.0", requires=("no-such-package-anywhere-kuberpa==9.9",))
    verdict = await bench.installed(requirement(broken), package_index=PackageIndex(url="http://127.0.0.1:9/simple"))
    assert verdict.status.state == "Failed"
    assert "no-such-package-anywhere-kuberpa" in verdict.status.message
    assert "stay in use" in verdict.status.message
    assert (await bench.run("who")).end.result == "one"


async def test_a_package_that_cannot_be_imported_fails_with_its_traceback(bench: Bench, tmp_path: Path) -> None:
    await bench.installed(requirement(wheel(tmp_path, "one")))
    broken = make_wheel(tmp_path / "bad", "whoami", "import no_such_module_here\n", version="4.0")
    verdict = await bench.installed(requirement(broken))
    assert verdict.status.state == "Failed"
    assert "No module named 'no_such_module_here'" in verdict.status.message
    assert (await bench.run("who")).end.result == "one"


async def test_a_package_that_crashes_on_import_fails(bench: Bench, tmp_path: Path) -> None:
    crashing = make_wheel(tmp_path / "bad", "crasher", "import os\nos.abort()\n")
    verdict = await bench.installed(requirement(crashing))
    assert (verdict.status.state, "did not come up" in verdict.status.message) == ("Failed", True)


async def test_a_package_cannot_redefine_what_every_robot_has(bench: Bench, tmp_path: Path) -> None:
    source = "from kuberpa_agent import activity\n@activity(name='os.command')\ndef mine(): pass\n"
    verdict = await bench.installed(requirement(make_wheel(tmp_path / "w", "taker", source)))
    assert (verdict.status.state, "os.command" in verdict.status.message) == ("Failed", True)


async def test_removing_the_packages_removes_their_definitions(bench: Bench, tmp_path: Path) -> None:
    await bench.installed(requirement(wheel(tmp_path, "one")))
    assert (await bench.installed()).status.state == "None"
    with pytest.raises(UnknownDefinitionError):
        await bench.start("who")


async def test_the_last_working_set_is_there_at_once_after_a_restart(tmp_path: Path) -> None:
    packages = requirement(wheel(tmp_path, "one"))
    async with Bench(tmp_path / "state") as bench:
        await bench.installed(packages)
    async with Bench(tmp_path / "state") as bench:
        assert "who" in {d.name for d in bench.executor.definitions()}
        assert (await bench.run("who")).end.result == "one"
        assert (await bench.installed(packages)).status.state == "Installed"


async def test_an_edited_local_package_is_installed_again(bench: Bench, tmp_path: Path) -> None:
    path = wheel(tmp_path, "same")
    await bench.installed(requirement(path))
    edited = make_wheel(tmp_path / "edit", "whoami", WHO.format(answer="edited"))
    path.write_bytes(edited.read_bytes())
    await bench.installed()
    await bench.installed(requirement(path))
    assert (await bench.run("who")).end.result == "edited"


async def test_hashes_are_required_when_given(bench: Bench, tmp_path: Path) -> None:
    path = wheel(tmp_path, "one")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    wrong = await bench.installed(f"whoami @ {requirement(path)} --hash=sha256:{'0' * 64}")
    assert wrong.status.state == "Failed"
    assert "hash" in wrong.status.message.lower()
    right = await bench.installed(f"whoami @ {requirement(path)} --hash=sha256:{digest}")
    assert right.status.state == "Installed", right.status.message


async def test_a_package_may_say_that_it_needs_the_agent(bench: Bench, tmp_path: Path) -> None:
    verdict = await bench.installed(requirement(wheel(tmp_path, "one", requires=("kuberpa-agent>=0.1",))))
    assert verdict.status.state == "Installed", verdict.status.message


async def test_unused_environments_are_deleted(bench: Bench, tmp_path: Path) -> None:
    for answer in ("a", "b", "c", "d", "e"):
        await bench.installed(requirement(wheel(tmp_path, answer)))
    venvs = tmp_path / "state" / "venvs"
    await eventually(lambda: len([p for p in venvs.iterdir() if not p.name.startswith(".")]) == 3)
    assert (await bench.run("who")).end.result == "e"


THREADED = """
    import threading, time
    from kuberpa_agent import activity
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()

    @activity
    def threads() -> int:
        return threading.active_count()
"""


async def test_a_package_that_starts_threads_on_import_is_imported_by_each_run(bench: Bench, tmp_path: Path) -> None:
    # A fork has only the thread that forked: the import must happen behind it.
    verdict = await bench.installed(requirement(make_wheel(tmp_path / "w", "threaded", THREADED)))
    assert verdict.status.state == "Installed", verdict.status.message
    assert (await bench.run("threads")).end.result == 2


class Index(http.server.BaseHTTPRequestHandler):
    """A package index that wants a user and a password."""

    wheel = b""
    authorized: list[str] = []

    def do_GET(self) -> None:
        if self.headers.get("Authorization") is None:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.end_headers()
            return
        self.authorized.append(self.headers["Authorization"])
        name = "whoami-1.0-py3-none-any.whl"
        page = f'<a href="/files/{name}">{name}</a>'.encode()
        body = page if "/simple/whoami" in self.path else self.wheel if self.path.endswith(name) else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/html" if body is page else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    Index.wheel = wheel(tmp_path, "indexed").read_bytes()
    Index.authorized.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/simple"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_private_index_gets_the_mounted_credentials_and_they_stay_secret(tmp_path: Path, index: str) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "username").write_text("robot\n")
    (tmp_path / "credentials" / "password").write_text("canary@7/secret\n")
    private = PackageIndex.of({"url": index, "credentialsSecretRef": {"name": "index"}})
    async with Bench(tmp_path / "state", index_dir=tmp_path / "credentials") as bench:
        verdict = await bench.installed("whoami==1.0", package_index=private)
        assert verdict.status.state == "Installed", verdict.status.message
        assert (await bench.run("who")).end.result == "indexed"
        failed = await bench.installed("whoami==1.0", "absent==1", package_index=private)
        assert "absent" in failed.status.message
        assert "canary" not in failed.status.message
        environment = await bench.run("os.command", ["env"])
        assert "canary" not in environment.text()
    assert Index.authorized
    for file in (tmp_path / "state").rglob("*"):
        if file.is_file():
            assert b"canary" not in file.read_bytes(), file


async def test_missing_credentials_are_explained(tmp_path: Path, index: str) -> None:
    private = PackageIndex.of({"url": index, "credentialsSecretRef": {"name": "index"}})
    async with Bench(tmp_path / "state", index_dir=tmp_path / "nowhere") as bench:
        verdict = await bench.installed("whoami==1.0", package_index=private)
    assert (verdict.status.state, "Secret index" in verdict.status.message) == ("Failed", True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-r /etc/passwd",
        "--index-url http://evil/simple",
        "a==1\n-e .",
        "a==1 --no-deps",
        "file:relative/path",
        "file:///no/such/path",
        "#comment",
    ],
)
async def test_what_is_more_than_a_requirement_is_refused(bench: Bench, text: str) -> None:
    verdict = await bench.installed(text)
    assert (verdict.status.state, "spec.packages[0]" in verdict.status.message) == ("Failed", True)


def test_credentials_in_urls_are_masked() -> None:
    assert requirements.masked("git+https://user:pw@host/x failed") == "git+https://****@host/x failed"


def _hanging_tree(tmp_path: Path) -> Path:
    """A source folder whose build never ends."""
    tree = make_source_tree(tmp_path / "hanging", wheel(tmp_path, "never"))
    (tree / "backend.py").write_text(
        "import os, pathlib, time\n"
        "def build_wheel(*_):\n"
        f"    pathlib.Path({str(tree)!r}, 'building').write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n"
    )
    return tree
