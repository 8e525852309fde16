"""The published schemas: what holds for every kind, whatever its fields are."""

import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from kuberpa import generate
from kuberpa.cel import RULES
from kuberpa.cel_patterns import PATTERNS
from kuberpa.kinds import KINDS, Kind
from kuberpa.schema import LIST_TYPE, PRESERVE, structural, walk

REPOSITORY = Path(__file__).parents[3]
FREE_FORM = {
    "spec.custom",
    *(f"spec.trigger.activity.input{tail}" for tail in ("", ".args[]", ".kwargs")),
    "spec.input",
    "spec.input.args[]",
    "spec.input.kwargs",
    "spec.action.activity.spec.input",
    "spec.action.activity.spec.input.args[]",
    "spec.action.activity.spec.input.kwargs",
    "spec.action.queueItem.payload",
    "spec.action.sequence.steps[].spec.input",
    "spec.action.sequence.steps[].spec.input.args[]",
    "spec.action.sequence.steps[].spec.input.kwargs",
    "status.result",
    "spec.payloadSchema",
}

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def parts(kind: Kind) -> dict[str, dict[str, Any]]:
    return {path: part for path, part in walk(generate.schema(kind)) if path.startswith(("spec", "status"))}


def test_the_committed_files_are_what_the_models_say() -> None:
    assert generate.main(["--check"]) == 0, "run python -m kuberpa.generate"


def test_check_reports_drift_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check", "--root", str(tmp_path)]) == 1
    assert "robots.yaml differs" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_generating_makes_the_check_pass(tmp_path: Path) -> None:
    assert generate.main(["--root", str(tmp_path)]) == 0
    assert generate.main(["--check", "--root", str(tmp_path)]) == 0


