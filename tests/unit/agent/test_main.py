import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kuberpa import wire
from kuberpa_agent.settings import VARIABLES, SettingsError, read_settings, websocket_url

REQUIRED = {
    "KUBERPA_PANEL_URL": "https://panel.example:8080",
    "KUBERPA_TOKEN_FILE": "/token",
    "KUBERPA_STATE_DIR": "/state",
}


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KUBERPA_")}
    return subprocess.run(
        [sys.executable, "-m", "kuberpa_agent", *arguments],
        env={**clean, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_required_settings_and_defaults_make_a_whole() -> None:
    settings = read_settings(REQUIRED)
    assert settings.panel_url == f"wss://panel.example:8080{wire.PATH}"
    assert (settings.token_file, settings.state_dir) == (Path("/token"), Path("/state"))
    assert (settings.ca_file, settings.secrets_dir, settings.package_index_dir) == (None, None, None)
    assert (settings.grace_seconds, settings.log_level) == (30.0, "INFO")


@pytest.mark.parametrize("missing", sorted(REQUIRED))
def test_a_missing_variable_is_named_with_its_meaning(missing: str) -> None:
    environ = {name: value for name, value in REQUIRED.items() if name != missing}
    with pytest.raises(SettingsError, match=f"{missing} is not set: .+"):
        read_settings(environ)


def test_every_wrong_variable_is_named_at_once() -> None:
    wrong = {**REQUIRED, "KUBERPA_PANEL_URL": "panel", "KUBERPA_GRACE_SECONDS": "soon", "KUBERPA_LOG_LEVEL": "LOUD"}
    with pytest.raises(SettingsError) as caught:
        read_settings(wrong)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "KUBERPA_PANEL_URL",
        "KUBERPA_GRACE_SECONDS",
        "KUBERPA_LOG_LEVEL",
    ]


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "1e9", "ten"])
def test_a_grace_must_be_a_number_of_seconds(value: str) -> None:
    with pytest.raises(SettingsError, match="KUBERPA_GRACE_SECONDS"):
        read_settings({**REQUIRED, "KUBERPA_GRACE_SECONDS": value})


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://p", f"ws://p{wire.PATH}"),
        ("https://p:8443/rpa/", f"wss://p:8443/rpa{wire.PATH}"),
        ("wss://[::1]:9", f"wss://[::1]:9{wire.PATH}"),
    ],
)
def test_the_panels_base_url_becomes_that_of_its_websocket(base: str, url: str) -> None:
    assert websocket_url(base) == url


@pytest.mark.parametrize(
    "base",
    ["ftp://p", "//p", "https://", "https://user:pw@p", "https://p?x=1", "https://p#x", "https://p:99999", ""],
)
def test_what_is_no_plain_url_is_refused(base: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        websocket_url(base)


def test_a_password_in_the_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({**REQUIRED, "KUBERPA_PANEL_URL": "https://user:s3cret@p"})
    assert "s3cret" not in str(caught.value)


def test_the_help_text_explains_every_variable() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    for variable in VARIABLES:
        assert f"  {variable.name} (" in shown.stdout
        assert variable.meaning in shown.stdout


def test_wrong_settings_end_the_program_with_an_explanation() -> None:
    ended = run()
    assert ended.returncode == 2
    assert "KUBERPA_PANEL_URL is not set" in ended.stderr
    assert "--help" in ended.stderr


def test_logs_are_json_lines_on_stderr_and_never_show_the_token() -> None:
    code = (
        "import logging; from kuberpa_agent.logs import set_up_logging; set_up_logging('DEBUG');"
        "logging.getLogger('websockets.client').debug('> Authorization: Bearer s3cret');"
        "logging.getLogger('x').info('привет %s', 'мир', extra={'robot': 'default/r'})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    (line,) = ran.stderr.splitlines()
    record = json.loads(line)
    assert (record["level"], record["logger"], record["message"]) == ("INFO", "x", "привет мир")
    assert record["robot"] == "default/r"
    assert record["time"].endswith("+00:00")
