"""What `kuberpa up` shows: a live table on a terminal, plain lines elsewhere."""

from collections.abc import Iterable
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from kuberpa_cli.embedded.binaries import Target
from kuberpa_cli.embedded.part import Condition, State

_COLOURS = {
    State.WAITING: "dim",
    State.STARTING: "cyan",
    State.READY: "green",
    State.RESTARTING: "yellow",
    State.STOPPING: "cyan",
    State.STOPPED: "dim",
    State.FAILED: "red",
}
_HEARTBEAT_SECONDS = 30.0


class BuildScreen:
    """Says what is built, how far it is and how long it usually takes; lines every half minute without a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._target: Target | None = None
        self._packages = self._compiled = 0
        self._told = self._begun = 0.0
        self._task: TaskID | None = None
        self._progress = Progress(
            TextColumn("Building [bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} packages"),
            TimeElapsedColumn(),
            TextColumn("[dim]usually {task.fields[usual]} on 2 cores"),
            console=console,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, message: str) -> None:
        """A line."""
        self._console.print(message)

    def started(self, target: Target, packages: int) -> None:
        """A new bar."""
        self._target, self._packages, self._compiled = target, packages, 0
        self._begun = self._told = monotonic()
        if self._console.is_terminal:
            self._progress.start()
            self._task = self._progress.add_task(
                target.name, total=packages or None, usual=_clock(target.usual_seconds)
            )
        else:
            self.say(f"Building {target.name} (once; usually {_clock(target.usual_seconds)} on 2 cores)")

    def compiled(self, packages: int) -> None:
        """Move the bar."""
        self._compiled = packages
        if self._task is not None:
            self._progress.update(self._task, completed=packages)
        elif self._target and monotonic() - self._told > _HEARTBEAT_SECONDS:
            self._told = monotonic()
            elapsed = _clock(self._told - self._begun)
            self.say(f"  {self._target.name}: {packages} of {self._packages} packages after {elapsed}")

    def finished(self, target: Target, seconds: float) -> None:
        """The bar is full: what the compiler found in its cache was not counted."""
        if self._task is not None:
            self._progress.update(self._task, completed=self._packages)
        else:
            self.say(f"  built {target.name} in {_clock(seconds)}")


class StartScreen:
    """Shows the parts as they come up, and afterwards a line for each crash and restart."""

    def __init__(self, console: Console, names: Iterable[str]) -> None:
        self._console = console
        self._conditions = {name: Condition(name, State.WAITING) for name in names}
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=8, transient=True)
        self._starting = True

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle()

    def settle(self) -> None:
        """From now on only what is worth a line is shown."""
        self._live.stop()
        self._starting = False

    def show(self, condition: Condition) -> None:
        """A part's condition changed."""
        before = self._conditions.get(condition.name)
        self._conditions[condition.name] = condition
        changed = before is None or before.state is not condition.state
        if changed and self._worth_a_line(condition, before):
            note = f": {condition.message}" if condition.message else ""
            colour = _COLOURS[condition.state]
            self._console.print(f"[{colour}]{condition.name}[/] {condition.state.value}{note}", highlight=False)

    def _worth_a_line(self, condition: Condition, before: Condition | None) -> bool:
        if condition.state in {State.RESTARTING, State.FAILED}:
            return True
        if condition.state is State.READY:
            recovered = condition.restarts > 0 and before is not None
            return recovered or (self._starting and not self._console.is_terminal)
        return False

    def _table(self) -> Table:
        return conditions_table(self._conditions.values())


def conditions_table(conditions: Iterable[Condition]) -> Table:
    """Parts and how they are."""
    table = Table("PART", "STATE", "RESTARTS", "PID", "", box=None, pad_edge=False, header_style="dim")
    for one in conditions:
        state = f"[{_COLOURS[one.state]}]{one.state.value}[/]"
        table.add_row(one.name, state, str(one.restarts or ""), str(one.pid or ""), one.message)
    return table


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
