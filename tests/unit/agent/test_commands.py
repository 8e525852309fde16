import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent_runs import Bench

from kuberpa_agent.errors import InvalidArgumentsError, UnknownDefinitionError
from kuberpa_agent.worker.output import MAX_LINE_CHARS


async def test_a_command_succeeds_with_its_exit_code_and_output(bench: Bench) -> None:
    record = await bench.run("os.command", ["echo", "hi"])
    assert (record.end.outcome, record.end.reason, record.end.exit_code) == ("Succeeded", "Completed", 0)
    assert record.end.result == {"exitCode": 0, "stdout": "hi\n", "stderr": ""}
    assert [(x.seq, x.stream, x.text) for x in record.lines] == [(1, "stdout", "hi")]
    assert record.started is not None
    assert record.end.last_seq == 1
    assert record.end.survivors == ()


async def test_a_non_zero_exit_fails_and_says_the_last_words(bench: Bench) -> None:
    record = await bench.run("os.command", "echo no such account >&2; exit 3", shell=True)
    assert (record.end.outcome, record.end.reason, record.end.exit_code) == ("Failed", "NonZeroExit", 3)
    assert record.end.message == "ended with exit code 3: no such account"


async def test_a_non_zero_exit_succeeds_without_check(bench: Bench) -> None:
    record = await bench.run("os.command", "exit 3", shell=True, check=False)
    assert (record.end.outcome, record.end.result["exitCode"]) == ("Succeeded", 3)


async def test_a_program_that_dies_by_a_signal_is_named(bench: Bench) -> None:
    record = await bench.run("os.command", "kill -SEGV $$", shell=True)
    assert (record.end.outcome, record.end.exit_code) == ("Failed", -11)
    assert "SIGSEGV" in record.end.message


async def test_a_missing_program_is_named(bench: Bench) -> None:
    record = await bench.run("os.command", ["no-such-program-here"])
    assert (record.end.outcome, record.end.reason) == ("Failed", "StartFailed")
    assert "no-such-program-here" in record.end.message
    assert record.started is None


async def test_stdin_environment_and_folder_reach_the_program(bench: Bench) -> None:
    (bench.state_dir / "files" / "in").mkdir()
    record = await bench.run("os.command", ["sh", "-c", "cat; echo $X; pwd"], stdin="один\n", env={"X": "y"}, cwd="in")
    assert record.text() == f"один\ny\n{bench.state_dir}/files/in\n"


async def test_a_missing_folder_is_an_invalid_argument(bench: Bench) -> None:
    record = await bench.run("os.command", ["true"], cwd="nowhere")
    assert (record.end.outcome, record.end.reason) == ("Failed", "InvalidArguments")
    assert "input.kwargs.cwd" in record.end.message


@pytest.mark.parametrize("encoding", ["cp866", "cp1251", "utf-8", "utf-16-le"])
async def test_output_is_decoded_by_the_given_encoding(bench: Bench, encoding: str) -> None:
    code = f"import sys; sys.stdout.buffer.write('Привет, мир\\nещё\\n'.encode('{encoding}'))"  # noqa: RUF001  Cyrillic is what is tested
    record = await bench.run("os.command", [sys.executable, "-c", code], encoding=encoding)
    assert record.text() == "Привет, мир\nещё\n"  # noqa: RUF001  as above


async def test_stdin_is_encoded_by_the_given_encoding(bench: Bench) -> None:
    code = "import sys; print(sys.stdin.buffer.read().hex())"
    record = await bench.run("os.command", [sys.executable, "-c", code], stdin="Я", encoding="cp866")
    assert record.text() == "9f\n"


async def test_bytes_that_do_not_decode_become_replacement_characters(bench: Bench) -> None:
    record = await bench.run("os.command", ["printf", r"a\377\376b\000c\n"])
    assert record.text() == "a\ufffd\ufffdb\ufffdc\n"


async def test_an_unknown_encoding_is_an_invalid_argument(bench: Bench) -> None:
    record = await bench.run("os.command", ["true"], encoding="cp99999")
    assert (record.end.reason, "input.kwargs.encoding" in record.end.message) == ("InvalidArguments", True)


