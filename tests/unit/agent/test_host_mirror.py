"""Answers of a host arrive in any order and overlap; what is mirrored is whole."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from kuberpa_agent.host.mirror import Mirror
from kuberpa_agent.worker import rundir

RUN = "u-1"
OUTPUT = '{"n": 1, "x": "one"}\n{"n": 2, "x": "zwei ä"}\n{"n": 3, "x": "three"}\n'
ENDS = [0, 21, len(OUTPUT[: OUTPUT.index('{"n": 3')].encode()), len(OUTPUT.encode())]
EXIT = {"outcome": "Succeeded", "endedAgo": 0.0, "endedAt": 1.0, "lastSeq": 3}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "runs" / RUN
    directory.mkdir(parents=True)
    (directory / rundir.JOB).write_text("{}")
    return directory


def answer(begin: int, end: int) -> dict[str, Any]:
    """What the host says to one that has everything up to `begin`, when it has written up to `end`."""
    text = OUTPUT.encode()[begin:end].decode()
    one = {"run": RUN, "missing": False, "offset": begin, "output": text, "progress": None, "held": False}
    exit_ = EXIT if end == ENDS[-1] else None
    return {"clock": 0.0, "problems": [], "runs": [{**one, "state": {"shim": 1}, "exit": exit_}]}


ANSWERS = [(begin, end) for begin in ENDS for end in ENDS if begin <= end]


@pytest.mark.parametrize(("first", "second"), [*itertools.product(ANSWERS, ANSWERS)])
def test_of_two_answers_that_overlap_nothing_is_lost_and_nothing_comes_twice(
    directory: Path, first: tuple[int, int], second: tuple[int, int]
) -> None:
    mirror, output = Mirror(directory.parent.parent, None), directory / rundir.OUTPUT
    for begin, end in (first, second):
        mirror.apply({"secretsDigest": "", "forget": []}, answer(begin, end))
        text = output.read_text() if output.exists() else ""
        assert OUTPUT.startswith(text)
        assert text == OUTPUT or not (directory / rundir.EXIT).exists()
    mirror.apply({"secretsDigest": "", "forget": []}, answer(len(text.encode()), ENDS[-1]))
    assert output.read_text() == OUTPUT
    assert (directory / rundir.EXIT).exists()
