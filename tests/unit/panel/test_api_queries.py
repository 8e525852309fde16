from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kuberpa.activity import ActivityItem, ActivityPhase
from kuberpa.client import InvalidError, UnavailableError
from kuberpa.robot import Robot, RobotPhase
from kuberpa.schedule import Schedule
from kuberpa_panel.api import activities, robots, schedules, text
from kuberpa_panel.api.access import Scope
from kuberpa_panel.api.activities import ActivityQuery
from kuberpa_panel.api.output import OutputGap, Place, with_gaps
from kuberpa_panel.api.problems import InvalidProblem, UnavailableProblem, from_api_error
from kuberpa_panel.api.robots import RobotQuery, RowMemory
from kuberpa_panel.database.records import LogLine
from kuberpa_panel.web.run import RunForm

AT = datetime(2026, 11, 24, 9, tzinfo=UTC)


def robot(name: str, phase: str = "Idle", **more: Any) -> Robot:
    meta = {"name": name, "namespace": more.pop("namespace", "default"), "uid": name}
    return Robot.of({"metadata": meta, "spec": {"runtime": {"linuxPod": {}}}, "status": {"phase": phase, **more}})


def item(name: str, phase: str = "Pending", *, minutes: int = 0, **status: Any) -> ActivityItem:
    created = (AT - timedelta(minutes=minutes)).isoformat()
    return ActivityItem.of(
        {
            "metadata": {"name": name, "namespace": "default", "uid": name, "creationTimestamp": created},
            "spec": {"def": "os.command", "robotRef": {"name": "r1"}},
            "status": {"phase": phase, **status},
        }
    )


def names(found: robots.RobotPage) -> list[str]:
    return [row.name for row in found.items]


def test_robots_are_found_by_words_in_any_field() -> None:
    fleet = [robot("mail"), robot("desk", "Unreachable", message="WinRM timeout"), robot("mail-2")]
    assert names(robots.select(fleet, RobotQuery(text="winrm"))) == ["desk"]
    assert names(robots.select(fleet, RobotQuery(text="MAIL"))) == ["mail", "mail-2"]


def test_facets_count_before_the_filter_and_the_total_after_it() -> None:
    fleet = [robot("a"), robot("b", "Busy"), robot("c")]
    found = robots.select(fleet, RobotQuery(phase=(RobotPhase.IDLE,)))
    assert (found.total, found.facets[RobotPhase.IDLE], found.facets[RobotPhase.BUSY]) == (2, 2, 1)


def test_sorting_by_state_puts_trouble_first() -> None:
    fleet = [robot("a", "Idle"), robot("b", "Unreachable"), robot("c", "Busy")]
    assert names(robots.select(fleet, RobotQuery(sort="state"))) == ["b", "c", "a"]


@pytest.mark.parametrize("sort", ["name", "state", "runtime", "node", "running", "queued", "version", "since"])
@pytest.mark.parametrize("descending", [False, True])
def test_pages_neither_overlap_nor_lose_a_robot(sort: Any, descending: bool) -> None:
    fleet = [robot(f"r{number % 7}", namespace=f"n{number}") for number in range(23)]
    pages = [
        robots.select(fleet, RobotQuery(sort=sort, descending=descending, page=page, size=5)) for page in range(1, 6)
    ]
    seen = [(row.namespace, row.name) for page in pages for row in page.items]
    assert len(seen) == len(set(seen)) == 23


def test_a_page_past_the_end_is_the_last_one() -> None:
    assert robots.select([robot("a")], RobotQuery(page=99)).page == 1


def test_what_has_not_ended_comes_first_and_the_latest_created_of_it_first() -> None:
    items = [item("old", minutes=9), item("done", "Failed", finishedAt=AT.isoformat()), item("new", minutes=1)]
    assert [row.name for row in activities.select_live(items, ActivityQuery())] == ["new", "old", "done"]


def test_what_the_archive_has_is_left_to_it() -> None:
    stored = item("stored", "Succeeded", finishedAt=AT.isoformat(), archivedAt=AT.isoformat())
    assert activities.select_live([stored], ActivityQuery()) == []


def test_activities_are_filtered_by_each_field() -> None:
    items = [item("a"), item("b", "Running", robot="r2")]
    assert [row.name for row in activities.select_live(items, ActivityQuery(phase=(ActivityPhase.RUNNING,)))] == ["b"]
    assert [row.name for row in activities.select_live(items, ActivityQuery(robot="r1"))] == ["a"]
    assert activities.select_live(items, ActivityQuery(definition="other")) == []


def test_a_scope_hides_other_namespaces() -> None:
    fleet = [robot("a", namespace="mine"), robot("b", namespace="theirs")]
    assert [each.metadata.name for each in Scope(namespaces=frozenset({"mine"})).filter(fleet)] == ["a"]
    assert len(Scope(everywhere=True).filter(fleet)) == 2
    assert Scope().filter(fleet) == []


