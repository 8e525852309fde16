"""A host whose disk is full: what is said, what waits, and that nothing runs twice when there is room again."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.winrm.bench import HostBench
from tests.support.winrm.here import Here

from kuberpa.host import RobotHostSpec

pytestmark = pytest.mark.timeout(240)
SPEC = RobotHostSpec.of({"address": "here", "winrm": {"credentialsSecretRef": {"name": "x"}}})


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    base = tmp_path / "host"
    base.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(base)], check=True)
    yield Here(base)
    subprocess.run(["umount", "--lazy", str(base)], check=True)


@pytest.fixture
async def bench(here: Here, tmp_path: Path) -> AsyncIterator[HostBench]:
    for name in ("state", "credentials"):
        (tmp_path / name).mkdir()
    async with HostBench(tmp_path / "state", SPEC, here, robot="r", credentials=tmp_path / "credentials") as bench:
        await bench.reached()
        yield bench


def fill(here: Here) -> Path:
    """Leave no room at all."""
    path = here.base / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (65536, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return path


async def test_a_start_waits_until_there_is_room_and_then_happens_once(
    here: Here, bench: HostBench, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    filler = fill(here)
    uid = await bench.start("os.command", ["sh", "-c", f"echo ran >>{ledger}; echo said"])
    report = await bench.reported("DiskFull")
    assert "No space left on device" in report.message
    assert not ledger.exists()
    filler.unlink()
    record = await bench.finished(uid)
    assert (record.end.outcome, record.text()) == ("Succeeded", "said\n")
    assert ledger.read_text() == "ran\n"


async def test_a_run_whose_output_finds_no_room_ends_and_says_so(here: Here, bench: HostBench, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo begun; until [ -e {go} ]; do sleep 0.05; done; seq 1 50000; echo ended"
    uid = await bench.start("os.command", ["sh", "-c", script])
    await bench.printed(uid, "begun")
    filler = fill(here)
    go.touch()
    await bench.reported("DiskFull")
    filler.unlink()
    end = (await bench.finished(uid)).end
    assert end.outcome == "Failed", end
    assert "found no room on the disk" in (end.message or "")
    assert end.survivors == ()
