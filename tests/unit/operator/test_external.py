"""Robots outside of the cluster: the agent that is enrolled stands where others have their pod."""

from datetime import UTC, datetime
from typing import Any

import pytest

from kuberpa.reasons import Reason
from kuberpa.robot import Robot, RobotPhase, RobotStatus
from kuberpa_operator.core import external
from kuberpa_operator.core.effects import DeletePod, ProtectPod
from kuberpa_operator.core.robot import decide
from kuberpa_operator.core.robot_snapshot import Snapshot

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ENROLLED = {"id": "e1", "hostname": "desk"}


def robot(spec: dict[str, Any] | None = None, annotations: dict[str, str] | None = None, **status: Any) -> Robot:
    return Robot.of(
        {
            "metadata": {
                "name": "r",
                "namespace": "n",
                "uid": "u",
                "generation": 2,
                "annotations": annotations or {},
            },
            "spec": {"runtime": {"external": {}}, **(spec or {})},
            "status": status,
        }
    )


def agent(state: str = "Running", *, settled: bool = False, generation: int = 2, **fields: Any) -> dict[str, Any]:
    control = {"state": state, "settled": settled, "generation": generation}
    return {
        "identity": "e1",
        "connected": True,
        "server": "p",
        "epoch": 1,
        "definitions": ["os.command"],
        "packages": {"state": "None"},
        "control": control,
        **fields,
    }


def snapshot(given: Robot, *, server_fresh: bool = True, running: int = 0) -> Snapshot:
    pod = external.place(given, server_fresh=server_fresh, busy=running > 0)
    return Snapshot(robot=given, now=NOW, template=None, pod=pod, server_fresh=server_fresh, running=running)


def look(given: Robot, **options: Any) -> tuple[RobotPhase, Reason]:
    decision = decide(snapshot(given, **options))
    assert not any(isinstance(effect, DeletePod | ProtectPod) for effect in decision.effects)
    return written(given, **options).phase, decision.reason


def written(given: Robot, **options: Any) -> RobotStatus:
    status = decide(snapshot(given, **options)).status
    assert isinstance(status, RobotStatus)
    return status


def test_without_an_enrolment_it_says_how_to_enrol() -> None:
    assert look(robot()) == (RobotPhase.PENDING, Reason.NOT_ENROLLED)
    assert "kuberpa enroll r" in written(robot()).message


def test_enrolled_it_waits_for_its_agent_and_then_for_work() -> None:
    assert look(robot(enrolment=ENROLLED)) == (RobotPhase.STARTING, Reason.AGENT_NOT_CONNECTED_YET)
    assert look(robot(enrolment=ENROLLED, agent=agent())) == (RobotPhase.IDLE, Reason.IDLE)
    assert look(robot(enrolment=ENROLLED, agent=agent()), running=1) == (RobotPhase.BUSY, Reason.BUSY)


def test_the_agent_of_a_former_enrolment_counts_for_nothing() -> None:
    given = robot(enrolment=ENROLLED, agent=agent(identity="e0"))
    assert look(given) == (RobotPhase.STARTING, Reason.AGENT_NOT_CONNECTED_YET)


STOP = {"desiredState": "Stopped"}
WORKED = {"pod": {"name": "", "uid": "e1"}}


@pytest.mark.parametrize("state", ["Stopping", "Killing"])
def test_stopped_is_said_when_its_agent_says_that_nothing_runs(state: str) -> None:
    given = robot(STOP, enrolment=ENROLLED, agent=agent(state, settled=True), **WORKED)
    assert look(given) == (RobotPhase.STOPPED, Reason.ROBOT_STOPPED)
    assert written(given).pod is None


@pytest.mark.parametrize(
    "said",
    [
        agent("Stopping"),
        agent("Running", settled=True),
        agent("Stopping", settled=True, generation=1),
        agent("Stopping", settled=True, connected=False),
    ],
    ids=["not settled", "not told", "of an earlier wish", "away"],
)
def test_until_then_it_is_stopping(said: dict[str, Any]) -> None:
    given = robot(STOP, enrolment=ENROLLED, agent=said, **WORKED)
    assert look(given) == (RobotPhase.STOPPING, Reason.ROBOT_STOPPING)


def test_what_an_agent_said_counts_only_while_its_replica_lives() -> None:
    given = robot(STOP, enrolment=ENROLLED, agent=agent("Stopping", settled=True), **WORKED)
    assert look(given, server_fresh=False)[0] is RobotPhase.STOPPING


def test_nothing_is_stopped_while_an_activity_is_not_over() -> None:
    given = robot(STOP, enrolment=ENROLLED, agent=agent("Stopping", settled=True), **WORKED)
    assert look(given, running=1)[0] is RobotPhase.STOPPING


def test_a_stopped_robot_whose_agent_is_away_is_not_said_to_be_stopped() -> None:
    given = robot(STOP, enrolment=ENROLLED, agent=agent("Stopping", settled=True, connected=False))
    assert look(given)[0] is RobotPhase.STOPPING


def test_a_restart_ends_what_runs_and_goes_on_once() -> None:
    wish = {"kuberpa.dev/restarted-at": "w2"}
    before = {"pod": {"name": "", "uid": "e1", "restartedAt": "w1"}}
    going = robot(annotations=wish, enrolment=ENROLLED, agent=agent(), **before)
    assert look(going) == (RobotPhase.STOPPING, Reason.ROBOT_RESTARTING)
    over = robot(annotations=wish, enrolment=ENROLLED, agent=agent("Stopping", settled=True), **before)
    assert (written(over).phase, written(over).pod) == (RobotPhase.PENDING, None)
    again = robot(annotations=wish, enrolment=ENROLLED, agent=agent("Stopping", settled=True))
    assert written(again).pod is not None
    answered = {"pod": {"name": "", "uid": "e1", "restartedAt": "w2"}}
    assert look(robot(annotations=wish, enrolment=ENROLLED, agent=agent(), **answered))[0] is RobotPhase.IDLE


def test_another_enrolment_is_another_place() -> None:
    given = robot(enrolment={"id": "e2"}, agent=agent(), **WORKED)
    place = external.place(given, server_fresh=True, busy=False)
    assert place is not None
    assert place.uid == "e2"
    assert look(given)[0] is RobotPhase.STARTING
