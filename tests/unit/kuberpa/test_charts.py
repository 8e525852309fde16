"""What can be said of the charts without rendering them."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from kuberpa.activity import FINAL_PHASES, MAX_INPUT_BYTES, ActivityPhase
from kuberpa.definition_rights import DEFINITION_RIGHTS
from kuberpa.names import (
    ANNOTATION_CHANGED_BY,
    ANNOTATION_CLAIMED_CREATED_BY,
    ANNOTATION_CREATED_BY,
    ANNOTATION_ON_BEHALF_OF,
    ANNOTATION_RESTART_MODE,
    ANNOTATION_RESTARTED_AT,
)
from kuberpa.robot import RobotSpec
from kuberpa.robot_orders import LIFECYCLE_FIELDS
from kuberpa.roles import Role, rights_of
from kuberpa.runtime import DEFAULT_LINUX_IMAGE
from kuberpa.workqueue import WorkQueueSpec

CHART = Path(__file__).parents[3] / "helm/kuberpa"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def templates() -> str:
    return "\n".join(path.read_text() for path in sorted((CHART / "templates").glob("*.*")))


def paths(values: dict[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for name, value in values.items():
        found |= {f"{prefix}{name}"} | (paths(value, f"{prefix}{name}.") if isinstance(value, dict) else set())
    return found


def nodes(schema: dict[str, Any], prefix: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every setting of the schema with its path, from the outermost on."""
    found = []
    for name, child in schema.get("properties", {}).items():
        found += [(f"{prefix}{name}", child), *nodes(child, f"{prefix}{name}.")]
    return found


def declared(schema: dict[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for name, child in schema.get("properties", {}).items():
        found |= {f"{prefix}{name}"} | declared(child, f"{prefix}{name}.")
    return found


def test_every_value_of_the_schema_stands_in_the_values_with_a_default() -> None:
    assert declared(SCHEMA) - {"global"} <= paths(VALUES)


def test_the_schema_knows_every_value_and_says_what_each_is() -> None:
    assert declared(SCHEMA) - {"global"} == {path for path in paths(VALUES) if path in declared(SCHEMA)}
    free = ("labels", "annotations", "Annotations", "Labels", "nodeSelector", "resources", "affinity")
    unknown = [path for path in paths(VALUES) - declared(SCHEMA) if not set(path.split(".")) & set(free)]
    assert not unknown
    assert not [path for path, node in nodes(SCHEMA) if not node.get("description", "").endswith(".")]


def test_nothing_unknown_gets_past_the_schema() -> None:
    assert not [
        path for path, node in nodes(SCHEMA) if "properties" in node and node["additionalProperties"] is not False
    ]


def test_the_policies_know_the_final_phases_of_the_kernel() -> None:
    phases = ", ".join(f"'{phase}'" for phase in ActivityPhase if phase in FINAL_PHASES)
    assert f"[{phases}]" in (CHART / "templates/_helpers.tpl").read_text()


def test_the_policies_know_the_kernels_annotations_and_limits() -> None:
    policies = templates()
    assert str(MAX_INPUT_BYTES) in policies
    assert ANNOTATION_ON_BEHALF_OF in policies
    for annotation in (ANNOTATION_CREATED_BY, ANNOTATION_CHANGED_BY, ANNOTATION_CLAIMED_CREATED_BY):
        assert f"'{annotation}'" in policies


def test_the_policy_for_robots_knows_every_field_of_theirs() -> None:
    policy = (CHART / "templates/policy-control.yaml").read_text()
    fields = {info.alias or name for name, info in RobotSpec.model_fields.items()}
    named = [set(re.findall(r'"([A-Za-z]+)"', line)) for line in policy.splitlines() if "$field := list" in line]
    assert named[0] == set(LIFECYCLE_FIELDS)
    assert named[0] | named[1] == fields
    for annotation in (ANNOTATION_RESTARTED_AT, ANNOTATION_RESTART_MODE):
        assert f'"{annotation.partition("/")[2]}"' in policy


def test_the_policy_for_runs_knows_which_definitions_take_another_right() -> None:
    policy = (CHART / "templates/policy-run.yaml").read_text()
    table = ", ".join(f"'{name}': '{right}'" for name, right in sorted(DEFINITION_RIGHTS.items()))
    assert f"{{{table}}}" in " ".join(policy.split())
    given = (CHART / "templates/_rules.tpl").read_text()
    for right in DEFINITION_RIGHTS.values():
        held = [line for line in given.splitlines() if "robots/run," in line and f"robots/{right}" in line]
        assert len(held) == 2, "the operator and the panel have it"
        assert ("create", f"robots/{right}") in rights_of(Role.ADMIN)


def test_the_policy_for_queues_knows_every_field_of_theirs() -> None:
    policy = (CHART / "templates/policy-pause.yaml").read_text()
    fields = {info.alias or name for name, info in WorkQueueSpec.model_fields.items()}
    named = next(line for line in policy.splitlines() if "$field := list" in line)
    assert {*re.findall(r'"([A-Za-z]+)"', named), "paused"} == fields


def test_the_charts_have_one_version() -> None:
    versions = {
        (chart["version"], chart["appVersion"])
        for chart in (
            yaml.safe_load((CHART.parent / name / "Chart.yaml").read_text()) for name in ("kuberpa", "kuberpa-crds")
        )
    }
    assert len(versions) == 1


def test_the_chart_names_the_images_that_it_brings() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    named = {image["image"] for image in yaml.safe_load(chart["annotations"]["artifacthub.io/images"])}
    own = {f"{VALUES['image']['registry']}/kuberpa-{part}:{chart['appVersion']}" for part in ("operator", "panel")}
    assert named == {*own, DEFAULT_LINUX_IMAGE, VALUES["postgresql"]["image"]}


def test_the_definitions_chart_names_every_kind() -> None:
    chart = yaml.safe_load((CHART.parent / "kuberpa-crds/Chart.yaml").read_text())
    named = {(each["kind"], each["name"]) for each in yaml.safe_load(chart["annotations"]["artifacthub.io/crds"])}
    bodies = [yaml.safe_load(path.read_text()) for path in (CHART.parents[1] / "crds").glob("*.yaml")]
    assert named == {(body["spec"]["names"]["kind"], body["metadata"]["name"]) for body in bodies}


def test_the_images_are_built_by_the_uv_of_the_lock() -> None:
    lock = tomllib.loads((CHART.parents[1] / "uv.lock").read_text())
    (version,) = (package["version"] for package in lock["package"] if package["name"] == "uv")
    for name in ("Dockerfile", "Dockerfile.windows"):
        text = (CHART.parents[1] / "images" / name).read_text()
        assert re.findall(r"ARG UV_VERSION=(\S+)", text) == [version]
        members = tomllib.loads((CHART.parents[1] / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]["members"]
        assert {f"COPY {member}/pyproject.toml {member}/" for member in members} <= set(text.splitlines())
