"""What the API server accepts as a trigger, and what no writer can do to its status."""

import pytest
from tests.support.cluster import Cluster
from tests.support.resources import Body, create, created, manifest, patch_status

TRIGGER: Body = {"activity": {"def": "invoices.post"}, "robotSelector": {"matchLabels": {"role": "poster"}}}


def test_the_shortest_trigger_keeps_one_activity_for_each_item_and_one_at_most(crds: Cluster) -> None:
    trigger = created(crds, manifest("WorkQueue", {"trigger": TRIGGER}))["spec"]["trigger"]
    assert {key: trigger[key] for key in ("itemsPerActivity", "min", "max", "cooldownSeconds")} == {
        "itemsPerActivity": 1,
        "min": 0,
        "max": 1,
        "cooldownSeconds": 60,
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"min": 2, "max": 1}, "must be at most spec.trigger.max"),
        ({"max": 0}, "spec.trigger.max"),
        ({"max": 1001}, "spec.trigger.max"),
        ({"min": -1}, "spec.trigger.min"),
        ({"itemsPerActivity": 0}, "spec.trigger.itemsPerActivity"),
        ({"cooldownSeconds": -1}, "spec.trigger.cooldownSeconds"),
        ({"activity": {"def": "rm -rf /"}}, "must be the name of a definition"),
        ({"robotSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, "In and NotIn need at least one"),
    ],
)
def test_a_trigger_that_makes_no_sense_is_refused_by_field(crds: Cluster, change: Body, words: str) -> None:
    run = create(crds, manifest("WorkQueue", {"trigger": {**TRIGGER, **change}}))
    assert words in run.stderr


@pytest.mark.parametrize("missing", ["activity", "robotSelector"])
def test_a_trigger_says_what_runs_and_where(crds: Cluster, missing: str) -> None:
    spec = {"trigger": {key: value for key, value in TRIGGER.items() if key != missing}}
    assert f"spec.trigger.{missing}: Required value" in create(crds, manifest("WorkQueue", spec)).stderr


@pytest.mark.parametrize("later", [{"created": 2}, None])
def test_numbers_given_to_activities_are_never_given_again(crds: Cluster, later: Body | None) -> None:
    queue = created(crds, manifest("WorkQueue", {"trigger": TRIGGER}))
    assert patch_status(crds, queue, {"trigger": {"created": 3}}).returncode == 0
    assert "never decreases" in patch_status(crds, queue, {"trigger": later}).stderr
    assert patch_status(crds, queue, {"trigger": {"created": 4}}).returncode == 0
