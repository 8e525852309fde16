import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kuberpa.itemstate import (
    ENDED_STATES,
    ITEM_TRANSITIONS,
    WAITING_STATES,
    ItemEvent,
    ItemState,
    ItemTransitionError,
    advance_item,
)
from kuberpa.payload import MAX_DEPTH, MAX_PAYLOAD_BYTES
from kuberpa.queueing import AddItem, Complete, QueueItem, Renew, Take

events = st.lists(st.sampled_from(ItemEvent), max_size=60)


def walk(happened: list[ItemEvent]) -> list[tuple[ItemState, ItemEvent, ItemState]]:
    """The steps that the table allows of these events."""
    state, steps = ItemState.NEW, []
    for event in happened:
        if event in ITEM_TRANSITIONS[state]:
            after = advance_item(state, event)
            steps.append((state, event, after))
            state = after
    return steps


@given(events)
def test_an_item_succeeds_once_between_two_requeues(happened: list[ItemEvent]) -> None:
    done = 0
    for _, event, after in walk(happened):
        if event is ItemEvent.REQUEUE:
            done = 0
        done += after is ItemState.SUCCEEDED
        assert done <= 1


@given(events)
def test_only_a_leased_item_succeeds_fails_or_is_abandoned(happened: list[ItemEvent]) -> None:
    for before, _, after in walk(happened):
        if after in {ItemState.SUCCEEDED, ItemState.FAILED, ItemState.ABANDONED, ItemState.RETRIED}:
            assert before is ItemState.LEASED


@given(events)
def test_only_waiting_items_are_taken_and_never_deferred_ones(happened: list[ItemEvent]) -> None:
    for before, event, after in walk(happened):
        if event is ItemEvent.TAKE:
            assert before in WAITING_STATES - {ItemState.DEFERRED}
            assert after is ItemState.LEASED


@given(st.sampled_from(ItemState), st.sampled_from(ItemEvent))
def test_what_the_table_does_not_name_is_refused(state: ItemState, event: ItemEvent) -> None:
    if event not in ITEM_TRANSITIONS[state]:
        with pytest.raises(ItemTransitionError, match=state.value):
            advance_item(state, event)


def test_every_state_can_be_reached_and_every_event_happens_somewhere() -> None:
    reached = {ItemState.NEW} | {after for events in ITEM_TRANSITIONS.values() for after in events.values()}
    assert reached == set(ItemState) == set(ITEM_TRANSITIONS)
    assert {event for events in ITEM_TRANSITIONS.values() for event in events} == set(ItemEvent)
    assert {ItemState.LEASED} | WAITING_STATES | ENDED_STATES == set(ItemState)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reference": "a\x00b"}, "reference"),
        ({"reference": "a\ud800b"}, "reference"),
        ({"payload": []}, "payload"),
        ({"payload": {"x": float("nan")}}, "payload"),
        ({"payload": {"x": "y" * MAX_PAYLOAD_BYTES}}, "payload"),
        ({"deadline": "2026-01-31T09:00:00"}, "deadline"),
        ({"priority": 10**9}, "priority"),
    ],
)
def test_a_wrong_item_is_refused_with_its_field(body: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AddItem.of(body)
    assert next(error["loc"] for error in caught.value.errors())[0] == field


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 500, 100_000])
def test_a_payload_nested_too_deeply_is_refused(levels: int) -> None:
    deep: dict[str, object] = {}
    for _ in range(levels):
        deep = {"a": deep}
    with pytest.raises(ValidationError, match="nested too deeply"):
        AddItem(payload=deep)


def test_a_payload_of_many_shallow_objects_is_accepted() -> None:
    rows = {"rows": [{"n": [n]} for n in range(1000)]}
    assert AddItem(payload=rows).payload == rows


@pytest.mark.parametrize("seconds", [-1, 0, 86_401, 10**30])
def test_an_absurd_lease_is_refused(seconds: int) -> None:
    with pytest.raises(ValidationError, match=r"leaseSeconds|lease_seconds"):
        Renew(id="1", token=1, lease_seconds=seconds)
    with pytest.raises(ValidationError, match=r"leaseSeconds|lease_seconds"):
        Take(lease_seconds=seconds)


def test_an_output_of_any_json_is_accepted() -> None:
    for output in (None, 1, "x", [1], {"a": None}):
        assert Complete(id="1", token=1, output=output).output == output


def test_values_survive_their_journey() -> None:
    item = QueueItem.of(
        {"id": "7", "namespace": "default", "queue": "q", "state": "New", "createdAt": "2026-11-26T09:00:00Z"}
    )
    assert QueueItem.of(item.to_json()) == item
