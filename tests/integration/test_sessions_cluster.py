"""Sessions through the whole: spec, agent, panel, operator, and what waits for them."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.support.faults import Night, eventually, manifest
from tests.support.rdp import PASSWORD, USER, Server, xrdp


def item(night: Night, name: str, definition: str, *args: Any, robot: str, **kwargs: Any) -> None:
    spec = {"robotRef": {"name": robot}, "def": definition, "input": {"args": list(args), "kwargs": kwargs}}
    night.apply(manifest("ActivityItem", name, spec))


def pending_for(night: Night, name: str, reason: str) -> None:
    eventually(
        lambda: night.get("activityitem", name).get("status", {}).get("reason") == reason, f"{name} waits: {reason}"
    )


def condition(night: Night, robot: str) -> dict[str, Any]:
    found = night.get("robot", robot).get("status", {}).get("conditions", [])
    return next((c for c in found if c["type"] == "SessionActive"), {})


def test_work_with_windows_waits_for_a_session_is_done_in_it_and_pictured(night: Night) -> None:
    night.robot("desk")
    item(night, "sees", "window.list", robot="desk")
    pending_for(night, "sees", "NoSession")
    message = night.get("activityitem", "sees")["status"]["message"]
    assert "spec.session.type: Console would give it one" in message
    pod = night.get("robot", "desk")["status"]["pod"]["uid"]
    session = {"type": "Console", "width": 640, "height": 480}
    night.cluster.kubectl("patch", "robot", "desk", "--type=merge", "-p", json.dumps({"spec": {"session": session}}))
    assert night.ends("sees", "Succeeded").get("result", []) == []
    status = night.get("robot", "desk")["status"]
    assert (status["session"]["state"], status["session"]["width"]) == ("Active", 640)
    assert status["pod"]["uid"] == pod, "a session is no reason for another pod"
    eventually(lambda: condition(night, "desk").get("status") == "True", "the condition says so")
    item(night, "shows", "session.screenshot", robot="desk", format="png")
    picture = night.ends("shows", "Succeeded")["result"]
    assert Image.open(io.BytesIO(base64.b64decode(picture["data"]))).size == (640, 480)
    item(night, "ends", "session.logoff", robot="desk")
    assert night.ends("ends", "Succeeded")["result"] == {"windows": 0}
    events = night.objects("events", "--field-selector", "involvedObject.name=desk")
    assert "SessionActive" in {event["reason"] for event in events}


RDP_TYPED = "xterm -geometry 60x10+0+0 -e sh -c 'while read -r line; do echo \"$line\" >>~/typed; done'"


@pytest.fixture
def desktop(tmp_path: Path) -> Iterator[Server]:
    with xrdp(tmp_path, f'xsetroot -solid "#2060a0"; exec {RDP_TYPED}') as server:
        yield server


def test_an_rdp_session_that_is_cut_comes_back_and_work_waits_for_it(night: Night, desktop: Server) -> None:
    night.apply(
        secret("vdi", username=USER, password=PASSWORD),
        secret("vdi-ca", **{"ca.crt": desktop.certificate.read_text()}),
    )
    rdp = {"address": "localhost", "port": desktop.port, "security": "TLS", "caSecretRef": {"name": "vdi-ca"}}
    session = {"type": "RDP", "width": 900, "height": 600, "rdp": rdp, "credentialsSecretRef": {"name": "vdi"}}
    night.robot("remote", session=session)
    eventually(lambda: condition(night, "remote").get("status") == "True", "the session is active")
    item(night, "first", "input.send", typed("one"), robot="remote")
    night.ends("first", "Succeeded")
    eventually(lambda: lines() == ["one"], "the first line")
    desktop.stop()
    eventually(lambda: condition(night, "remote").get("reason") == "SessionDisconnected", "the session is gone")
    item(night, "second", "input.send", typed("two"), robot="remote")
    pending_for(night, "second", "SessionDisconnected")
    desktop.start()
    night.ends("second", "Succeeded")
    eventually(lambda: lines() == ["one", "two"], "the second line, in the same terminal")
    item(night, "picture", "session.screenshot", robot="remote", format="png", max_width=300)
    data = night.ends("picture", "Succeeded")["result"]["data"]
    assert Image.open(io.BytesIO(base64.b64decode(data))).getpixel((283, 183)) == (0x20, 0x60, 0xA0)
    said = json.dumps([night.get("robot", "remote"), night.objects("events"), night.objects("pods")])
    assert PASSWORD not in said
    night.cluster.kubectl("delete", "robot", "remote")


def typed(text: str) -> list[dict[str, Any]]:
    return [{"move": [400, 300]}, {"move": [100, 50]}, {"text": text}, {"key": "Enter"}]


def lines() -> list[str]:
    path = Path(f"~{USER}/typed").expanduser()
    return path.read_text().splitlines() if path.exists() else []


def secret(name: str, **values: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
