"""Python definitions of a robot's own packages, in warm workers of the robot's own environment."""

import json
import os
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.agent_runs import Bench, eventually, living, local_workers
from tests.support.robot_packages import ACTIVITIES, make_wheel, requirement

from kuberpa_agent.errors import InvalidArgumentsError


@pytest.fixture(scope="module")
async def robot(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """A robot with the package `acts`; its environment is installed once for all tests here."""
    root = tmp_path_factory.mktemp("robot")
    (root / "secrets" / "sap").mkdir(parents=True)
    for key in ("username", "password"):
        (root / "secrets" / "sap" / key).write_text("canary")
    wheel = make_wheel(root / "wheels", "acts", ACTIVITIES)
    async with Bench(root / "state", secrets_dir=root / "secrets") as bench:
        verdict = await bench.installed(requirement(wheel), concurrency=8)
        assert verdict.status.state == "Installed", verdict.status.message
        yield bench


async def test_definitions_are_published_with_schema_and_description(robot: Bench) -> None:
    definitions = {d.name: d for d in robot.executor.definitions()}
    assert definitions["add"].description == "Add two numbers."
    assert definitions["add"].parameters == {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 2}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert {"os.command", "bank.typed", "slow_hello"} <= definitions.keys()


async def test_a_function_returns_its_result(robot: Bench) -> None:
    record = await robot.run("add", 40)
    assert (record.end.outcome, record.end.result, record.end.exit_code) == ("Succeeded", 42, None)


async def test_an_async_function_returns_its_result(robot: Bench) -> None:
    assert (await robot.run("slow_hello", name="мир")).end.result == "hello мир"


async def test_arguments_become_the_annotated_types_and_results_json(robot: Bench) -> None:
    row = {"amount": "12.30", "day": "2026-11-24"}
    record = await robot.run("bank.typed", [row], "blue", "/tmp/x", "t1", "t2", limit=3)
    assert record.end.result == {
        "rows": [{**row, "note": ""}],
        "types": ["Decimal", "date", "PosixPath"],
        "color": "blue",
        "where": "/tmp/x",
        "tags": ["t1", "t2"],
        "limit": 3.0,
    }


@pytest.mark.parametrize(
    ("args", "kwargs", "field"),
    [
        (["x"], {}, "input.args[0]"),
        ([True], {}, "input.args[0]"),
        ([], {"b": 1}, "input.kwargs.a"),
        ([1, 2, 3], {}, "input.args[2]"),
        ([1], {"a": 2}, "input.kwargs.a"),
    ],
)
async def test_wrong_arguments_are_refused_before_anything_starts(
    robot: Bench, args: list[object], kwargs: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        await robot.start("add", *args, **kwargs)
    assert caught.value.field == field


async def test_what_only_the_type_can_tell_fails_naming_the_field(robot: Bench) -> None:
    record = await robot.run("bank.typed", [{"amount": "1", "day": "31.12.2026"}], "red", "/")
    assert (record.end.outcome, record.end.reason) == ("Failed", "InvalidArguments")
    assert "input.args[0][0].day" in record.end.message


async def test_everything_said_arrives_with_stream_and_level(robot: Bench) -> None:
    record = await robot.run("speak")
    assert record.text("stdout") == "printed and ended\nraw \ufffd bytes\n"
    assert record.text("stderr") == "to stderr\n"
    logged = [(x.level, x.text) for x in record.lines if x.stream == "log"]
    assert logged[:2] == [("WARNING", "warned"), ("ERROR", "failed softly")]
    assert ("WARNING", True) in [(level, "a Python warning" in text) for level, text in logged]


async def test_a_named_parameter_receives_a_logger(robot: Bench) -> None:
    record = await robot.run("with_logger", "hot", options={"inject": {"logger": "my_logger"}})
    assert [(x.level, x.text) for x in record.lines] == [("CRITICAL", "hot")]


async def test_an_annotated_parameter_receives_a_logger(robot: Bench) -> None:
    record = await robot.run("with_annotated_logger", "calm")
    assert [(x.stream, x.text) for x in record.lines] == [("log", "calm")]


async def test_injecting_into_no_parameter_is_refused(robot: Bench) -> None:
    with pytest.raises(InvalidArgumentsError, match=r"inject\.logger"):
        await robot.start("add", 1, options={"inject": {"logger": "nope"}})


async def test_an_exception_fails_with_the_robots_own_frames(robot: Bench) -> None:
    record = await robot.run("fail", "no such invoice")
    assert (record.end.outcome, record.end.reason) == ("Failed", "ExceptionRaised")
    error = record.end.error
    assert error is not None
    assert (error.type, error.message) == ("LookupError", "no such invoice")
    assert "in inner" in error.traceback
    assert "payload.py" not in error.traceback


async def test_a_function_that_looks_at_should_stop_ends_in_order(robot: Bench) -> None:
    for name in ("polite", "waits"):
        uid = await robot.start(name)
        await robot.printed(uid, "ready")
        await robot.executor.stop(uid, 1, 30)
        record = await robot.finished(uid)
        assert (record.end.outcome, record.end.reason) == ("Stopped", "StopRequested")
        assert record.end.result in ("stopped in order", True)


async def test_a_function_that_does_not_look_is_killed_after_the_grace(robot: Bench) -> None:
    uid = await robot.start("deaf")
    await robot.printed(uid, "ready")
    await robot.executor.stop(uid, 1, 0.2)
    assert (await robot.finished(uid)).end.outcome == "Killed"


async def test_a_child_process_in_another_session_sees_the_stop(robot: Bench) -> None:
    uid = await robot.start("child_sees_stop")
    await robot.printed(uid, "ready")
    await robot.executor.stop(uid, 1, 30)
    record = await robot.finished(uid)
    assert (record.end.outcome, record.text()) == ("Stopped", "ready\nTrue\n")


async def test_the_last_progress_arrives(robot: Bench) -> None:
    record = await robot.run("report_progress")
    assert (record.progress[-1].fraction, record.progress[-1].message) == (1.0, "done")
    assert len(record.progress) < 100


async def test_a_credential_is_read_through_the_sdk(robot: Bench) -> None:
    assert (await robot.run("secret")).end.result == ["password", "username"]
    record = await robot.run("missing_secret")
    assert "this robot has: sap" in record.end.message


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ("bad_result", "ResultNotSerializable"),
        ("not_a_number", "ResultNotSerializable"),
        ("surrogate", "ResultNotSerializable"),
        ("vanish", "WorkerCrashed"),
        ("crash", "WorkerCrashed"),
    ],
)
async def test_an_unusable_end_fails_with_its_reason(robot: Bench, definition: str, reason: str) -> None:
    record = await robot.run(definition)
    assert (record.end.outcome, record.end.reason) == ("Failed", reason)