async def test_a_long_line_is_split_with_continuation(bench: Bench) -> None:
    code = f"print('x' * {3 * MAX_LINE_CHARS + 5})"
    record = await bench.run("os.command", [sys.executable, "-c", code])
    assert [(len(x.text), x.continues) for x in record.lines] == [
        (MAX_LINE_CHARS, True),
        (MAX_LINE_CHARS, True),
        (MAX_LINE_CHARS, True),
        (5, False),
    ]


async def test_a_prompt_without_newline_arrives_while_the_program_waits(bench: Bench) -> None:
    uid = await bench.start("os.command", ["sh", "-c", "printf 'Continue? '; sleep 600"])
    record = await bench.printed(uid, "Continue? ")
    assert record.lines[0].continues
    await bench.executor.kill(uid, 1)
    await bench.finished(uid)


async def test_output_arrives_within_300_ms(bench: Bench) -> None:
    script = "import sys,time\nfor _ in range(10):\n print(time.time(), flush=True); time.sleep(0.05)"
    delays: list[float] = []
    uid = await bench.start("os.command", [sys.executable, "-c", script])

    def note() -> bool:
        record = bench.record(uid)
        while len(delays) < len(record.lines):
            delays.append(time.time() - float(record.lines[len(delays)].text))
        return record.finished is not None

    await bench.until(note)
    assert len(delays) == 10
    assert sorted(delays)[len(delays) // 2] < 0.3


async def test_a_flood_of_20_mb_arrives_whole_and_in_order(bench: Bench) -> None:
    lines = 20 * 1024 * 1024 // 100
    record = await bench.run("os.command", ["sh", "-c", f"yes {'f' * 99} | head -n {lines}"])
    assert record.end.outcome == "Succeeded"
    assert len(record.lines) == lines == record.end.last_seq
    assert [x.seq for x in record.lines] == list(range(1, lines + 1))


async def test_output_beyond_the_limit_is_counted_and_does_not_block(tmp_path: Path) -> None:
    async with Bench(tmp_path / "state", output_limit_bytes=100_000) as bench:
        record = await bench.run("os.command", ["sh", "-c", "yes 123456789 | head -n 100000; echo end"])
    assert record.end.outcome == "Succeeded"
    assert record.end.result["stdout"].endswith("123456789\nend\n")
    assert record.lines[-1].stream == "agent"
    kept = len(record.lines) - 1
    assert f"{100_001 - kept} more lines" in record.lines[-1].text


async def test_an_unknown_definition_is_refused(bench: Bench) -> None:
    with pytest.raises(UnknownDefinitionError, match=r"no definition 'os.system'; it has: .*os\.command"):
        await bench.start("os.system", "id")


@pytest.mark.parametrize(
    ("args", "kwargs", "field"),
    [
        ([], {}, "input.kwargs.args"),
        ([["echo", 1]], {}, "input.args[0][1]"),
        ([["echo"], "more"], {}, "input.args[1]"),
        ([["echo"]], {"nonsense": 1}, "input.kwargs.nonsense"),
        ([["echo"]], {"args": ["echo"]}, "input.kwargs.args"),
        ([["echo"]], {"env": {"A": 1}}, "input.kwargs.env.A"),
        ([["echo"]], {"check": "yes"}, "input.kwargs.check"),
    ],
)
async def test_wrong_arguments_are_refused_naming_the_field(
    bench: Bench, args: list[object], kwargs: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        await bench.start("os.command", *args, **kwargs)
    assert caught.value.field == field
    assert bench.executor.runs() == ()


async def test_a_string_without_shell_is_explained(bench: Bench) -> None:
    record = await bench.run("os.command", "echo hi")
    assert (record.end.reason, "needs shell: true" in record.end.message) == ("InvalidArguments", True)


async def test_powershell_without_powershell_is_not_supported(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    record = await bench.run("os.powershell", "Get-Date", env={"PATH": "/nowhere"})
    assert (record.end.outcome, record.end.reason) == ("Failed", "NotSupported")
