"""Sessions of hosts in parts: what two witnesses together have seen, whose a session is, what a task says."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from kuberpa.session import Observed, Session, SessionState
from kuberpa_agent.host.session import judge
from kuberpa_agent.platform import wts
from kuberpa_agent.remote import task

RDP = Session.of({"type": "RDP", "width": 900, "height": 600, "credentialsSecretRef": {"name": "x"}})
CONSOLE = Session.of({"type": "Console"})
STANDS = Observed(state=SessionState.ACTIVE, width=900, height=600, user="robot", id=3)
WORKS = Observed(state=SessionState.ACTIVE, width=900, height=600, user=r"CORP\robot", id=3)
ABSENT = Observed(cause="AgentNotInSession", message="nobody is logged on")


def seen(held: Observed | None, said: Observed, wanted: Session = RDP) -> tuple[str, str]:
    found = judge(wanted, held, said)
    return found.state, found.cause


def test_a_session_over_rdp_is_active_only_when_the_connection_stands_and_the_agent_inside_says_so() -> None:
    assert seen(STANDS, WORKS) == ("Active", "")
    assert seen(None, WORKS) == ("None", "")
    assert seen(STANDS, ABSENT) == ("None", "AgentNotInSession")
    lost = Observed(state=SessionState.DISCONNECTED, cause="Lost")
    assert seen(lost, WORKS) == ("Disconnected", "Lost")
    off = Observed(state=SessionState.LOGGED_OFF, cause="LoggedOff")
    assert seen(off, ABSENT) == ("LoggedOff", "LoggedOff")


@pytest.mark.parametrize("state", [SessionState.LOCKED, SessionState.DISCONNECTED, SessionState.LOGGED_OFF])
def test_what_the_agent_inside_says_counts_although_the_connection_stands(state: SessionState) -> None:
    assert judge(RDP, STANDS, Observed(state=state)).state is state


def test_at_the_console_the_agent_inside_is_the_only_witness() -> None:
    assert seen(None, WORKS, CONSOLE) == ("Active", "")
    assert seen(None, ABSENT, CONSOLE) == ("None", "AgentNotInSession")


@pytest.mark.parametrize(
    ("wanted", "same"),
    [
        ("robot", True),
        (r"CORP\Robot", True),
        ("robot@corp.example", True),
        (r".\robot", True),
        (r"OTHER\robot", False),
        ("robots", False),
        ("", False),
    ],
)
def test_an_account_is_known_however_people_write_it(wanted: str, same: bool) -> None:
    assert wts.is_same_user(wanted, "robot", "CORP") is same


def test_a_session_without_a_user_is_nobodys() -> None:
    assert not wts.is_same_user("", "", "")


@pytest.mark.parametrize(
    ("session", "connection", "flags", "state"),
    [(0, 0, 1, "None"), (2, 0, 1, "Active"), (2, 0, 0, "Locked"), (2, 4, 1, "Disconnected"), (2, 8, 1, "LoggedOff")],
)
def test_what_windows_says_of_a_session_has_one_name(session: int, connection: int, flags: int, state: str) -> None:
    assert wts.state_of(session, connection, flags) == state
    assert state in set(SessionState)


def test_a_task_says_what_is_started_for_whom_and_bears_every_letter() -> None:
    robot = Path("robots/u-1")
    command = [r"C:\Program Files\Python & Co\pythonw.exe", "-X", "utf8", r"C:\x y\boot.py", "<robot>"]
    text = task.text_of(robot, r"CORP\müller & sön", command)
    root = ET.fromstring(text.partition("?>")[2])
    words = {each.tag.rpartition("}")[2]: each.text for each in root.iter()}
    assert words["UserId"] == r"CORP\müller & sön"
    assert words["Command"] == command[0]
    assert words["Arguments"] == r'-X utf8 "C:\x y\boot.py" <robot>'
    assert (words["LogonType"], words["RunLevel"]) == ("InteractiveToken", "LeastPrivilege")
    assert (words["ExecutionTimeLimit"], words["MultipleInstancesPolicy"]) == ("PT0S", "IgnoreNew")
    assert (words["DisallowStartIfOnBatteries"], words["StopIfGoingOnBatteries"]) == ("false", "false")
    assert task.name_of(robot) == r"kuberpa\u-1"