def test_broken_schedules_come_first() -> None:
    def schedule(name: str, ready: str, *next_times: datetime) -> Schedule:
        condition = {"type": "Ready", "status": ready, "reason": "x", "lastTransitionTime": AT.isoformat()}
        action = {"activity": {"spec": {"def": "d", "robotRef": {"name": "r"}}}}
        return Schedule.of(
            {
                "metadata": {"name": name, "namespace": "n", "uid": name},
                "spec": {"schedules": ["@daily"], "action": action},
                "status": {"conditions": [condition], "nextScheduleTimes": [at.isoformat() for at in next_times]},
            }
        )

    all_of = [
        schedule("late", "True", AT + timedelta(hours=2)),
        schedule("soon", "True", AT),
        schedule("broken", "False"),
    ]
    assert [row.name for row in schedules.select(all_of)] == ["broken", "soon", "late"]


def line(seq: int) -> LogLine:
    return LogLine(seq=seq, time=AT, stream="stdout", level="INFO", text="x")


def test_missing_lines_become_a_gap_where_they_are_missing() -> None:
    records = with_gaps(1, 7, (line(3), line(4), line(8)), after=1)
    assert [(r.first, r.last) if isinstance(r, OutputGap) else r.line.seq for r in records] == [(2, 2), 3, 4, (5, 7), 8]


def test_a_place_survives_being_written_down() -> None:
    assert Place.parse(str(Place(3, 41))) == Place(3, 41)
    assert [Place.parse(text_) for text_ in ("", "3", "3:", "a:1", "-1:2")] == [None] * 5


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (12.9, "12 s"),
        (60, "1 min"),
        (245, "4 min 5 s"),
        (7800, "2 h 10 min"),
        (273600, "3 d 4 h"),
        (-5, "0.0 s"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, words: str) -> None:
    assert text.duration(timedelta(seconds=seconds)) == words


def errors_of(form: RunForm) -> dict[str, str]:
    with pytest.raises(InvalidProblem) as caught:
        form.spec()
    return {error.field: error.message for error in caught.value.errors}


def test_the_run_form_says_what_is_wrong_at_each_field() -> None:
    errors = errors_of(RunForm(args="[1,", kwargs="[]", timeout="soon"))
    assert set(errors) == {"robot", "definition", "args", "kwargs", "timeout"}
    assert "line 1, column 4" in errors["args"]
    assert errors["kwargs"].startswith("Must be an object")


@pytest.mark.parametrize("args", ["[NaN]", "[Infinity]", "[" * 100_000, '"text"', "{}", "nonsense"])
def test_arguments_that_are_no_json_list_are_refused(args: str) -> None:
    assert "args" in errors_of(RunForm(target="n/r", definition="d", args=args))


def test_arguments_over_the_limit_are_refused_with_the_limit() -> None:
    assert "1,024 KiB" in errors_of(RunForm(target="n/r", definition="d", args=f'["{"x" * 1024 * 1024}"]'))["args"]


def test_a_filled_form_becomes_a_spec() -> None:
    form = RunForm(target="n/r", definition="d", args='["ü"]', kwargs='{"a": 1}', timeout="5", retries="2", beside=True)
    assert form.spec() == {
        "robotRef": {"name": "r"},
        "def": "d",
        "input": {"args": ["ü"], "kwargs": {"a": 1}},
        "async": True,
        "priority": 0,
        "retry": {"limit": 2},
        "timeoutSeconds": 5,
    }


def test_errors_of_the_api_server_keep_their_field() -> None:
    causes = [{"field": "spec.priority", "message": "too large"}]
    problem = from_api_error(InvalidError("bad", status=422, body={"details": {"causes": causes}}))
    assert isinstance(problem, InvalidProblem)
    assert [(error.field, error.message) for error in problem.errors] == [("spec.priority", "too large")]
    assert isinstance(from_api_error(UnavailableError("down")), UnavailableProblem)


def test_a_row_is_made_once_for_each_state_of_a_robot_and_forgotten_beyond_its_bound() -> None:
    memory = RowMemory(most=2)
    first = Robot.of({"metadata": {"name": "a", "uid": "1"}, "spec": {"runtime": {"linuxPod": {}}}})
    changed = first.model_copy(update={"status": first.status.model_copy(update={"message": "works"})})
    assert memory.row_of(first) is memory.row_of(first)
    assert memory.row_of(changed).message == "works"
    for uid in ("2", "3"):
        memory.row_of(first.model_copy(update={"metadata": first.metadata.model_copy(update={"uid": uid})}))
    assert len(memory._rows) == 2
