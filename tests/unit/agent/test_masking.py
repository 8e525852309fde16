"""Credentials of a robot do not reach what is recorded of its runs."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent_runs import Bench
from tests.support.descendants import descendants

from kuberpa import wire
from kuberpa.gsettings import LogTuning
from kuberpa_agent.worker.masking import Masking

PASSWORD = "c0rrect horse/β"
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\nEFAASCBKcwggSjAgEAAoIBAQ\n-----END KEY-----\n"


def mount(secrets: Path, name: str, **values: str) -> None:
    """As kubelet does: keys are links into a folder of the present version, which is exchanged at once."""
    folder = secrets / name
    folder.mkdir(parents=True, exist_ok=True)
    version = folder / f"..{len(list(folder.iterdir()))}"
    version.mkdir()
    for key, value in values.items():
        (version / key).write_text(value, encoding="utf-8")
    link = folder / "..new"
    link.symlink_to(version.name)
    link.replace(folder / "..data")
    for key in values:
        if not (folder / key).is_symlink():
            (folder / key).symlink_to(f"..data/{key}")


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    mount(tmp_path / "secrets", "sap", username="robot", password=PASSWORD)
    return tmp_path / "secrets"


@pytest.fixture
async def bench(tmp_path: Path, secrets: Path) -> AsyncIterator[Bench]:
    async with Bench(tmp_path / "state", secrets_dir=secrets) as bench:
        yield bench


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


async def printed(bench: Bench, script: str, **options: Any) -> Any:
    return await bench.run("os.command", shell(script), check=False, **options)


CAT = 'cat "$KUBERPA_SECRETS_DIR/sap/password"; echo; cat "$KUBERPA_SECRETS_DIR/sap/username" >&2; echo >&2'


async def test_a_password_that_a_program_prints_is_masked_in_log_result_and_message(bench: Bench) -> None:
    record = await printed(bench, f'{CAT}; cat "$KUBERPA_SECRETS_DIR/sap/password" >&2; exit 3')
    assert record.text("stdout") == "***\n"
    assert record.text("stderr") == "robot\n***\n"
    assert record.end.result["stdout"] == "***\n"
    assert PASSWORD not in repr(record.end)


async def test_what_lies_on_disk_for_the_panel_is_masked_too(bench: Bench) -> None:
    uid = await bench.start("os.command", shell(CAT))
    await bench.finished(uid)
    for path in bench.directory(uid).rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path


async def test_a_rotated_credential_is_read_and_masked_without_a_restart_and_the_former_one_stays_masked(
    bench: Bench, secrets: Path
) -> None:
    wait = "until [ -e go ]; do sleep 0.05; done"
    uid = await bench.start(
        "os.command", shell(f'{CAT}; cp "$KUBERPA_SECRETS_DIR/sap/password" old; echo kept; {wait}; {CAT}; cat old')
    )
    await bench.printed(uid, "kept")
    mount(secrets, "sap", username="robot", password="another-s3cret")
    await bench.run("os.command", shell("sleep 1.1; touch go"), options={"async": True})
    record = await bench.finished(uid)
    assert record.text("stdout") == "***\nkept\n***\n***\n"


async def test_credentials_are_in_no_environment_and_on_no_command_line(bench: Bench) -> None:
    uid = await bench.start("os.command", shell(f"{CAT}; exec sleep 60"))
    await bench.printed(uid, "***")
    state = json.loads((bench.directory(uid) / "state.json").read_text())
    seen = list(descendants())
    assert {state["shim"], state["payload"]} <= {each.process.pid for each in seen}
    for each in seen:
        assert PASSWORD not in " ".join([*each.command, *each.environment.values()])


def test_values_are_known_whole_percent_encoded_and_line_by_line(tmp_path: Path) -> None:
    mount(tmp_path, "sap", password=PASSWORD, pin="123", username="robot")
    mount(tmp_path, "ssh", id_rsa=KEY)
    masking = Masking(tmp_path)
    assert masking.text(f"https://x:c0rrect%20horse%2F%CE%B2@host {PASSWORD}!") == "https://x:***@host ***!"
    assert masking.text("as robot with 123") == "as robot with 123"
    assert masking.text("MIIEvQIBADANBgkqhkiG9w0BAQ") == "***"
    assert masking.tree({"a": [PASSWORD, 5, None], "b": {"c": f"<{PASSWORD}>"}}) == {
        "a": ["***", 5, None],
        "b": {"c": "<***>"},
    }


def test_a_value_within_a_longer_one_leaves_nothing_of_it(tmp_path: Path) -> None:
    mount(tmp_path, "a", short="secret", long="secret-and-more")
    assert Masking(tmp_path).text("secret-and-more secret") == "*** ***"


def test_without_credentials_nothing_is_masked(tmp_path: Path) -> None:
    assert Masking(None).text("anything") == "anything"
    assert Masking(tmp_path / "missing").tree(["anything"]) == ["anything"]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer ***"),
        ("got eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl back", "got *** back"),
        ("login password=hunter2 Password: s3cret!", "login password=*** Password: ***"),
        ("the password is not here", "the password is not here"),
        ("a bearer of news", "a bearer of news"),
        ("total: 17", "total: 17"),
    ],
)
def test_what_looks_like_a_credential_is_masked_by_the_patterns_of_the_settings(text: str, masked: str) -> None:
    assert Masking(None, LogTuning().mask_patterns).text(text) == masked


def test_groups_of_a_pattern_are_masked_and_all_of_it_without_groups() -> None:
    masking = Masking(None, (r"card (\d+) of (\w+)", r"\bpin\d", "no [pattern", ""))
    assert masking.text("card 4111 of anna, pin7") == "card *** of ***, ***"
    assert masking.tree({"a": ["pin7", 3]}) == {"a": ["***", 3]}


async def test_a_run_masks_what_the_settings_of_its_start_say(bench: Bench) -> None:
    await bench.executor.configure(wire.Settings(mask_patterns=(r"card (\d+)",)))
    record = await printed(bench, "echo card 4111; echo card 4222 >&2")
    assert (record.text("stdout"), record.text("stderr")) == ("card ***\n", "card ***\n")
