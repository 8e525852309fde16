"""Lines, types and verdicts, without a process."""

import dataclasses
import datetime as dt
import enum
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, TypedDict

import jsonschema
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason
from kuberpa_agent.sdk import CredentialNotFoundError, credential, progress, should_stop
from kuberpa_agent.sdk.registry import DefinitionError, register
from kuberpa_agent.worker import outcome, signature, values
from kuberpa_agent.worker.output import MAX_LINE_CHARS, LineSplitter, Tail
from kuberpa_agent.worker.signature import ArgumentError


def joined(parts: list[tuple[str, bool]]) -> str:
    return "".join(text + ("" if continues else "\n") for text, continues in parts)


@given(st.text(alphabet="aя€😀\n", max_size=200), st.integers(1, 7), st.sampled_from(["utf-8", "utf-16-le"]))
def test_lines_do_not_depend_on_where_the_bytes_are_cut(text: str, size: int, encoding: str) -> None:
    data, splitter = text.encode(encoding), LineSplitter(encoding)
    parts = [p for i in range(0, len(data), size) for p in splitter.feed(data[i : i + size])]
    parts += splitter.end()
    assert joined(parts) == (text if not text or text.endswith("\n") else text + "\n")


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n"]), max_size=12), st.integers(1, 3))
def test_every_kind_of_line_end_ends_one_line(pieces: list[bytes], size: int) -> None:
    data, splitter = b"".join(pieces), LineSplitter("utf-8")
    parts = [p for i in range(0, len(data), size) for p in splitter.feed(data[i : i + size])]
    parts += splitter.end()
    text = data.decode().replace("\r\n", "\n").replace("\r", "\n")
    assert joined(parts).rstrip("\n") == text.rstrip("\n")


def test_a_flushed_prompt_and_its_answer_are_one_line() -> None:
    splitter = LineSplitter("utf-8")
    parts = [*splitter.feed(b"Password:"), *splitter.flush(), *splitter.feed(b" ok\n")]
    assert parts == [("Password:", True), (" ok", False)]


def test_a_carriage_return_at_the_end_waits_for_its_line_feed() -> None:
    splitter = LineSplitter("utf-8")
    parts = [*splitter.feed(b"10%\r"), *splitter.flush(), *splitter.feed(b"\nnext")]
    assert parts == [("10%", True), ("", False)]


def test_a_line_without_end_does_not_grow() -> None:
    splitter = LineSplitter("utf-8")
    parts = list(splitter.feed(b"x" * (2 * MAX_LINE_CHARS + 1)))
    assert [(len(t), c) for t, c in parts] == [(MAX_LINE_CHARS, True), (MAX_LINE_CHARS, True)]


def test_a_tail_keeps_the_end() -> None:
    tail = Tail(10)
    for i in range(1000):
        tail.add(f"{i}\n")
    assert (str(tail), tail.last_line()) == ("7\n998\n999\n", "999")


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


class Box(TypedDict):
    corner: Point


class Model(pydantic.BaseModel):
    n: int = pydantic.Field(gt=0)


Account = NewType("Account", str)

TYPES: list[tuple[Any, Any, Any]] = [
    (int, 3, 3),
    (float, 3, 3.0),
    (str | None, None, None),
    (list[int], [1, 2], [1, 2]),
    (tuple[int, str], [1, "a"], (1, "a")),
    (set[str], ["a", "a"], {"a"}),
    (dict[str, float], {"a": 1}, {"a": 1.0}),
    (Literal["a", 1], 1, 1),
    (Color, "red", Color.RED),
    (Point, {"x": 1}, Point(1, 0.5)),
    (Box, {"corner": {"x": 1, "y": 2}}, {"corner": Point(1, 2.0)}),
    (Path, "/x", Path("/x")),
    (dt.datetime, "2026-01-31T09:00:00+03:00", dt.datetime(2026, 1, 31, 9, tzinfo=dt.timezone(dt.timedelta(hours=3)))),
    (Account, "40702", "40702"),
    (Annotated[int, "a note"], 1, 1),
    (Annotated[int, pydantic.Field(gt=0)], 1, 1),
    (Model, {"n": 1}, Model(n=1)),
    (Any, {"free": ["form"]}, {"free": ["form"]}),
]


