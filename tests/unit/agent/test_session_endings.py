from pathlib import Path

import pytest

from kuberpa_agent.desktop.ending import PAUSES, Ending, Stage, conclude, wait_seconds
from kuberpa_agent.desktop.freerdp import Account, AccountError, Target


@pytest.mark.parametrize(
    ("code", "stage", "ending"),
    [
        (154, Stage.AUTHENTICATING, Ending.CREDENTIALS_REFUSED),
        (135, Stage.AUTHENTICATING, Ending.CREDENTIALS_REFUSED),
        (147, Stage.AUTHENTICATING, Ending.CREDENTIALS_REFUSED),
        (-9, Stage.AUTHENTICATING, Ending.CREDENTIALS_REFUSED),
        (147, Stage.NEGOTIATING, Ending.REFUSED),
        (147, Stage.REACHING, Ending.UNREACHABLE),
        (147, Stage.ACTIVE, Ending.LOST),
        (131, Stage.ACTIVE, Ending.LOST),
        (0, Stage.ACTIVE, Ending.LOST),
        (2, Stage.ACTIVE, Ending.LOGGED_OFF),
        (12, Stage.ACTIVE, Ending.LOGGED_OFF),
        (5, Stage.ACTIVE, Ending.TAKEN_OVER),
        (143, Stage.NEGOTIATING, Ending.CERTIFICATE_INVALID),
        (140, Stage.NEGOTIATING, Ending.UNREACHABLE),
        (-11, Stage.ACTIVE, Ending.CLIENT_FAILED),
        (128, Stage.REACHING, Ending.CLIENT_FAILED),
    ],
)
def test_exit_code_and_stage_tell_why_a_connection_ended(code: int, stage: Stage, ending: Ending) -> None:
    assert conclude(code, stage)[0] is ending


def test_waits_double_up_to_their_longest() -> None:
    waits = [wait_seconds(Ending.LOST, n) for n in range(1, 9)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert wait_seconds(Ending.UNREACHABLE, 10**6) == 60


def test_refused_credentials_are_tried_twice_and_then_other_ones_are_waited_for() -> None:
    assert [wait_seconds(Ending.CREDENTIALS_REFUSED, n) for n in (1, 2, 3)] == [30, None, None]


def test_each_ending_has_a_pause() -> None:
    assert set(PAUSES) == set(Ending)


def test_neither_command_nor_representation_has_anything_of_the_account() -> None:
    account, target = Account("robo", "s3cret", "CORP"), Target("vdi-7", 3390, 1000, 700)
    command = target.command(Path("/x/connection.rdp"))
    assert not {"robo", "s3cret", "CORP"} & set(" ".join(command).replace(":", " ").split())
    assert "s3cret" not in repr(account)
    assert target.connection_file(account) == "full address:s:vdi-7:3390\nusername:s:robo\ndomain:s:CORP\n"
    assert "/cert:deny" in command
    assert "/size:1000x700" in command


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"username": "robo"}, "no key 'password'"),
        ({"password": "x"}, "no key 'username'"),
        ({"username": "robo\nfull address:s:evil", "password": "x"}, "must be one line"),
        ({"username": "robo", "password": "x\0y"}, "must be one line"),
    ],
)
def test_a_secret_that_lacks_something_is_told_by_key(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for key, value in files.items():
        (tmp_path / key).write_text(value)
    with pytest.raises(AccountError, match=message):
        Account.read(tmp_path)


def test_a_trailing_newline_is_not_part_of_a_password(tmp_path: Path) -> None:
    (tmp_path / "username").write_text("robo\n")
    (tmp_path / "password").write_text("pässword \r\n")
    assert Account.read(tmp_path) == Account("robo", "pässword ")
