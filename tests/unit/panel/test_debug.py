import ast
import json
import shlex
from typing import Any

import pytest
import yaml

from kuberpa.activity import MAX_INPUT_BYTES, ActivityItemSpec
from kuberpa.wire import Definition
from kuberpa_panel.api.problems import FieldError, InvalidProblem
from kuberpa_panel.debug import copying, finding
from kuberpa_panel.debug.form import DebugForm, form_of

SPECS: list[dict[str, Any]] = [
    {"robotRef": {"name": "mail"}, "def": "os.command", "input": {"args": [["echo", "it's"]]}},
    {
        "robotSelector": {"matchLabels": {"team": "accounts", "size": "big"}},
        "def": "close",
        "input": {"kwargs": {"month": "2026-10", "deep": {"a": [1, None, True]}}},
        "async": True,
        "priority": -3,
        "retry": {"limit": 2},
        "timeoutSeconds": 60,
    },
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["def"])
def test_a_spec_fills_the_form_that_means_it(spec: dict[str, Any]) -> None:
    form = form_of("office", spec)
    assert form.namespace == "office"
    assert form.spec() == spec
    assert DebugForm.read({key: str(value) for key, value in form.kept().items()}) == form
    ActivityItemSpec.of(form.spec())


def test_a_run_that_labels_chose_a_robot_for_is_repeated_by_its_labels() -> None:
    assert form_of("office", SPECS[1], "mail").by == "selector"
    nobody = {"def": "close"}
    assert form_of("office", nobody, "mail").target == "office/mail"


@pytest.mark.parametrize(
    ("field", "value", "named", "words"),
    [
        ("input", '{"args": [', "input", "Not JSON in line 1"),
        ("input", "[1]", "input", "an object with args and kwargs"),
        ("input", '{"arguments": []}', "input", "arguments: only args"),
        ("input", '{"args": {}}', "input", "args must be a list"),
        ("input", '{"kwargs": []}', "input", "kwargs must be an object"),
        ("input", '{"args": [NaN]}', "input", "not a JSON number"),
        ("input", '{"args": ' + "[" * 200_000, "input", "Not JSON"),
        ("input", json.dumps({"args": ["x" * MAX_INPUT_BYTES]}), "input", "1024 KiB"),
        ("target", "", "target", "Choose a robot"),
        ("definition", "", "definition", "Choose what to run"),
        ("timeout", "soon", "timeout", "whole number"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(field: str, value: str, named: str, words: str) -> None:
    data = {"definition": "os.command", "target": "office/mail", "input": "{}", field: value}
    with pytest.raises(InvalidProblem) as caught:
        DebugForm.read(data).spec()
    assert [error.field for error in caught.value.errors] == [named]
    assert words in caught.value.errors[0].message


@pytest.mark.parametrize("text", ["team", "team=a b", "=x", "team=accounts, x", "", "a/b/c=d"])
def test_labels_that_are_none_are_refused(text: str) -> None:
    form = DebugForm(definition="x", by="selector", space="office", selector=text)
    with pytest.raises(InvalidProblem) as caught:
        form.spec()
    assert [error.field for error in caught.value.errors] == ["selector"]


def test_what_the_cluster_refuses_stands_at_the_forms_own_field() -> None:
    problem = InvalidProblem(
        "no", errors=(FieldError("spec.priority", "too high"), FieldError("spec.input.args", "bad"))
    )
    assert DebugForm().with_problem(problem).errors == {"priority": "too high", "input": "bad"}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["def"])
def test_copies_mean_the_same(spec: dict[str, Any]) -> None:
    manifest = yaml.safe_load(copying.as_manifest("office", spec))
    assert manifest["spec"] == spec
    assert manifest["metadata"]["namespace"] == "office"
    words = shlex.split(copying.as_curl("https://panel.example", "office", spec).replace("\\\n", ""))
    assert json.loads(words[words.index("--data") + 1]) == {"namespace": "office", "spec": spec}
    program = ast.parse(copying.as_python("office", spec))
    calls = [each for each in ast.walk(program) if isinstance(each, ast.Call) and _name(each) == "activity_run"]
    assert len(calls) == 1
    given = [ast.literal_eval(each) for each in calls[0].args]
    named = {each.arg: ast.literal_eval(each.value) for each in calls[0].keywords}
    assert given == ["office", spec["def"], *spec["input"].get("args", [])]
    assert named.get("kwargs", {}) == spec["input"].get("kwargs", {})


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


KNOWN = {
    ("office", "mail"): (
        Definition(name="os.command", description="Run a program.", parameters={"properties": {"args": {}}}),
        Definition(
            name="invoices.post",
            description="Book it.",
            parameters={"properties": {"month": {}, "dry": {}}, "required": ["month"]},
        ),
    ),
    ("office", "desk"): (
        Definition(name="os.command", description="Run a program."),
        Definition(name="mail.program", description="Set up the mailer."),
    ),
}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["invoices.post", "mail.program", "os.command"]),
        ("program", ["mail.program", "os.command"]),
        ("OS", ["os.command", "invoices.post"]),
        ("month book", ["invoices.post"]),
        ("nothing", []),
    ],
)
def test_definitions_are_found_by_name_first_and_then_by_words(text: str, names: list[str]) -> None:
    assert [hit.definition.name for hit in finding.search(KNOWN, text)] == names


def test_a_hit_names_its_robots_and_its_parameters() -> None:
    hit = finding.search(KNOWN, "command")[0]
    assert hit.robots == (("office", "desk"), ("office", "mail"))
    assert finding.search(KNOWN, "post")[0].parameters == "month, dry=…"
