import json
from pathlib import Path

import pytest

from kuberpa.activity import MAX_INPUT_BYTES
from kuberpa_cli.work.arguments import (
    Request,
    activity_name,
    build_input,
    check_name,
    generate_name,
    parse_duration,
    parse_kwargs,
    parse_selector,
    parse_value,
)
from kuberpa_cli.work.exits import UsageError


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ('["echo", "hi"]', ["echo", "hi"]),
        ('{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        ("42", 42),
        ("-1.5e3", -1500.0),
        ("true", True),
        ("null", None),
        ('"42"', "42"),
        ("statement.csv", "statement.csv"),
        ("", ""),
        ("007", "007"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("1e999", "1e999"),
        ("счёт.xlsx", "счёт.xlsx"),
        ('"unfinished', '"unfinished'),
    ],
)
def test_an_argument_is_json_when_it_is_valid_json_and_text_otherwise(word: str, value: object) -> None:
    assert parse_value(word, "argument 1") == value


@pytest.mark.parametrize("word", ["40702810900000012345", "-99999999999999999999", "9223372036854775808"])
def test_a_number_that_the_api_server_would_round_stays_text(word: str) -> None:
    assert parse_value(word, "argument 1") == word


def test_the_largest_exact_number_stays_a_number() -> None:
    assert parse_value(str(2**63 - 1), "argument 1") == 2**63 - 1


def test_a_number_that_would_be_rounded_inside_json_is_refused() -> None:
    with pytest.raises(UsageError, match=r"argument 1 .*40702810900000012345 is too large.*quotes"):
        parse_value("[40702810900000012345]", "argument 1")


@pytest.mark.parametrize("word", ['["echo", hi]', '{"a": }', " [1", "[NaN]", "[1e999]", '{"a": 1}}'])
def test_broken_json_is_refused_and_says_how_to_pass_it_as_text(word: str) -> None:
    with pytest.raises(UsageError, match="argument 3 begins like JSON") as refused:
        parse_value(word, "argument 3")
    as_text = str(refused.value).rsplit("make it a JSON string: ", 1)[1].strip("'")
    assert parse_value(as_text, "argument 3") == word


def test_json_nested_without_end_is_refused() -> None:
    with pytest.raises(UsageError, match="argument 1 is nested too deeply"):
        parse_value("[" * 200_000, "argument 1")


def test_an_argument_that_is_not_utf8_is_refused() -> None:
    word = b"\xf1\xf7\xb8\xf2.csv".decode("utf-8", "surrogateescape")
    with pytest.raises(UsageError, match="argument 1 is not valid UTF-8"):
        parse_value(word, "argument 1")


def test_kwargs_are_names_with_values() -> None:
    words = ["cwd=/tmp", 'env={"A": "1"}', "n=3", "сумма=1", "note=a=b", "empty="]
    expected = {"cwd": "/tmp", "env": {"A": "1"}, "n": 3, "сумма": 1, "note": "a=b", "empty": ""}
    assert parse_kwargs(words) == expected


@pytest.mark.parametrize("word", ["cwd", "=1", "1a=2", "a-b=1"])
def test_a_kwarg_without_a_name_says_how_to_write_it(word: str) -> None:
    with pytest.raises(UsageError, match="write name=VALUE"):
        parse_kwargs([word])


def test_a_kwarg_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="--kwarg a is given twice"):
        parse_kwargs(["a=1", "a=2"])


def test_a_broken_kwarg_names_itself() -> None:
    with pytest.raises(UsageError, match="--kwarg env begins like JSON"):
        parse_kwargs(['env={"A": 1'])


def test_a_selector_is_labels() -> None:
    words = ["team=payroll,tier==gold", "kuberpa.dev/site=spb", "flag="]
    assert parse_selector(words) == {"team": "payroll", "tier": "gold", "kuberpa.dev/site": "spb", "flag": ""}


@pytest.mark.parametrize("word", ["team", "=x", "team=a b", "team!=x", "a/b/c=d", "team in (a)"])
def test_what_is_no_selector_says_how_to_write_one(word: str) -> None:
    with pytest.raises(UsageError, match="write key=value"):
        parse_selector([word])


def test_a_selector_that_no_robot_can_match_is_refused() -> None:
    with pytest.raises(UsageError, match="--selector team is given twice"):
        parse_selector(["team=a", "team=b"])


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("2h", 7200), ("1h1s", 3601)]
)
def test_a_duration_is_seconds_or_units(text: str, seconds: int) -> None:
    assert parse_duration(text, "--timeout") == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 m", "-5", "1.5h", "5d"])
