"""Whether a run gets a cgroup of its own: only where this process may make one and have it killed."""

import os
from pathlib import Path

import pytest

from kuberpa_agent.platform import cgroup

UNIFIED = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
BOUND = "30 24 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n"
V1 = "25 24 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
HYBRID = f"{V1}31 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("groups", "mounts", "folder"),
    [
        ("0::/\n", UNIFIED, "/sys/fs/cgroup"),
        ("0::/system.slice/agent.service\n", UNIFIED, "/sys/fs/cgroup/system.slice/agent.service"),
        ("9:cpu:/x\n0::/user.slice\n", HYBRID, "/sys/fs/cgroup/unified/user.slice"),
        ("0::/docker/abc/robot\n", BOUND, "/sys/fs/cgroup/robot"),
        ("0::/elsewhere\n", BOUND, None),
        ("9:cpu:/x\n", V1, None),
        ("0::/\n", V1, None),
        ("9:cpu:/x\n", UNIFIED, None),
        ("", "", None),
    ],
    ids=[
        "root",
        "service",
        "hybrid",
        "container",
        "outside of the mount",
        "v1",
        "not mounted",
        "not in one",
        "nothing",
    ],
)
def test_the_own_cgroup_is_found_where_it_is_mounted(groups: str, mounts: str, folder: str | None) -> None:
    assert cgroup.own_folder(groups, mounts) == (Path(folder) if folder else None)


def test_there_is_none_where_no_folder_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "_own", lambda: tmp_path / "missing")
    assert cgroup.create("run") == ""


def test_a_folder_that_is_no_cgroup_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "_own", lambda: tmp_path)
    assert cgroup.create("run") == ""
    assert os.listdir(tmp_path) == []  # noqa: PTH208  names
