import json

import pytest
from pydantic import ValidationError

from kuberpa import wire
from kuberpa.model import Model

START = wire.Start(uid="u-1", token=1, namespace="default", name="x", definition="os.command", input={"args": [1]})


@pytest.mark.parametrize(
    "message",
    [
        START,
        wire.Stop(uid="u-1", token=1),
        wire.Kill(uid="u-1", token=1),
        wire.Ack(uid="u-1", token=1, seq=7, finished=True),
        wire.Configure(settings=wire.Settings(packages=("a==1",))),
    ],
    ids=lambda message: message.type,
)
def test_what_the_panel_sends_is_what_the_agent_reads(message: Model) -> None:
    assert wire.FROM_PANEL.validate_json(wire.encode(message)) == message


def test_field_names_on_the_wire_are_camel_case_and_stable() -> None:
    assert json.loads(wire.encode(START)) == {
        "type": "start",
        "uid": "u-1",
        "token": 1,
        "namespace": "default",
        "name": "x",
        "attempt": 1,
        "def": "os.command",
        "input": {"args": [1]},
        "inject": {},
        "async": False,
        "program": False,
        "gracePeriodSeconds": 30,
        "retryable": False,
    }


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        ("not json", "Invalid JSON"),
        ("{}", "type"),
        ('{"type": "reboot"}', "reboot"),
        ('{"type": "started", "uid": "../../etc", "token": 1}', "uid"),
        ('{"type": "started", "uid": "u", "token": 0}', "token"),
        ('{"type": "output", "uid": "u", "token": 1, "lines": []}', "lines"),
        ('{"type": "progress", "uid": "u", "token": 1, "fraction": 7}', "fraction"),
    ],
)
def test_a_frame_that_is_no_message_is_refused_naming_what_is_wrong(frame: str, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        wire.FROM_AGENT.validate_json(frame)


def test_a_newer_peer_may_add_fields() -> None:
    message = wire.FROM_AGENT.validate_python({"type": "started", "uid": "u", "token": 1, "cpu": "x86"})
    assert message == wire.Started(uid="u", token=1)
