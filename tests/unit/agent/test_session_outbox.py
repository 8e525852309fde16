from datetime import UTC, datetime
from typing import Any

from kuberpa import wire
from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason
from kuberpa_agent.connection import frame_of
from kuberpa_agent.outbox import BATCH_SECONDS, FRAME_COST, FULL_COST, Outbox, cost

AT = datetime(2026, 11, 24, tzinfo=UTC)


def line(seq: int, text: str = "x") -> wire.Line:
    return wire.Line(seq=seq, time=AT, stream="stdout", text=text)


def output(uid: str, *lines: wire.Line) -> wire.Output:
    return wire.Output(uid=uid, token=1, lines=lines)


def finished(uid: str, **more: Any) -> wire.Finished:
    return wire.Finished(uid=uid, token=1, outcome=Outcome.SUCCEEDED, reason=Reason.COMPLETED, **more)


def drain(outbox: Outbox) -> list[Any]:
    messages = []
    while (message := outbox.take(0.0)) is not None:
        messages.append(message)
    return messages


def test_an_attempts_messages_keep_their_order() -> None:
    outbox = Outbox()
    outbox.put(wire.Started(uid="u", token=1))
    outbox.put(output("u", line(1)))
    outbox.put(wire.Progress(uid="u", token=1, fraction=0.5))
    outbox.put(output("u", line(2)))
    outbox.put(finished("u", last_seq=2))
    assert [type(m) for m in drain(outbox)] == [wire.Started, wire.Output, wire.Progress, wire.Finished]


def test_lines_that_wait_are_sent_together() -> None:
    outbox = Outbox()
    for seq in range(1, 11):
        outbox.put(output("u", line(seq)))
    assert [len(m.lines) for m in drain(outbox)] == [10]


def test_no_frame_has_more_lines_than_the_wire_allows() -> None:
    outbox = Outbox()
    for seq in range(1, wire.MAX_LINES * 2 + 2):
        outbox.put(output("u", line(seq)))
    assert [len(m.lines) for m in drain(outbox)] == [wire.MAX_LINES, wire.MAX_LINES, 1]


def test_no_frame_of_output_is_larger_than_the_wire_allows_even_if_every_character_is_escaped() -> None:
    outbox = Outbox()
    for seq in range(1, 201):
        outbox.put(output("u", line(seq, "\x01" * wire.MAX_LINE_CHARS)))
    frames = [frame_of(message) for message in drain(outbox)]
    assert max(len(frame.encode()) for frame in frames) <= FRAME_COST < wire.MAX_FRAME_BYTES
    assert sum(len(wire.FROM_AGENT.validate_json(frame).lines) for frame in frames) == 200


def test_the_estimate_of_a_line_is_never_below_what_it_takes() -> None:
    for text in ("", "x" * 100, "\x00" * 100, "я" * 100, "🤖" * 100, '"\\' * 100):
        assert cost(line(2**40, text)) >= len(line(2**40, text).model_dump_json(by_alias=True).encode())


def test_attempts_take_turns() -> None:
    outbox = Outbox()
    for seq in range(1, wire.MAX_LINES * 3 + 1):
        outbox.put(output("loud", line(seq)))
    outbox.put(output("quiet", line(1)))
    assert [m.uid for m in drain(outbox)][:2] == ["loud", "quiet"]


def test_only_the_latest_progress_and_definitions_are_sent() -> None:
    outbox = Outbox()
    for fraction in (0.1, 0.2, 0.3):
        outbox.put(wire.Progress(uid="u", token=1, fraction=fraction))
        outbox.put(wire.Definitions(definitions=(wire.Definition(name=f"d{fraction}".replace(".", "")),)))
    sent = drain(outbox)
    assert [m.definitions[0].name for m in sent if isinstance(m, wire.Definitions)] == ["d03"]
    assert [m.fraction for m in sent if isinstance(m, wire.Progress)] == [0.3]


def test_the_first_line_after_silence_is_due_at_once_and_the_next_ones_wait_to_be_batched() -> None:
    outbox = Outbox()
    assert outbox.due(100.0) is None
    outbox.put(output("u", line(1)))
    assert outbox.due(100.0) == 0.0
    while outbox.take(100.0) is not None:
        pass
    outbox.put(output("u", line(2)))
    due = outbox.due(100.01)
    assert due is not None
    assert 0 < due <= BATCH_SECONDS
    assert outbox.due(100.0 + BATCH_SECONDS) == 0.0


def test_a_result_does_not_wait_for_a_batch() -> None:
    outbox = Outbox()
    outbox.put(output("u", line(1)))
    while outbox.take(100.0) is not None:
        pass
    outbox.put(finished("u", last_seq=1))
    assert outbox.due(100.0) == 0.0


def test_it_is_full_when_much_output_waits_and_not_when_that_was_sent() -> None:
    outbox = Outbox()
    seq = 0
    while not outbox.full:
        seq += 1
        outbox.put(output("u", line(seq, "x" * 1000)))
    assert seq * cost(line(1, "x" * 1000)) >= FULL_COST
    drain(outbox)
    assert not outbox.full
    assert outbox.empty


def test_a_result_that_no_frame_can_carry_becomes_a_failure_that_says_so() -> None:
    frame = frame_of(finished("u", result="я" * wire.MAX_FRAME_BYTES, last_seq=3))
    told = wire.FROM_AGENT.validate_json(frame)
    assert (told.outcome, told.reason, told.last_seq) == (Outcome.FAILED, Reason.RESULT_TOO_LARGE, 3)


def test_definitions_that_no_frame_can_carry_lose_their_schemas_and_keep_their_names() -> None:
    huge = tuple(wire.Definition(name=f"d{n}", parameters={"description": "x" * 100_000}) for n in range(100))
    told = wire.FROM_AGENT.validate_json(frame_of(wire.Definitions(definitions=huge)))
    assert [definition.name for definition in told.definitions] == [definition.name for definition in huge]
