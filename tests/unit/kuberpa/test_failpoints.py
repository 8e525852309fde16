import os
import subprocess
import sys
from pathlib import Path

CODE = "from kuberpa.failpoints import Failpoint, reach; reach(Failpoint.FIRE_AFTER); print('passed')"


def run(tmp_path: Path, point: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"KUBERPA_FAILPOINT": point, "KUBERPA_FAILPOINT_ONCE": str(tmp_path / "once")}
    return subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, text=True, check=False)


def test_an_armed_failpoint_crashes_the_process_once(tmp_path: Path) -> None:
    assert run(tmp_path, "operator.fire.after").returncode == 86
    assert run(tmp_path, "operator.fire.after").stdout == "passed\n"


def test_another_failpoint_is_passed(tmp_path: Path) -> None:
    assert run(tmp_path, "operator.fire.before").stdout == "passed\n"
