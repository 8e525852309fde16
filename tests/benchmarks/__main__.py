"""All benchmarks in one run: `make bench`. Prints a table, and writes it to docs/benchmarks.md with commit and machine.

Each suite is a module that prints one JSON object a line: `measurement`, figures, and what they are held against:
`target` (at least; of `ratio` where there is one, else of `kuberpa`) or `target_<figure>` (at most). A suite measures
its peers itself in the same run, because only ratios of one run mean something on a machine that does other work too.
Suites that take ten minutes or more run only when they are named, and have a part of the page of their own.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).parents[2]
REPORT = REPOSITORY / "docs" / "benchmarks.md"
ALL = "make bench"
"""The part of the page that a whole run writes; a long suite's has the name of the suite."""


class Suite(NamedTuple):
    """A module that measures, and how it is called."""

    title: str
    module: str
    arguments: tuple[str, ...] = ()
    long: bool = False
    """Takes ten minutes or more."""
    called: str = ""

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        return self.called or self.module.rpartition(".")[2]


SUITES = (
    Suite("Dispatch", "tests.benchmarks.dispatch"),
    Suite("Work queues over HTTP", "tests.benchmarks.queues"),
    Suite("Work queues over agents' connections", "tests.benchmarks.queue_agents"),
    Suite("Stop and kill", "tests.benchmarks.stopping"),
    Suite("Sessions over RDP", "tests.benchmarks.holding"),
    Suite("Fleets", "tests.benchmarks.fleets"),
    Suite("Fleets of real agents", "tests.benchmarks.fleets", ("--agents", "process", "--robots", "30")),
    Suite("Schedules", "tests.benchmarks.schedules"),
    Suite("GSettings", "tests.benchmarks.gsettings"),
    Suite("The panel's list of robots", "tests.benchmarks.panel"),
    Suite("Logs", "tests.benchmarks.logs"),
    Suite("Screens", "tests.benchmarks.sessions"),
    Suite("A thousand robots at work", "tests.benchmarks.load", long=True),
    Suite("Work queues with ten million items", "tests.benchmarks.queues", ("--long",), long=True, called="rows"),
)


@dataclass(frozen=True)
class Measurement:
    """One line of a suite."""

    name: str
    figures: dict[str, Any]
    targets: dict[str, float]

    @classmethod
    def parse(cls, line: str) -> "Measurement":
        body = json.loads(line)
        name = str(body.pop("measurement"))
        targets = {key: float(body.pop(key)) for key in list(body) if key.startswith("target")}
        return cls(name, body, targets)

    @property
    def goal(self) -> str:
        """What the figures are held against, and whether they meet it."""
        words = []
        for key, target in self.targets.items():
            figure = key.removeprefix("target").removeprefix("_")
            at_most = bool(figure)
            figure = figure or ("ratio" if "ratio" in self.figures else "kuberpa")
            value = self.figures[figure]
            met = value <= target if at_most else value >= target
            words.append(f"{figure} {'≤' if at_most else '≥'} {target:g}: {'met' if met else '**missed**'}")
        return "; ".join(words)

    @property
    def row(self) -> str:
        """A row of the table."""
        figures = ", ".join(f"{key} {_number(value)}" for key, value in self.figures.items())
        return f"| {self.name} | {figures} | {self.goal} |"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}" if isinstance(value, float) else str(value)


def measure(suite: Suite) -> Iterator[Measurement]:
    """The suite's measurements as they come. Raises SystemExit when it fails."""
    command = [sys.executable, "-m", suite.module, *suite.arguments]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith('{"measurement"'):
                yield Measurement.parse(line)
    if process.returncode:
        sys.exit(f"{suite.module} failed with exit code {process.returncode}")


def heading(now: datetime) -> str:
    """Commit, machine and time of a run."""
    git = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, check=False, capture_output=True, text=True).stdout.strip() or "unknown"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"
    return f"Commit {commit}, {now:%Y-%m-%d %H:%M} UTC, {machine}, Python {platform.python_version()}."


def report(suite: Suite) -> list[str]:
    """Run a suite; prints its table as it grows, and returns it."""
    lines = ["", f"### {suite.title}", "", "| Measurement | Measured | Goal |", "|---|---|---|"]
    print("\n".join(lines), flush=True)
    for measurement in measure(suite):
        print(measurement.row, flush=True)
        lines.append(measurement.row)
    return lines


def write(part: str, lines: list[str]) -> None:
    """Put lines into their part of the page."""
    begin, end = f"<!-- begin: {part} -->", f"<!-- end: {part} -->"
    before, _, rest = REPORT.read_text("utf-8").partition(begin)
    after = rest.partition(end)[2]
    REPORT.write_text(f"{before}{begin}\n{chr(10).join(lines)}\n{end}{after}", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure everything in one run.")
    known = {suite.name: suite for suite in SUITES}
    long = ", ".join(name for name, suite in known.items() if suite.long)
    helped = f"only these: {', '.join(known)}; only when named: {long}"
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=helped)
    chosen = parser.parse_args().suites
    if unknown := sorted(set(chosen) - set(known)):
        parser.error(f"no such suite: {', '.join(unknown)}; there are {', '.join(known)}")
    head = heading(datetime.now(UTC))  # noqa: TID251  a report has the time of its run
    print(head, flush=True)
    lines = [head]
    for suite in SUITES:
        if suite.name in chosen or not (chosen or suite.long):
            found = report(suite)
            lines += found
            if suite.long:
                write(suite.name, [head, *found])
    if not chosen:
        write(ALL, lines)


if __name__ == "__main__":
    main()
