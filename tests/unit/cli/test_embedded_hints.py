"""What `kuberpa up` tells people to type works in the shell that they have."""

from pathlib import Path

import pytest

from kuberpa_cli.commands import embedded
from kuberpa_cli.embedded import paths as places
from kuberpa_cli.embedded.parts import programs
from kuberpa_cli.embedded.run import Run

PROGRAM = programs.script("kuberpa")


def commands() -> set[str]:
    """What the hints tell people to type."""
    run = Run(1, 0.0, "2026-11-26T00:00:00+00:00", panel="http://panel", server="https://server")
    text = embedded.describe(run, places.from_environment())
    return {line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith(("Use it:", "End it:"))}


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A shell in an empty folder, whose PATH has nothing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_a_program_that_path_does_not_find_is_called_by_its_path(shell: pytest.MonkeyPatch) -> None:
    assert f"{PROGRAM} down" in commands()


def test_a_program_below_the_present_folder_is_called_from_there(shell: pytest.MonkeyPatch) -> None:
    shell.chdir(PROGRAM.parents[1])
    assert "bin/kuberpa down" in commands()


def test_a_program_that_path_finds_is_called_by_its_name(shell: pytest.MonkeyPatch) -> None:
    shell.setenv("PATH", str(PROGRAM.parent))
    assert "kuberpa down" in commands()
    assert 'eval "$(kuberpa env)"; kubectl get robots,activityitems,schedules' in commands()


def test_another_program_of_the_name_is_not_meant(shell: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "kuberpa"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    assert f"{PROGRAM} down" in commands()
