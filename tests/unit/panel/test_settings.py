from pathlib import Path

import pytest

from kuberpa_panel.main import _parser
from kuberpa_panel.settings import VARIABLES, Settings, SettingsError


@pytest.fixture
def url_file(tmp_path: Path) -> Path:
    file = tmp_path / "url"
    file.write_text("postgresql://kuberpa@db/kuberpa\n")
    return file


def test_only_the_database_must_be_named(url_file: Path) -> None:
    settings = Settings.from_environ({"KUBERPA_DATABASE_URL_FILE": str(url_file)})
    assert (settings.host, settings.port, settings.namespace) == ("0.0.0.0", 8080, "kuberpa-system")
    assert settings.database_url() == "postgresql://kuberpa@db/kuberpa"
    assert settings.watch_namespaces == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KUBERPA_LISTEN", "8080"),
        ("KUBERPA_LISTEN", "host:70000"),
        ("KUBERPA_LOST_AFTER_SECONDS", "soon"),
        ("KUBERPA_LOST_AFTER_SECONDS", "0"),
        ("KUBERPA_LOG_LEVEL", "LOUD"),
        ("KUBERPA_DATABASE_URL_FILE", "/nowhere"),
        ("KUBERPA_TLS_CERT_FILE", __file__),
    ],
)
def test_a_wrong_variable_is_named(url_file: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environ({"KUBERPA_DATABASE_URL_FILE": str(url_file), name: value})


def test_a_file_without_a_url_is_named_without_its_content(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("hunter2")
    with pytest.raises(SettingsError) as caught:
        Settings(file).database_url()
    assert "hunter2" not in str(caught.value)


def test_a_short_session_key_is_refused(url_file: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"short")
    with pytest.raises(SettingsError, match="KUBERPA_SESSION_KEY_FILE"):
        Settings(url_file, session_key_file=key).session_key()


def test_help_names_every_variable() -> None:
    text = _parser().format_help()
    assert [name for name in VARIABLES if name not in text] == []