def test_what_is_no_duration_says_how_to_write_one(text: str) -> None:
    with pytest.raises(UsageError, match=r"--timeout .*1h30m"):
        parse_duration(text, "--timeout")


def test_input_holds_only_what_was_given() -> None:
    assert build_input([], [], None) == {}
    assert build_input(["1"], [], None) == {"args": [1]}
    assert build_input([], ["a=1"], None) == {"kwargs": {"a": 1}}


def test_an_input_over_the_limit_names_spec_input_and_the_limit() -> None:
    with pytest.raises(UsageError, match=r"spec\.input is too large: .*1,048,576.*") as refused:
        build_input(["x" * MAX_INPUT_BYTES], [], None)
    assert "file.put" in str(refused.value)


def test_an_input_right_at_the_limit_is_taken() -> None:
    overhead = len(json.dumps({"args": [""]}, separators=(",", ":")))
    assert build_input(["x" * (MAX_INPUT_BYTES - overhead)], [], None)
    with pytest.raises(UsageError, match="too large"):
        build_input(["x" * (MAX_INPUT_BYTES - overhead + 1)], [], None)


def test_input_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "input.json"
    file.write_text('{"args": [["echo", "привет"]], "kwargs": {"encoding": "cp866"}}', encoding="utf-8")
    assert build_input([], [], str(file)) == {"args": [["echo", "привет"]], "kwargs": {"encoding": "cp866"}}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{"args": 1}', r"spec\.input\.args: must be a list"),
        (b'{"kwargs": []}', r"spec\.input\.kwargs: must be an object"),
        (b'{"arguments": []}', r"spec\.input\.arguments: unknown field"),
        (b"[1]", "must be an object"),
        (b'{"args": [1', "begins like JSON"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b'{"args": ["' + b"x" * 10_000_000 + b'"]}', r"spec\.input is too large"),
    ],
    ids=["args", "kwargs", "unknown", "list", "broken", "utf-16", "10 MB"],
)
def test_a_wrong_input_file_says_what_is_wrong(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "input.json"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=complaint):
        build_input([], [], str(file))


def test_an_input_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.json: No such file"):
        build_input([], [], str(tmp_path / "nothing.json"))


def test_input_and_arguments_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="either --input or arguments"):
        build_input(["1"], [], "-")


def test_a_spec_has_nothing_that_has_a_default() -> None:
    assert Request("os.command", robot="clerk").to_spec() == {"def": "os.command", "robotRef": {"name": "clerk"}}


def test_a_spec_carries_every_option() -> None:
    request = Request("a.b", selector={"t": "p"}, input={"args": [1]}, async_=True, timeout_seconds=5, priority=-3)
    assert request.to_spec() == {
        "def": "a.b",
        "robotSelector": {"matchLabels": {"t": "p"}},
        "input": {"args": [1]},
        "async": True,
        "timeoutSeconds": 5,
        "priority": -3,
    }


@pytest.mark.parametrize("request_", [Request("a"), Request("a", robot="r", selector={"t": "p"})])
def test_exactly_one_of_robot_and_selector_is_needed(request_: Request) -> None:
    with pytest.raises(UsageError, match="either --robot NAME or --selector"):
        request_.to_spec()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (Request("no such name!", robot="r"), "spec.def: "),
        (Request("a", robot="r", priority=10**7), "spec.priority: "),
        (Request("a", robot="r", timeout_seconds=0), "spec.timeoutSeconds: "),
    ],
)
def test_a_value_out_of_bounds_names_its_field(request_: Request, field: str) -> None:
    with pytest.raises(UsageError) as refused:
        request_.to_spec()
    assert str(refused.value).startswith(field)


@pytest.mark.parametrize(
    ("definition", "base"),
    [("os.command", "os-command"), ("Bank.Reconcile_All", "bank-reconcile-all"), ("_", "item"), ("x" * 300, "x" * 57)],
)
def test_a_generated_name_is_readable_and_valid(definition: str, base: str) -> None:
    name = generate_name(definition)
    assert name[:-6] == base
    assert len(name) <= 63
    check_name(name, "name")


def test_generated_names_differ() -> None:
    assert len({generate_name("a") for _ in range(200)}) > 190


@pytest.mark.parametrize("text", ["x", "activityitem/x", "ai/x", "activityitem.kuberpa.dev/x", "activityitems/x"])
def test_an_activity_is_named_as_kubectl_names_it(text: str) -> None:
    assert activity_name(text) == "x"


@pytest.mark.parametrize("text", ["robot/x", "../x", "a/../b", "X", "a b", ""])
def test_what_names_no_activity_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        activity_name(text)
