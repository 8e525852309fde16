import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.streams import Wire

from kuberpa.streams import (
    CHUNK_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_STREAMS,
    WINDOW_BYTES,
    Stream,
    StreamClosedError,
    StreamViolationError,
)
from kuberpa.wire import StreamKind


@given(messages=st.lists(st.one_of(st.text(max_size=50), st.binary(max_size=50)), max_size=20))
@settings(max_examples=50)
async def test_messages_arrive_whole_and_in_order(messages: list[str | bytes]) -> None:
    near, far = Wire().open()
    for message in messages:
        await far.send(message)
    assert [await near.receive() for _ in messages] == messages


async def test_a_message_larger_than_the_window_arrives_while_it_is_read() -> None:
    near, far = Wire().open()
    message = bytes(range(256)) * (4 * WINDOW_BYTES // 256)
    sending = asyncio.create_task(far.send(message))
    assert await near.receive() == message
    await sending


async def test_a_stream_that_nobody_reads_stops_its_sender_within_one_message_and_the_window() -> None:
    wire = Wire()
    _, far = wire.open()
    sending = asyncio.create_task(_flood(far))
    await asyncio.wait([sending], timeout=0.2)
    assert not sending.done()
    assert sum(wire.frames) <= 2 * WINDOW_BYTES
    far.close("enough")
    with pytest.raises(StreamClosedError, match="enough"):
        await sending


async def _flood(stream: Stream) -> None:
    while True:
        await stream.send(bytes(CHUNK_BYTES - 5))


async def test_streams_take_turns_chunk_by_chunk() -> None:
    wire = Wire()
    first, second = wire.open()[1], wire.open()[1]
    wire.held = True
    tasks = [asyncio.create_task(each.send(bytes(3 * CHUNK_BYTES))) for each in (first, second)]
    await asyncio.sleep(0)
    order = []
    while (frame := wire.far.next_frame()) is not None:
        order.append(int.from_bytes(frame[:4], "big"))
    assert order == [1, 2, 1, 2, 1, 2]
    await asyncio.gather(*tasks)


async def test_the_end_comes_after_what_was_sent_and_says_why() -> None:
    near, far = Wire().open()
    await far.send("last words")
    far.close("the shell has ended")
    assert await near.receive() == "last words"
    with pytest.raises(StreamClosedError, match="the shell has ended"):
        await near.receive()
    with pytest.raises(StreamClosedError):
        await near.send("too late")
    assert near.closed == "the shell has ended"


async def test_a_lost_connection_ends_every_stream() -> None:
    wire = Wire()
    ends = [wire.open()[0] for _ in range(3)]
    waiting = [asyncio.create_task(each.receive()) for each in ends]
    await asyncio.sleep(0)
    wire.near.close_all("the connection is gone")
    for end in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(end, StreamClosedError)
    assert len(wire.near) == 0


async def test_no_more_streams_than_the_limit_are_open() -> None:
    wire = Wire()
    for _ in range(MAX_STREAMS):
        wire.open(StreamKind.THUMBNAIL)
    with pytest.raises(StreamClosedError, match="close one first"):
        wire.open(StreamKind.THUMBNAIL)


async def test_whoever_sends_more_than_there_is_room_for_breaks_the_rules() -> None:
    wire = Wire()
    wire.open()
    chunk = (1).to_bytes(4, "big") + b"\0" + bytes(CHUNK_BYTES)
    with pytest.raises(StreamViolationError, match="more than there was room for"):
        _arrive(wire, chunk, 100)


async def test_a_message_without_end_breaks_the_rules() -> None:
    wire = Wire()
    wire.near.tell = lambda _: None  # whoever sends for ever heeds no credit
    wire.near.open(StreamKind.FILES, "anna", {})
    chunk = (1).to_bytes(4, "big") + b"\2" + bytes(CHUNK_BYTES)
    with pytest.raises(StreamViolationError, match="a message over"):
        _arrive(wire, chunk, 2 * MAX_MESSAGE_BYTES // CHUNK_BYTES)


async def test_data_of_a_stream_that_has_ended_is_late_and_nothing_worse() -> None:
    wire = Wire()
    near, _ = wire.open()
    near.close()
    assert wire.near.arrived((1).to_bytes(4, "big") + b"\0late") is False
    with pytest.raises(StreamViolationError, match="none of a stream"):
        wire.near.arrived(b"\0")


def _arrive(wire: Wire, chunk: bytes, times: int) -> None:
    for _ in range(times):
        wire.near.arrived(chunk)
