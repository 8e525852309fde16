"""What `kuberpa queue show` says of a queue."""

from io import StringIO
from typing import Any

from kuberpa_cli.queues import show
from kuberpa_cli.work.screen import Format, Screen

STATUS: dict[str, Any] = {
    "conditions": [
        {"type": "Ready", "status": "True", "reason": "Accepting", "lastTransitionTime": "2026-01-05T08:00:00Z"}
    ],
    "trigger": {"reason": "Deadline", "message": "5 robots for 50 items"},
    "deadlines": [{"by": f"2026-01-05T{hour:02}:00:00Z", "items": 10 * hour} for hour in range(9, 14)],
    "forecast": {
        "madeAt": "2026-01-05T08:00:00Z",
        "robots": 2,
        "p50At": "2026-01-05T09:00:00Z",
        "p90At": "2026-01-05T09:30:00Z",
        "robotsNeeded": 3,
    },
}


def test_conditions_trigger_the_first_deadlines_and_the_forecast_are_told() -> None:
    out = StringIO()
    body = {"metadata": {"name": "invoices", "namespace": "default"}, "spec": {}, "status": STATUS}
    show.queue(Screen(out=out), body, Format.TABLE)
    lines = out.getvalue().splitlines()
    assert "Ready: True (Accepting) " in lines
    assert "Trigger: Deadline: 5 robots for 50 items" in lines
    assert (
        "Due: 90 items by 2026-01-05T09:00:00Z, 100 items by 2026-01-05T10:00:00Z, 110 items by 2026-01-05T11:00:00Z"
        in lines
    )
    assert lines[-1].endswith("(nine in ten) with 2 robots; 3 robots would meet the SLA")
