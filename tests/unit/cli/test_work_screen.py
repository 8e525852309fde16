import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from kuberpa.activity import ActivityItem, ActivityPhase
from kuberpa_cli.work.exits import OF_PHASE
from kuberpa_cli.work.panel import End, Gap, LogLine
from kuberpa_cli.work.screen import Format, Screen, describe, terminal_safe

AT = datetime(2026, 1, 31, 9, 0, 0, tzinfo=UTC)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(**options: Any) -> Screen:
    return Screen(out=io.StringIO(), err=io.StringIO(), **options)


def printed(on: Screen) -> tuple[str, str]:
    assert isinstance(on.out, io.StringIO)
    assert isinstance(on.err, io.StringIO)
    return on.out.getvalue(), on.err.getvalue()


def line(text: str, stream: str = "stdout", **fields: Any) -> LogLine:
    return LogLine.of({"seq": 1, "time": AT, "stream": stream, "text": text, "attempt": 1, "token": 1, **fields})


def item(phase: str, **status: Any) -> ActivityItem:
    spec = {"robotRef": {"name": "clerk"}, "def": "os.command"}
    return ActivityItem.of(
        {"metadata": {"name": "hello"}, "spec": spec, "status": {"phase": phase, "robot": "clerk", **status}}
    )


def test_stdout_goes_to_stdout_and_all_else_to_stderr() -> None:
    on = screen()
    for stream in ("stdout", "stderr", "log", "agent"):
        on.record(line(f"from {stream}", stream))
    assert printed(on) == ("from stdout\n", "from stderr\nINFO from log\nkuberpa: from agent\n")


def test_a_document_that_follows_keeps_stdout_to_itself() -> None:
    on = screen(log_to_stderr=True)
    on.record(line("hi"))
    assert printed(on) == ("", "hi\n")


def test_the_parts_of_a_split_line_are_one_line_again() -> None:
    on = screen(timestamps=True)
    on.record(line("aaa", continues=True))
    on.record(line("bbb"))
    on.record(line("ccc"))
    assert printed(on)[0] == "2026-01-31T09:00:00Z aaabbb\n2026-01-31T09:00:00Z ccc\n"


def test_another_stream_does_not_run_into_an_unfinished_line() -> None:
    on = screen()
    on.record(line("aaa", continues=True))
    on.note("Running")
    assert printed(on) == ("aaa\n", "Running\n")


def test_missing_lines_are_mentioned() -> None:
    on = screen()
    on.record(Gap(attempt=1, first=3, last=7))
    on.record(End(phase="Succeeded"))
    assert printed(on) == ("", "Lines 3 to 7 are missing: lost with the robot\n")


def test_bytes_of_a_pipe_are_left_as_they_are() -> None:
    on = screen()
    on.record(line("\x1b[2J\x1b]0;evil\x07"))
    assert printed(on)[0] == "\x1b[2J\x1b]0;evil\x07\n"


def test_output_of_robots_does_not_command_a_terminal() -> None:
    out = Terminal()
    Screen(out=out, err=Terminal()).record(line("\x1b[31mred\x1b[0m\ttab \x1b[2J\x1b]0;evil\x07\r\x9b1A"))
    assert out.getvalue() == "\x1b[31mred\x1b[0m\ttab \\x1b[2J\\x1b]0;evil\\x07\\r\\x9b1A\n"


def test_the_text_of_a_status_does_not_command_a_terminal() -> None:
    assert terminal_safe("a\x1b[Hb") == "a\\x1b[Hb"


def test_colours_appear_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    err = Terminal()
    Screen(out=io.StringIO(), err=err).phase(item("Failed"))
    assert err.getvalue() == "\x1b[31mFailed on clerk\x1b[0m\n"
    plain = screen()
    plain.phase(item("Failed"))
    assert printed(plain)[1] == "Failed on clerk\n"


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    err = Terminal()
    Screen(out=io.StringIO(), err=err).phase(item("Failed"))
    assert err.getvalue() == "Failed on clerk\n"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (item("Pending", reason="RobotBusy", message="1 before it"), "Pending: RobotBusy: 1 before it"),
        (item("Running", reason="Started", attempt=2), "Running on clerk, attempt 2"),
        (
            item("Succeeded", reason="Completed", startedAt=AT, finishedAt="2026-01-31T09:00:01.25Z"),
            "Succeeded on clerk, 1.2 s",
        ),
        (
            item(
                "Failed", reason="NonZeroExit", message="exit code 3", startedAt=AT, finishedAt="2026-01-31T10:02:05Z"
            ),
            "Failed on clerk, 1 h 02 min: NonZeroExit: exit code 3",
        ),
        (item("Killed", reason="TimeoutExceeded"), "Killed on clerk: TimeoutExceeded"),
    ],
)
def test_one_line_says_where_an_item_is(status: ActivityItem, text: str) -> None:
    assert describe(status) == text


def test_the_end_shows_error_result_and_survivors() -> None:
    on = screen()
    error = {"type": "ValueError", "message": "no column 'Сумма'", "traceback": "Traceback…\nValueError: no column\n"}
    on.final(item("Failed", error=error, survivors=[41, 42], result={"rows": 3}))
    assert printed(on)[1].splitlines() == [
        "Failed on clerk",
        "Traceback…",
        "ValueError: no column",
        "These processes outlived the kill: 41, 42",
        'Result: {"rows": 3}',
    ]


def test_a_long_result_is_cut_and_says_how_to_see_all() -> None:
    on = screen()
    on.final(item("Succeeded", result="x" * 10_000))
    assert "(10,002 characters; -o json prints all)" in printed(on)[1]


def test_every_final_phase_has_an_exit_code() -> None:
    final = {phase for phase in ActivityPhase if item(phase).status.is_final}
    assert set(OF_PHASE) == final


@pytest.mark.parametrize(("form", "load"), [(Format.JSON, json.loads), (Format.YAML, yaml.safe_load)])
def test_documents_are_whole_and_without_managed_fields(form: Format, load: Any) -> None:
    body = {"metadata": {"name": "hello", "managedFields": [{}]}, "spec": {"def": "привет"}}
    on = screen()
    on.document(body, form)
    assert load(printed(on)[0]) == {"metadata": {"name": "hello"}, "spec": {"def": "привет"}}


def test_a_name_is_what_kubectl_takes() -> None:
    on = screen()
    on.document({"metadata": {"name": "hello"}}, Format.NAME)
    assert printed(on)[0] == "activityitem.kuberpa.dev/hello\n"


def test_a_table_has_columns() -> None:
    on = screen()
    on.document(item("Pending", reason="RobotBusy").to_json(), Format.TABLE)
    heading, row = printed(on)[0].splitlines()
    assert heading.split() == ["NAME", "ROBOT", "DEFINITION", "PHASE", "REASON"]
    assert row.split() == ["hello", "clerk", "os.command", "Pending", "RobotBusy"]
    assert heading.index("PHASE") == row.index("Pending")
