import zipfile
from pathlib import Path

import pytest

from kuberpa_cli.errors import KuberpaError
from kuberpa_cli.quickstart import Scenario, guide, publish

QUICKSTART = Path(__file__).parents[3] / "manifests" / "quickstart"
PYPROJECT = """
[project]
name = "tiny-robot"
version = "1.0"
requires-python = ">=3.11"
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[tool.hatch.build.targets.wheel]
packages = ["tiny_robot"]
"""


WHEEL = "tiny_robot-1.0-py3-none-any.whl"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "scenario" / "tiny"
    (folder / "tiny_robot").mkdir(parents=True)
    (folder / "tiny_robot" / "__init__.py").write_text("VALUE = 1\n")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    return folder


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    folder.mkdir()
    return folder


def test_a_scenario_is_its_manifests_and_the_packages_in_its_subfolders(package: Path) -> None:
    folder = package.parent
    (folder / "20-b.yaml").write_text("{kind: B}\n---\n{kind: C}\n")
    (folder / "10-a.yaml").write_text("kind: A\n---\n")
    (folder / "notes.txt").write_text("kind: [")
    assert [body["kind"] for body in Scenario(folder).manifests] == ["A", "B", "C"]
    assert Scenario(folder).packages == (package,)


def test_a_single_file_is_a_scenario_without_packages(package: Path) -> None:
    file = package.parent / "a.yaml"
    file.write_text("kind: A\n")
    assert [body["kind"] for body in Scenario(file).manifests] == ["A"]
    assert Scenario(file).packages == ()


def test_what_is_no_yaml_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: [")
    with pytest.raises(KuberpaError, match="not YAML"):
        _ = Scenario(tmp_path).manifests


async def test_a_package_becomes_a_wheel_that_everybody_can_read_and_its_folder_stays_clean(
    package: Path, shelf: Path
) -> None:
    before = names(package)
    said = await publish(package, shelf)
    assert names(shelf) == [WHEEL]
    wheel = shelf / WHEEL
    assert wheel.stat().st_mode & 0o777 == 0o644
    assert "tiny_robot/__init__.py" in zipfile.ZipFile(wheel).namelist()
    assert "tiny_robot==1.0 is published in" in said
    assert names(package) == before


async def test_a_package_that_changed_under_its_old_version_is_pointed_out(package: Path, shelf: Path) -> None:
    await publish(package, shelf)
    assert "has changed" not in await publish(package, shelf)
    (package / "tiny_robot" / "__init__.py").write_text("VALUE = 2\n")
    assert "only under another version" in await publish(package, shelf)


async def test_a_package_that_cannot_be_built_is_refused_with_the_builders_words(package: Path, shelf: Path) -> None:
    (package / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    with pytest.raises(KuberpaError, match=r"(?s)tiny cannot be built: .*version"):
        await publish(package, shelf)
    assert names(shelf) == []


def test_the_quickstart_shows_both_kinds_of_robot_one_activity_and_one_schedule() -> None:
    kinds = [body["kind"] for body in Scenario(QUICKSTART).manifests]
    assert kinds == ["Robot", "Robot", "ActivityItem", "Schedule"]
    assert [folder.name for folder in Scenario(QUICKSTART).packages] == ["reconcile"]


def test_the_guide_says_what_happens_and_where_to_look() -> None:
    text = guide(Scenario(QUICKSTART).manifests, "http://127.0.0.1:8420")
    for part in (
        "Robot desktop: a Windows pod",
        "Robot accountant: a Linux pod with kuberpa-sample-reconcile==1.0.0",
        "ActivityItem reconcile-october: runs bank.reconcile on accountant",
        "Schedule heartbeat: * * * * * (Europe/Moscow): runs os.command on desktop",
        "kuberpa logs -f reconcile-october",
        "http://127.0.0.1:8420",
    ):
        assert part in text


def test_there_is_no_guide_to_other_peoples_resources() -> None:
    assert guide(({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}},), "http://p") == ""