@every_kind
def test_the_chart_publishes_the_same_definition_and_keeps_it(kind: Kind) -> None:
    plain = yaml.safe_load((REPOSITORY / f"crds/{kind.plural}.yaml").read_text())
    charted = yaml.safe_load((REPOSITORY / f"helm/kuberpa-crds/templates/{kind.plural}.yaml").read_text())
    assert charted["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert charted == plain


@every_kind
def test_no_text_in_a_definition_is_a_template_action(kind: Kind) -> None:
    assert "{{" not in (REPOSITORY / f"helm/kuberpa-crds/templates/{kind.plural}.yaml").read_text()


@every_kind
def test_every_text_list_and_map_has_a_bound(kind: Kind) -> None:
    unbounded = [
        path
        for path, part in parts(kind).items()
        if (part.get("type") == "string" and not {"enum", "maxLength", "format"} & part.keys())
        or (part.get("type") == "array" and "maxItems" not in part)
        or ("additionalProperties" in part and "maxProperties" not in part)
    ]
    assert unbounded == []


@every_kind
def test_only_input_and_result_are_free_form(kind: Kind) -> None:
    assert {path for path, part in parts(kind).items() if PRESERVE in part} <= FREE_FORM


@every_kind
def test_every_field_has_a_description(kind: Kind) -> None:
    silent = [
        path
        for path, part in parts(kind).items()
        if not path.endswith(("[]", "{}")) and len(part.get("description", "")) < 5
    ]
    assert silent == []


@every_kind
def test_every_kind_shows_a_manifest_of_its_own_that_its_model_accepts(kind: Kind) -> None:
    description = generate.schema(kind)["description"]
    example = description[description.index("    apiVersion") :].partition("\n\n")[0]
    body = yaml.safe_load(textwrap.dedent(example))
    assert body["kind"] == kind.name
    kind.model.of(body)


@every_kind
def test_every_list_says_how_it_is_merged(kind: Kind) -> None:
    lists = {path: part for path, part in parts(kind).items() if part.get("type") == "array"}
    assert [path for path, part in lists.items() if LIST_TYPE not in part] == []
    keyed = {path: part["x-kubernetes-list-map-keys"] for path, part in lists.items() if part[LIST_TYPE] == "map"}
    assert keyed == {
        path: ["type"] if path == "status.conditions" else ["name"]
        for path in lists
        if path.removeprefix("spec.template.") in {"status.conditions", "spec.secrets", "spec.program.env"}
    }


@every_kind
def test_status_has_no_defaults(kind: Kind) -> None:
    assert [path for path, part in parts(kind).items() if path.startswith("status") and "default" in part] == []


@every_kind
def test_the_schema_defaults_what_the_model_defaults(kind: Kind) -> None:
    """What the API server fills in and what a reader of the bare manifest assumes are the same."""
    spec = structural(kind.model.model_fields["spec"].annotation)  # type: ignore[arg-type]
    bare = {
        "Robot": {"runtime": {"linuxPod": {}}},
        "ActivityItem": {"robotRef": {"name": "r"}, "def": "os.command"},
        "Calendar": {"holidays": {"dates": ["2027-12-24"]}},
        "Schedule": {
            "schedules": ["@daily"],
            "action": {"activity": {"spec": {"robotRef": {"name": "r"}, "def": "os.command"}}},
        },
        "WorkQueue": {},
        "GSettings": {},
        "RobotRoleBinding": {
            "role": "Viewer",
            "subjects": [{"kind": "User", "name": "anna"}],
            "robots": {"selector": {}},
        },
        "RobotHost": {"address": "desk-7", "winrm": {"credentialsSecretRef": {"name": "desk-7"}}},
        "RobotFleet": {
            "selector": {"matchLabels": {"team": "x"}},
            "template": {"metadata": {"labels": {"team": "x"}}, "spec": {"runtime": {"linuxPod": {}}}},
        },
    }[kind.name]
    served = defaulted(spec, bare)
    assert served != bare or kind.name == "RobotRoleBinding", "which has nothing to default"
    assert kind.model.of({"spec": served}) == kind.model.of({"spec": bare})


def defaulted(schema: dict[str, Any], value: Any) -> Any:
    """Structural defaulting, as the API server does it for objects."""
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    for name, child in schema.get("properties", {}).items():
        if name not in filled and "default" in child:
            filled[name] = child["default"]
        if name in filled:
            filled[name] = defaulted(child, filled[name])
    return filled


@every_kind
def test_every_rule_explains_itself(kind: Kind) -> None:
    rules = [rule for part in parts(kind).values() for rule in part.get("x-kubernetes-validations", [])]
    assert rules
    assert all(len(rule["message"]) > 20 for rule in rules)
    assert not any("pattern" in part for part in parts(kind).values()), "a bare pattern says nothing to people"


def test_no_rule_and_no_explained_pattern_is_left_over() -> None:
    assert RULES.keys() == {kind.name for kind in KINDS}
    used = {
        rule["rule"]
        for kind in KINDS
        for part in parts(kind).values()
        for rule in part.get("x-kubernetes-validations", [])
    }
    assert [pattern for pattern, rule in PATTERNS.items() if rule.rule not in used] == []


@every_kind
def test_columns_and_selectors_name_fields_that_exist(kind: Kind) -> None:
    known = parts(kind)
    paths = [column.path for column in kind.columns] + list(kind.selectable)
    for path in paths:
        field = path.removeprefix(".").partition("[")[0]
        assert field in known or field.startswith("metadata."), path


@every_kind
def test_the_kind_is_found_by_its_category_and_short_name(kind: Kind) -> None:
    names = generate.definition(kind)["spec"]["names"]
    assert names["categories"] == ["kuberpa"]
    known = {
        "robots": "robot",
        "robotfleets": "rfleet",
        "robothosts": "rhost",
        "activityitems": "ai",
        "schedules": "sched",
        "calendars": "cal",
        "workqueues": "wq",
        "gsettings": "rgs",
        "robotrolebindings": "rrb",
    }
    assert known[kind.plural] in {
        names["singular"],
        *names["shortNames"],
    }
