from typing import Any

from kuberpa_panel.core.witness import content_of, differences, witness, witness_deletion, writer_of

ROBOT: dict[str, Any] = {
    "metadata": {"labels": {"team": "a"}, "annotations": {"kuberpa.dev/written-by": "3 anna", "note": "x"}},
    "spec": {"concurrency": 1, "stop": {"mode": "Safe"}},
}


def robot(**spec: Any) -> dict[str, Any]:
    return content_of(ROBOT | {"spec": ROBOT["spec"] | spec})


def test_the_stamp_names_the_writer_of_its_own_generation_alone() -> None:
    stamped = {"kuberpa.dev/written-by": "3 system:serviceaccount:people:anna"}
    assert writer_of(stamped, 3) == "system:serviceaccount:people:anna"
    assert not writer_of(stamped, 4)
    assert writer_of({}, 3) is None


def test_stamps_are_no_change() -> None:
    other = ROBOT | {"metadata": ROBOT["metadata"] | {"annotations": {"note": "x", "kuberpa.dev/changed-by": "oleg"}}}
    assert content_of(other) == content_of(ROBOT)


def test_a_change_tells_what_was_and_what_is() -> None:
    seen = witness(robot(), robot(concurrency=2, stop={"mode": "Force"}), "anna")
    assert seen is not None
    assert (seen.verb, seen.username) == ("update", "anna")
    assert seen.old == {"spec.concurrency": 1, "spec.stop.mode": "Safe"}
    assert seen.new == {"spec.concurrency": 2, "spec.stop.mode": "Force"}


def test_labels_and_annotations_count_too() -> None:
    after = robot() | {"labels": {}}
    seen = witness(robot(), after, "anna")
    assert seen is not None
    assert (seen.old, seen.new) == ({"labels.team": "a"}, {})


def test_what_kuberpa_did_is_told_by_itself() -> None:
    assert witness(robot(), robot(concurrency=2), None) is None
    assert witness(robot(), robot(), "anna") is None


def test_a_change_by_a_way_without_a_stamp_names_nobody_and_says_so() -> None:
    seen = witness(robot(), robot(concurrency=2), "")
    assert seen is not None
    assert not seen.username
    assert "scale" in seen.reason


def test_a_creation_has_only_what_is() -> None:
    seen = witness(None, robot(), "anna")
    assert seen is not None
    assert (seen.verb, seen.old) == ("create", None)
    assert seen.new is not None
    assert seen.new["spec"] == {"concurrency": 1, "stop": {"mode": "Safe"}}


def test_a_member_that_its_fleet_told_to_leave_was_deleted_by_nobody() -> None:
    assert witness_deletion(robot()) is not None
    leaving = robot() | {"labels": {"kuberpa.dev/fleet": "f"}, "annotations": {"kuberpa.dev/leaving": "now"}}
    assert witness_deletion(leaving) is None


def test_a_large_difference_ends_somewhere() -> None:
    old, new = differences({}, {str(number): number for number in range(500)})
    assert not old
    assert len(new) == 50
