from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from kuberpa.host import Supervised
from kuberpa.wire import StreamKind
from kuberpa_agent.bench import Bench
from kuberpa_agent.settings import AgentSettings, SettingsError, read_settings
from kuberpa_agent.visits.services import Services

ENVIRONMENT = {
    "KUBERPA_PANEL_URL": "http://panel:8080",
    "KUBERPA_TOKEN_FILE": "/var/run/secrets/kuberpa/token",
    "KUBERPA_STATE_DIR": "/var/lib/kuberpa",
}


def _no_bench() -> Bench:
    raise AssertionError("nobody opens a console here")


def kinds(settings: AgentSettings) -> set[StreamKind]:
    return set(Services(settings, lambda _: None, lambda: False, _no_bench, lambda _uid, _token: None).by_kind())


def test_a_supervisor_shows_the_screen_and_nothing_of_its_own_machine() -> None:
    own = read_settings(ENVIRONMENT)
    assert kinds(own) == set(StreamKind)
    supervisor = replace(own, host=cast("Supervised", object()))
    assert kinds(supervisor) == {StreamKind.SCREEN, StreamKind.THUMBNAIL, StreamKind.RECORDING}


def test_folders_of_files_must_be_absolute() -> None:
    read = read_settings({**ENVIRONMENT, "KUBERPA_FILE_ROOTS": "/home/robot:/data"})
    assert read.file_roots == (Path("/home/robot"), Path("/data"))
    with pytest.raises(SettingsError, match="KUBERPA_FILE_ROOTS: must be absolute folders"):
        read_settings({**ENVIRONMENT, "KUBERPA_FILE_ROOTS": "data"})
