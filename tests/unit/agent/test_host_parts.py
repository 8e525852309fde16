"""Parts of a supervisor on their own: attempts with a refused password, the tree of a run, the bundle."""

import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from kuberpa.host import HostReason
from kuberpa_agent.host.bundle import INSTALLER, bundle
from kuberpa_agent.host.channel import COMMAND_CHARS
from kuberpa_agent.host.errors import HostError
from kuberpa_agent.host.guard import PAUSES, Guard
from kuberpa_agent.remote.tree import descendants


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "password").write_text("wrong")
    return folder


@pytest.fixture
def guard(tmp_path: Path, credentials: Path) -> Guard:
    return Guard(tmp_path / "refusals.json", credentials)


def is_open(guard: Guard, now: float) -> bool:
    try:
        guard.check(now)
    except HostError as error:
        return error.reason is not HostReason.CREDENTIALS_REFUSED
    return True


def test_three_attempts_are_made_with_a_refused_password_and_no_more(guard: Guard) -> None:
    now = 1000.0
    for pause in PAUSES:
        guard.refused(now)
        assert not is_open(guard, now + pause - 1)
        now += pause
        assert is_open(guard, now)
    guard.refused(now)
    assert not is_open(guard, now + 10 * 365 * 86_400)


def test_the_count_outlives_the_supervisor_and_ends_with_the_secret(
    guard: Guard, tmp_path: Path, credentials: Path
) -> None:
    for _ in range(3):
        guard.refused(1000.0)
    assert not is_open(Guard(tmp_path / "refusals.json", credentials), 1e9)
    (credentials / "password").write_text("right")
    assert is_open(guard, 1000.0)
    (credentials / "password").write_text("wrong")
    assert not is_open(guard, 1000.0), "the refused one is known again"


def test_an_accepted_password_clears_the_count(guard: Guard) -> None:
    guard.refused(1000.0)
    guard.accepted()
    assert is_open(guard, 1000.0)


def test_neither_the_password_nor_its_plain_hash_is_kept(guard: Guard, tmp_path: Path) -> None:
    guard.refused(1000.0)
    assert "wrong" not in (tmp_path / "refusals.json").read_text()


def test_a_tree_has_the_children_of_a_dead_parent_and_not_those_of_whoever_has_its_pid_now() -> None:
    table = {
        10: (1, 500),  # PID 10 was the root of creation time 100; another process has it now
        11: (10, 150),  # child of the root
        12: (11, 160),  # its child
        13: (10, 50),  # older than the root: its parent was another process of PID 10
        14: (12, 900),
        20: (1, 120),  # no relative
    }
    assert descendants([(10, 100)], table) == {11: 150, 12: 160, 14: 900}
    assert descendants([(11, 150)], table) == {11: 150, 12: 160, 14: 900}
    assert descendants([(11, 151)], table) == {}


def test_the_bundle_is_the_same_whenever_the_code_is_and_small_enough_to_be_sent() -> None:
    name, data = bundle()
    bundle.cache_clear()
    assert bundle() == (name, data)
    assert len(data) < 256 * 1024
    with zipfile.ZipFile(BytesIO(data)) as archive:
        names = set(archive.namelist())
    assert {"boot.py", "kuberpa_agent/remote/calls.py", "kuberpa_agent/worker/shim.py"} <= names
    assert not [each for each in names if "/host/" in each]


def test_the_installer_fits_into_a_command_line() -> None:
    assert len(INSTALLER.encode().hex()) + 300 < COMMAND_CHARS
