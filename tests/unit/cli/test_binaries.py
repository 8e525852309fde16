"""Builds of a tiny Go module by the real compiler, in a cache of its own."""

import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kuberpa_cli.embedded import gotool
from kuberpa_cli.embedded.binaries import MODULES, BuildFailedError, Module, Target, ensure


@dataclass
class Recorded:
    said: list[str] = field(default_factory=list)
    built: list[str] = field(default_factory=list)
    heard: threading.Event = field(default_factory=threading.Event)

    def say(self, message: str) -> None:
        self.said.append(message)
        self.heard.set()

    def started(self, target: Target, packages: int) -> None:
        self.said.append(f"{target.name} has {packages} packages")

    def compiled(self, packages: int) -> None:
        pass

    def finished(self, target: Target, seconds: float) -> None:
        self.built.append(target.name)


SOURCE = """package main

var version = "unstamped"

func main() { print(version) }
"""


@pytest.fixture(scope="module")
def go_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One compiler's cache for all tests: they differ in ours."""
    return tmp_path_factory.mktemp("go-build")


@pytest.fixture(autouse=True)
def _share_go_cache(go_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOCACHE", str(go_cache))


@pytest.fixture
def module(tmp_path: Path) -> Module:
    folder = tmp_path / "modules" / "hello"
    folder.mkdir(parents=True)
    # The module requires itself by another name, so that its version is pinned in go.mod as a real one's is.
    (folder / "go.mod").write_text(
        "module example.test/hello\n\ngo 1.26\n\nrequire example.test/pinned v1.2.3\n\n"
        "replace example.test/pinned => ./pinned\n"
    )
    (folder / "pinned").mkdir()
    (folder / "pinned" / "go.mod").write_text("module example.test/pinned\n\ngo 1.26\n")
    (folder / "main.go").write_text(SOURCE)
    target = Target("hello", "example.test/hello", 1)
    return Module("hello", "example.test/pinned", (target,), ("main.version={version}",), tmp_path / "modules")


def test_a_binary_is_built_stamped_and_built_only_once(module: Module, tmp_path: Path) -> None:
    cache, report = tmp_path / "cache", Recorded()
    first = ensure(cache, report, (module,))
    assert subprocess.run([first["hello"]], check=True, capture_output=True, text=True).stderr == "v1.2.3"
    assert ensure(cache, report, (module,)) == first
    assert report.built == ["hello"]


def test_the_compilers_cache_is_removed_after_a_build(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOCACHE")
    ensure(tmp_path / "cache", Recorded(), (module,))
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["bin", "build.lock"]


def test_a_changed_pin_builds_anew_beside_the_old(module: Module, tmp_path: Path) -> None:
    cache, report = tmp_path / "cache", Recorded()
    old = ensure(cache, report, (module,))["hello"]
    go_mod = module.folder / "go.mod"
    go_mod.write_text(go_mod.read_text().replace("v1.2.3", "v1.2.4"))
    new = ensure(cache, report, (module,))["hello"]
    assert new != old
    assert old.exists()
    assert report.built == ["hello", "hello"]


def test_two_runs_at_once_build_once_and_the_second_says_that_it_waits(module: Module, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    compiling, waiting = threading.Event(), threading.Event()
    first, second = Recorded(), Recorded(heard=waiting)

    def slow_go(folder: Path, say: object) -> Path:
        compiling.set()
        assert waiting.wait(30)
        return gotool.find(folder)

    threads = [threading.Thread(target=ensure, args=(cache, first, (module,), slow_go))]
    threads[0].start()
    assert compiling.wait(30)
    threads.append(threading.Thread(target=ensure, args=(cache, second, (module,))))
    threads[1].start()
    for thread in threads:
        thread.join(60)
    assert first.built == ["hello"]
    assert second.built == []
    assert second.said == ["Another kuberpa is building: waiting for it"]


def test_a_failed_build_shows_the_compilers_words_and_the_next_run_succeeds(module: Module, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    main = module.folder / "main.go"
    main.write_text(SOURCE.replace("print(version)", "nowhere()"))
    with pytest.raises(BuildFailedError, match="undefined: nowhere"):
        ensure(cache, Recorded(), (module,))
    assert not [path for path in (cache / "bin").iterdir() if not path.name.startswith(".")]
    main.write_text(SOURCE)
    assert ensure(cache, Recorded(), (module,))["hello"].exists()


def test_every_module_pins_the_version_it_is_stamped_with() -> None:
    versions = {module.name: module.version for module in MODULES}
    assert versions == {"kubernetes": "v1.37.2", "etcd": "v3.7.3", "kwok": "v0.8.0", "helm": "v3.22.0"}
    for module in MODULES:
        tools = (module.folder / "go.mod").read_text()
        assert all(target.package in tools for target in module.targets)


def script(path: Path, output: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(0o755)
    return path


def test_a_new_enough_go_of_the_machine_is_used(tmp_path: Path) -> None:
    old = script(tmp_path / "old", "go version go1.25.9 linux/amd64")
    new = script(tmp_path / "new", "go version go1.27.1 linux/amd64")
    assert gotool.find(tmp_path, candidates=(tmp_path / "missing", old, new)) == new


def test_a_machine_without_go_gets_the_wheel_once(tmp_path: Path) -> None:
    wheel = tmp_path / "go" / "bin"
    wheel.mkdir(parents=True)
    script(wheel / "go", "go version go1.26.6 linux/amd64")
    said: list[str] = []
    assert gotool.find(tmp_path, said.append, candidates=()) == wheel / "go"
    assert said == []
