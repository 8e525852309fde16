from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.agent_panel import start

from kuberpa import wire
from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason
from kuberpa_agent.session import (
    MAX_HELLO_RUNS,
    Acknowledge,
    Begin,
    Configure,
    End,
    Forget,
    Phase,
    ProtocolError,
    Replay,
    Resume,
    Session,
)

AT = datetime(2026, 11, 24, tzinfo=UTC)
KEY = ("u", 1)


def hello(*runs: wire.RunState) -> wire.Hello:
    return wire.Hello(version="1", clock=AT, runs=runs)


def welcome() -> str:
    return wire.encode(wire.Welcome(robot="r", namespace="default", server="p", epoch=1, settings=wire.Settings()))


def live() -> Session:
    session = Session()
    connect(session)
    return session


def connect(session: Session) -> None:
    session.opened(hello())
    session.receive(welcome())


def lines(first: int, last: int, uid: str = "u") -> wire.Output:
    return wire.Output(
        uid=uid,
        token=1,
        lines=tuple(wire.Line(seq=n, time=AT, stream="stdout", text=f"line {n}") for n in range(first, last + 1)),
    )


def finished(last_seq: int = 0, uid: str = "u") -> wire.Finished:
    return wire.Finished(uid=uid, token=1, outcome=Outcome.SUCCEEDED, reason=Reason.COMPLETED, last_seq=last_seq)


def sent(session: Session) -> list[Any]:
    messages = []
    while (message := session.outbox.take(0.0)) is not None:
        messages.append(message)
    return messages


def sent_seqs(session: Session) -> list[int]:
    return [line.seq for message in sent(session) if isinstance(message, wire.Output) for line in message.lines]


def test_a_welcome_applies_the_settings_before_everything_is_replayed() -> None:
    session = Session()
    session.opened(hello())
    assert session.receive(welcome()) == (Configure(wire.Settings()), Replay(), Resume())
    assert session.phase is Phase.LIVE


def test_nothing_is_queued_before_the_welcome() -> None:
    session = Session()
    session.opened(hello())
    session.offer(lines(1, 3))
    session.offer(finished(3))
    assert session.outbox.empty


def test_what_was_queued_for_a_lost_connection_is_not_sent_on_the_next_one() -> None:
    session = live()
    session.offer(lines(1, 3))
    session.closed()
    connect(session)
    assert sent(session) == []


def test_after_a_reconnect_the_replay_is_sent_and_late_events_of_before_are_not() -> None:
    session = live()
    session.offer(lines(1, 3))
    sent(session)
    session.closed()
    connect(session)
    session.offer(lines(4, 5))  # was on its way when the connection broke: lines 1 to 3 must come first
    assert sent_seqs(session) == []
    session.offer(lines(1, 5))
    assert sent_seqs(session) == [1, 2, 3, 4, 5]


def test_a_replay_continues_after_the_last_acknowledged_line() -> None:
    session = live()
    session.offer(lines(1, 5))
    sent(session)
    session.receive(wire.encode(wire.Ack(uid="u", token=1, seq=3)))
    session.closed()
    connect(session)
    session.offer(lines(1, 5))
    assert sent_seqs(session) == [4, 5]


def test_an_adopted_attempt_begins_where_its_spool_begins() -> None:
    session = live()
    session.offer(lines(101, 102))
    assert sent_seqs(session) == [101, 102]


def test_an_acknowledgement_on_hello_spares_lines_that_the_panel_already_has() -> None:
    session = live()
    assert session.receive(wire.encode(wire.Ack(uid="u", token=1, seq=7))) == (Acknowledge(KEY, 7),)
    session.offer(lines(5, 9))
    assert sent_seqs(session) == [8, 9]


def test_finished_is_not_sent_before_the_last_line() -> None:
    session = live()
    session.offer(lines(1, 2))
    session.closed()
    connect(session)
    session.offer(finished(2))
    assert sent(session) == []
    session.offer(lines(1, 2))
    session.offer(finished(2))
    assert [type(message) for message in sent(session)] == [wire.Output, wire.Finished]


def test_finished_without_new_lines_is_sent_when_all_were_acknowledged_earlier() -> None:
    session = live()
    session.offer(finished(12))
    assert sent(session) == [finished(12)]


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 5)), max_size=30), st.lists(st.integers(0, 29)))
def test_the_panel_never_sees_a_gap_whatever_is_offered(ranges: list[tuple[int, int]], breaks: list[int]) -> None:
    session = live()
    session.offer(lines(1, 1))
    stored = max(sent_seqs(session))
    for index, (first, count) in enumerate(ranges):
        if index in breaks:
            session.closed()
            connect(session)
        session.offer(lines(first, first + count))
        for seq in sent_seqs(session):
            assert seq <= stored + 1
            stored = max(stored, seq)


def test_an_acknowledged_result_is_forgotten() -> None:
    session = live()
    session.offer(lines(1, 2))
    session.offer(finished(2))
    frame = wire.encode(wire.Ack(uid="u", token=1, seq=2, finished=True))
    assert session.receive(frame) == (Acknowledge(KEY, 2), Forget(KEY))


