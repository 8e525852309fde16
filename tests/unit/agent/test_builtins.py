import base64
import hashlib
import os
import sys
import uuid
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.agent_runs import Bench, eventually, living


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


CONTENT = bytes(range(256)) * 5000


async def put(bench: Bench, path: str, content: bytes, *, chunk: int = 400_000, sha256: str | None = None) -> list[Any]:
    digest = sha256 or hashlib.sha256(content).hexdigest()
    records = []
    for offset in range(0, len(content), chunk):
        data = base64.b64encode(content[offset : offset + chunk]).decode()
        records.append(await bench.run("file.put", path, data, offset=offset, size=len(content), sha256=digest))
    return [r.end for r in records]


async def test_a_file_goes_to_the_robot_and_back_in_chunks(bench: Bench) -> None:
    ends = await put(bench, "in/data.bin", CONTENT)
    assert [e.result["complete"] for e in ends] == [False, False, False, True]
    assert (bench.state_dir / "files" / "in" / "data.bin").read_bytes() == CONTENT
    got = b""
    while True:
        result = (await bench.run("file.get", "in/data.bin", offset=len(got), length=500_000)).end.result
        data = base64.b64decode(result["data"])
        assert hashlib.sha256(data).hexdigest() == result["sha256"]
        got += data
        if result["eof"]:
            break
    assert got == CONTENT
    stat = (await bench.run("file.stat", "in/data.bin", sha256=True)).end.result
    assert (stat["size"], stat["kind"], stat["sha256"]) == (len(CONTENT), "file", hashlib.sha256(CONTENT).hexdigest())


async def test_a_file_with_a_wrong_hash_never_appears(bench: Bench) -> None:
    (bench.state_dir / "files" / "x").write_bytes(b"before")
    ends = await put(bench, "x", b"after", sha256="0" * 64)
    assert ends[-1].outcome == "Failed"
    assert "SHA-256" in ends[-1].message
    assert [p.name for p in (bench.state_dir / "files").iterdir()] == ["x"]
    assert (bench.state_dir / "files" / "x").read_bytes() == b"before"


async def test_a_repeated_chunk_changes_nothing_and_a_gap_is_refused(bench: Bench) -> None:
    digest = hashlib.sha256(b"abcdef").hexdigest()

    async def chunk(offset: int, data: bytes) -> Any:
        encoded = base64.b64encode(data).decode()
        return (await bench.run("file.put", "f", encoded, offset=offset, size=6, sha256=digest)).end

    await chunk(0, b"abc")
    await chunk(0, b"abc")
    assert "leaves a gap: 3 bytes are here" in (await chunk(5, b"f")).message
    assert (await chunk(3, b"def")).result["complete"]
    assert (bench.state_dir / "files" / "f").read_bytes() == b"abcdef"


@pytest.mark.parametrize("path", ["../outside", "a/../../outside", "", "link/outside"])
async def test_a_relative_path_stays_in_the_files_folder(bench: Bench, path: str) -> None:
    (bench.state_dir / "files" / "link").symlink_to(bench.state_dir)
    record = await bench.run("file.stat", path)
    assert (record.end.outcome, record.end.error.type if record.end.error else "") == ("Failed", "ValueError")


async def test_an_absolute_path_is_allowed_and_absence_is_an_answer(bench: Bench, tmp_path: Path) -> None:
    assert (await bench.run("file.stat", str(tmp_path))).end.result["kind"] == "folder"
    assert (await bench.run("file.stat", "nothing")).end.result["exists"] is False
    assert (await bench.run("file.get", "nothing")).end.message.startswith("FileNotFoundError")


async def test_processes_are_listed_by_name(bench: Bench) -> None:
    listed = (await bench.run("process.list", name=psutil.Process().name())).end.result
    own = next(p for p in listed if p["pid"] == os.getpid())
    assert own["memoryBytes"] > 0
    assert own["commandLine"]
    assert own["ppid"] == os.getppid()


async def test_a_started_program_outlives_its_activity_and_is_stopped_by_name_or_pid(bench: Bench) -> None:
    nap = f"6{uuid.uuid4().int % 10**8:08d}"
    record = await bench.run("process.start", ["sleep", nap])
    pid = record.end.result["pid"]
    assert (record.end.outcome, record.end.survivors) == ("Succeeded", ())
    assert living(nap) == {pid}
    assert b"KUBERPA_RUN=" not in environment(pid)
    stopped = (await bench.run("process.stop", pid=pid)).end.result
    assert stopped == {"stopped": [pid], "killed": []}
    await eventually(lambda: living(nap) == set())


async def test_stopping_kills_what_ignores_it_with_its_children(bench: Bench) -> None:
    nap = f"6{uuid.uuid4().int % 10**8:08d}"
    code = f"import signal,subprocess; signal.signal(15, signal.SIG_IGN); subprocess.run(['sleep', '{nap}'])"
    pid = (await bench.run("process.start", [sys.executable, "-c", code])).end.result["pid"]
    await eventually(lambda: len(living(nap)) == 2)
    result = (await bench.run("process.stop", pid=pid, timeout_seconds=0.3)).end.result
    assert pid in result["killed"]
    await eventually(lambda: living(nap) == set())


async def test_a_program_that_ends_at_once_with_an_error_is_not_started(bench: Bench) -> None:
    record = await bench.run("process.start", ["false"])
    assert (record.end.outcome, "exit code 1" in record.end.message) == ("Failed", True)
    assert (await bench.run("process.start", ["no-such-program"])).end.outcome == "Failed"


async def test_stopping_nothing_is_no_error_and_neither_or_both_is(bench: Bench) -> None:
    assert (await bench.run("process.stop", "no-such-program")).end.result == {"stopped": [], "killed": []}
    assert (await bench.run("process.stop")).end.outcome == "Failed"
    assert (await bench.run("process.stop", "x", 1)).end.outcome == "Failed"
