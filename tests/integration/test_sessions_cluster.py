"""Sessions through the whole: spec, agent, panel, operator, and what waits for them."""

import base64
import io
import json
from typing import Any

from PIL import Image
from tests.support.faults import Night, eventually, manifest


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
    assert night.ends("sees", "Succeeded")["status"].get("result", []) == []
    status = night.get("robot", "desk")["status"]
    assert (status["session"]["state"], status["session"]["width"]) == ("Active", 640)
    assert status["pod"]["uid"] == pod, "a session is no reason for another pod"
    eventually(lambda: condition(night, "desk").get("status") == "True", "the condition says so")
    item(night, "shows", "session.screenshot", robot="desk", format="png")
    picture = night.ends("shows", "Succeeded")["status"]["result"]
    assert Image.open(io.BytesIO(base64.b64decode(picture["data"]))).size == (640, 480)
    item(night, "ends", "session.logoff", robot="desk")
    assert night.ends("ends", "Succeeded")["status"]["result"] == {"windows": 0}
    events = night.objects("events", "--field-selector", "involvedObject.name=desk")
    assert "SessionActive" in {event["reason"] for event in events}