def test_an_older_acknowledgement_is_ignored() -> None:
    session = live()
    session.receive(wire.encode(wire.Ack(uid="u", token=1, seq=5)))
    assert session.receive(wire.encode(wire.Ack(uid="u", token=1, seq=4))) == ()


def test_a_start_is_begun_once_however_often_it_comes_while_it_is_under_way() -> None:
    session = live()
    job = start("u", "os.command")
    assert session.receive(wire.encode(job)) == (Begin(job),)
    assert session.receive(wire.encode(job)) == ()


def test_a_start_under_way_is_listed_as_running_in_the_next_hello() -> None:
    session = live()
    session.receive(wire.encode(start("u", "os.command")))
    session.closed()
    other = wire.RunState(uid="v", token=2, running=False)
    assert session.opened(hello(other)).runs == (wire.RunState(uid="u", token=1, running=True), other)


def test_hello_lists_running_attempts_first_when_there_are_too_many() -> None:
    ended = [wire.RunState(uid=f"e{n}", token=1, running=False) for n in range(MAX_HELLO_RUNS)]
    running = wire.RunState(uid="r", token=1, running=True)
    listed = Session().opened(wire.Hello.model_construct(version="1", clock=AT, runs=(*ended, running))).runs
    assert listed[0] == running
    assert len(listed) == MAX_HELLO_RUNS


def test_a_refusal_is_told_and_lets_the_same_start_come_again() -> None:
    session = live()
    job = start("u", "os.command")
    session.receive(wire.encode(job))
    session.refused(KEY, Reason.ROBOT_BUSY, "all slots are taken")
    assert [message.reason for message in sent(session)] == [Reason.ROBOT_BUSY]
    assert session.receive(wire.encode(job)) == (Begin(job),)


def test_while_draining_a_start_is_handed_back() -> None:
    session = live()
    session.draining = True
    assert session.receive(wire.encode(start("u", "os.command"))) == ()
    assert [(type(m), m.reason) for m in sent(session)] == [(wire.Refused, Reason.ROBOT_BUSY)]


def test_stop_and_kill_reach_the_executor_with_their_grace() -> None:
    session = live()
    assert session.receive(wire.encode(wire.Stop(uid="u", token=1, grace_period_seconds=7))) == (End(KEY, 7.0),)
    assert session.receive(wire.encode(wire.Kill(uid="u", token=1))) == (End(KEY, None),)


@pytest.mark.parametrize(
    ("killed", "outcome", "reason"),
    [(False, Outcome.STOPPED, Reason.STOP_REQUESTED), (True, Outcome.KILLED, Reason.KILL_REQUESTED)],
)
def test_an_attempt_that_never_ran_is_reported_as_ended_until_that_is_acknowledged(
    killed: bool, outcome: Outcome, reason: Reason
) -> None:
    session = live()
    session.ended_before_start(KEY, killed=killed)
    assert [(m.outcome, m.reason) for m in sent(session)] == [(outcome, reason)]
    session.closed()
    connect(session)
    assert [m.outcome for m in sent(session)] == [outcome]
    session.receive(wire.encode(wire.Ack(uid="u", token=1, finished=True)))
    session.closed()
    connect(session)
    assert sent(session) == []


def test_an_attempt_that_was_reported_as_ended_is_never_started_afterwards() -> None:
    session = live()
    session.ended_before_start(KEY)
    sent(session)
    assert session.receive(wire.encode(start("u", "os.command"))) == ()
    assert [type(message) for message in sent(session)] == [wire.Finished]


def test_a_kill_that_meets_a_start_under_way_makes_it_killed() -> None:
    session = live()
    session.receive(wire.encode(start("u", "os.command")))
    session.receive(wire.encode(wire.Kill(uid="u", token=1)))
    session.ended_before_start(KEY)
    assert [message.outcome for message in sent(session)] == [Outcome.KILLED]


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        ("not json", "frame"),
        ("[]", "frame"),
        ('{"type": "reboot"}', "reboot"),
        ('{"type": "start", "uid": "u", "token": 0, "namespace": "n", "name": "n", "def": "d"}', "start.token"),
        ('{"type": "start", "uid": "../../etc", "token": 1, "namespace": "n", "name": "n", "def": "d"}', "start.uid"),
        ('{"type": "stop", "uid": "u"}', "stop.token"),
        (wire.encode(wire.Started(uid="u", token=1)), "started"),
        (welcome(), "unexpected welcome"),
    ],
)
def test_a_frame_that_is_not_for_an_agent_is_refused_naming_what_is_wrong(frame: str, named: str) -> None:
    session = live()
    with pytest.raises(ProtocolError, match=named):
        session.receive(frame)
    assert session.phase is Phase.LIVE


def test_the_panel_must_welcome_before_it_asks_for_anything() -> None:
    session = Session()
    session.opened(hello())
    with pytest.raises(ProtocolError, match="unexpected start"):
        session.receive(wire.encode(start("u", "os.command")))