async def test_a_result_may_be_large_but_not_too_large(robot: Bench) -> None:
    limit = 4 * 1024 * 1024 - 2
    assert len((await robot.run("big", limit)).end.result) == limit
    record = await robot.run("big", limit + 1)
    assert (record.end.outcome, record.end.reason, record.end.result) == ("Failed", "ResultTooLarge", None)


async def test_sys_exit_counts_as_an_exit_code(robot: Bench) -> None:
    assert (await robot.run("leave", 0)).end.outcome == "Succeeded"
    record = await robot.run("leave", 3)
    assert (record.end.outcome, record.end.reason, record.end.exit_code) == ("Failed", "NonZeroExit", 3)


async def test_nothing_that_a_function_leaves_running_survives_it(robot: Bench) -> None:
    nap = f"6{uuid.uuid4().int % 10**8:08d}"
    record = await robot.run("leaves_things_running", nap)
    assert (record.end.outcome, record.end.survivors) == ("Succeeded", ())
    assert living(nap) == set()
    assert not psutil.pid_exists(record.end.result)


async def test_a_killed_shim_takes_forks_without_exec_along(robot: Bench) -> None:
    uid = await robot.start("forks_without_exec")
    await robot.printed(uid, "ready")
    stray = int((robot.state_dir / "files" / "stray.pid").read_text())
    os.kill(json.loads((robot.directory(uid) / "state.json").read_text())["shim"], signal.SIGKILL)
    record = await robot.finished(uid)
    assert (record.end.reason, record.end.survivors) == ("ShimLost", ())
    await eventually(lambda: not Path(f"/proc/{stray}").exists())


async def test_only_process_start_may_leave_a_process_behind(robot: Bench) -> None:
    record = await robot.run("lies", 0)
    assert record.end.outcome == "Succeeded"
    assert living("sleep\x00601") == set()


async def test_garbage_on_the_control_channel_is_survived(robot: Bench) -> None:
    record = await robot.run("garbage")
    assert record.end.outcome == "Succeeded"
    assert [x.stream for x in record.lines] == ["agent", "agent", "agent"]


async def test_functions_run_in_the_robots_own_environment(robot: Bench) -> None:
    result = (await robot.run("whereami")).end.result
    assert result["executable"].startswith(str(robot.state_dir / "venvs"))
    assert result["cwd"] == str(robot.state_dir / "files")
    assert result["pid"] != os.getpid()
    assert not {"pydantic", "psutil", "websockets"} & set(result["modules"])


async def test_commands_find_the_programs_of_the_robots_environment(robot: Bench) -> None:
    record = await robot.run("os.command", ["python", "-c", "import acts, sys; print(sys.prefix)"])
    assert record.lines[-1].text.startswith(str(robot.state_dir / "venvs"))


async def test_a_warm_function_starts_without_a_cold_interpreter(robot: Bench) -> None:
    # 45 ms is what a cold Python alone costs; the bound is generous, the median decides.
    times = sorted([(await robot.run("add", 1)).end.run_seconds for _ in range(11)])
    assert times[5] < 0.1


async def test_a_zygote_that_dies_is_replaced_and_runs_go_on(robot: Bench) -> None:
    uid = await robot.start("polite")
    await robot.printed(uid, "ready")
    launcher = local_workers(robot.executor)._robot
    assert launcher is not None
    os.kill(launcher.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    assert (await robot.run("add", 1)).end.result == 3
    assert robot.record(uid).finished is None
    await robot.executor.stop(uid, 1, 30)
    assert (await robot.finished(uid)).end.outcome == "Stopped"