@pytest.mark.parametrize(("hint", "value", "expected"), TYPES, ids=[str(t[0]) for t in TYPES])
def test_a_json_value_becomes_its_type_and_fits_its_schema(hint: Any, value: Any, expected: Any) -> None:
    assert values.convert(hint, value, "f") == expected
    jsonschema.validate(value, values.schema_of(hint), cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("hint", "value", "field", "message"),
    [
        (int, "1", "f", "must be an integer, not a string"),
        (int, True, "f", "must be an integer, not a boolean"),
        (int | None, "1", "f", "must be an integer or must be null"),
        (list[int], [1, "2"], "f[1]", "must be an integer"),
        (tuple[int, str], [1], "f", "must have 2 items"),
        (dict[str, list[int]], {"a": [None]}, "f.a[0]", "not null"),
        (Color, "blue", "f", 'must be one of "red"'),
        (Literal[1], True, "f", "must be one of 1"),
        (Point, {"y": 1}, "f.x", "required but missing"),
        (Point, {"x": 1, "z": 1}, "f.z", "no such field; known: x, y"),
        (list[Point] | None, [{"x": "1"}], "f[0].x", "must be an integer"),
        (dt.date, "31.12.2026", "f", "is no date"),
        (Model, {"n": 0}, "f.n", "greater than 0"),
    ],
)
def test_a_value_that_does_not_fit_is_named(hint: Any, value: Any, field: str, message: str) -> None:
    with pytest.raises(values.TypeMismatchError) as caught:
        values.convert(hint, value, "f")
    assert caught.value.field == field
    assert message in caught.value.message


def everything(a: int, b: int = 2, /, c: int = 3, *rest: int, d: int, e: int = 5, **more: int) -> Any:
    return a, b, c, rest, d, e, more


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [([1], {"d": 4}), ([1, 2, 3, 4, 5], {"d": 6, "x": 7}), ([1, 2], {"c": 3, "d": 4, "e": 5})],
)
def test_binding_agrees_with_python(args: list[int], kwargs: dict[str, int]) -> None:
    positional, named = signature.call_arguments(everything, args, kwargs, {})
    assert everything(*positional, **named) == everything(*args, **kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "field"),
    [
        ([], {"d": 1}, "input.kwargs.a"),
        ([1], {}, "input.kwargs.d"),
        ([1, 2, 3], {"c": 3, "d": 4}, "input.kwargs.c"),
        ([1, 2, 3, "x"], {"d": 4}, "input.args[3]"),
        ([1], {"d": 4, "x": "y"}, "input.kwargs.x"),
    ],
)
def test_binding_errors_name_the_field(args: list[Any], kwargs: dict[str, Any], field: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        signature.call_arguments(everything, args, kwargs, {})
    assert caught.value.field == field


def test_an_annotation_that_cannot_be_evaluated_takes_anything() -> None:
    def function(a: "Missing") -> None:  # type: ignore[name-defined]  # noqa: F821
        del a

    assert signature.describe("x", function)["parameters"]["properties"] == {"a": {}}


@pytest.mark.parametrize("name", ["", "1a", "a b", "ä", "a" * 254])
def test_a_bad_definition_name_is_refused(name: str) -> None:
    with pytest.raises(DefinitionError, match="a name begins with"):
        register(print, name)


def test_two_functions_cannot_share_a_name() -> None:
    register(dataclasses.asdict, "shared.name")
    register(dataclasses.asdict, "shared.name")
    with pytest.raises(DefinitionError, match=r"is both dataclasses\.asdict and dataclasses\.astuple"):
        register(dataclasses.astuple, "shared.name")


END = outcome.Ending(exit_code=0, is_command=False, returned=True)


@pytest.mark.parametrize("rule", ["stop_reason", "kill_reason"])
def test_every_reason_and_outcome_is_one_of_the_kernel(rule: str) -> None:
    texts = outcome._STOPPED if rule == "stop_reason" else outcome._KILLED
    for reason in texts:
        changed: dict[str, Any] = {rule: reason}
        verdict = outcome.judge(dataclasses.replace(END, **changed))
        assert verdict.outcome in set(Outcome)
        assert verdict.reason in set(Reason)
        assert verdict.message


def test_a_timeout_stays_the_reason_of_a_kill() -> None:
    verdict = outcome.judge(dataclasses.replace(END, stop_reason="TimeoutExceeded", kill_reason="GracePeriodExceeded"))
    assert (verdict.outcome, verdict.reason) == ("Killed", "TimeoutExceeded")


def test_the_sdk_works_outside_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBERPA_SECRETS_DIR", str(tmp_path))
    assert not should_stop()
    progress(0.5, "half")
    with pytest.raises(ValueError, match="between 0 and 1"):
        progress(2)
    with pytest.raises(CredentialNotFoundError, match="this robot has: none"):
        credential("../etc")


def test_a_result_of_standard_types_becomes_json() -> None:
    value = {"p": Point(1), "d": dt.date(2026, 1, 2), "s": {2, 1}, "c": Color.RED, "m": Model(n=1), "t": (1, 2)}
    assert values.result_json(value) == (
        '{"p": {"x": 1, "y": 0.5}, "d": "2026-01-02", "s": [1, 2], "c": "red", "m": {"n": 1}, "t": [1, 2]}'
    )


@pytest.mark.parametrize(
    "make", [object, lambda: float("nan"), lambda: b"bytes", lambda: {(1, 2): 3}, lambda: "\udc80"]
)
def test_a_result_that_is_not_json_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        values.result_json(make())
