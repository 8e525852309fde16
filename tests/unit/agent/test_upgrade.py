"""Upgrade in place: whatever a new version does, one that works runs in the end.

The agents are programs that hold the folder's lock as an agent does, so that a version can be made that fails just so.
"""

import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kuberpa_agent import keeper, upgrade
from kuberpa_agent.home import Home
from kuberpa_agent.platform import selected
from kuberpa_agent.upgrade import UpgradeError

pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(sys.platform == "win32", reason="its agents are scripts")]

HOLDS = """
import fcntl, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[-1])
lock = os.open(folder / "state" / "agent.lock", os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
(folder / "stop").unlink(missing_ok=True)
(folder / "runs").write_text(sys.argv[1])
while not (folder / "stop").exists(): time.sleep(0.01)
"""
"""Runs until it is asked to end, and says who it is."""


def version(folder: Path, name: str, *, doctor: int = 0, starts: bool = True) -> Path:
    """An interpreter of a version whose doctor ends so, and whose agent comes up or does not."""
    python = folder / name / "bin" / "python"
    python.parent.mkdir(parents=True)
    (folder / "holds.py").write_text(HOLDS)
    run = f'exec {sys.executable} -S {folder}/holds.py {name} "$@"' if starts else "exit 3"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *" doctor "*) echo "WRONG rot: rotten"; exit {doctor};; *) {run};; esac\n'
    )
    python.chmod(0o755)
    return python


@pytest.fixture
def place(tmp_path: Path) -> Home:
    place = Home(tmp_path / "home")
    place.prepare()
    keeper.use(place, version(tmp_path, "old"))
    return place


@pytest.fixture
def service(place: Home) -> Iterator[None]:
    """The keeper of a service, with the old version running."""
    kept = keeper.Keeper(place, keeper.start_here)
    loop = threading.Thread(target=kept.run)
    loop.start()
    running(place, "old")
    yield
    kept.end()
    loop.join(60)


def running(place: Home, name: str) -> None:
    """Wait until that version is the one that runs."""
    pause = threading.Event()
    for _ in range(1200):
        told = place.folder / "runs"
        if told.exists() and told.read_text() == name and upgrade._is_running(place):
            return
        pause.wait(0.05)
    raise AssertionError(f"{name} does not run")


def offered(monkeypatch: pytest.MonkeyPatch, python: Path) -> None:
    def install(folder: Path, _requirement: str, _options: Sequence[str]) -> Path:
        folder.mkdir()
        return python

    monkeypatch.setattr(upgrade, "_install", install)
    monkeypatch.setattr(upgrade, "TAKEOVER_SECONDS", 10.0)


@pytest.mark.usefixtures("service")
def test_a_new_version_takes_over(place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "TAKEOVER_SECONDS", 60.0)
    new = version(tmp_path, "new")
    monkeypatch.setattr(upgrade, "_install", lambda folder, *_: (folder.mkdir(), new)[1])
    assert upgrade.upgrade(place, "kuberpa-agent==2") == new
    running(place, "new")
    assert keeper.python_of(place) == new


@pytest.mark.usefixtures("service")
def test_of_a_version_that_does_not_come_up_the_former_one_runs_again(
    place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered(monkeypatch, version(tmp_path, "new", starts=False))
    (place.folder / "runs").unlink()
    with pytest.raises(UpgradeError, match="does not come up; the former one is the present one again"):
        upgrade.upgrade(place, "kuberpa-agent==2")
    running(place, "old")
    assert keeper.python_of(place) == tmp_path / "old" / "bin" / "python"
    assert list((place.folder / "versions").iterdir()) == [], "nothing of the new one is left"


@pytest.mark.usefixtures("service")
def test_a_version_whose_doctor_is_not_content_is_never_started(
    place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered(monkeypatch, version(tmp_path, "new", doctor=1))
    with pytest.raises(UpgradeError, match="rotten"):
        upgrade.upgrade(place, "kuberpa-agent==2")
    assert (place.folder / "runs").read_text() == "old"
    assert keeper.python_of(place) == tmp_path / "old" / "bin" / "python"
    with pytest.raises(BlockingIOError):
        selected().lock(place.state / "agent.lock")
