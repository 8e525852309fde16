import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from kuberpa.robot import PackagesStatus
from kuberpa_agent.definitions import Known, known
from kuberpa_agent.launcher import Launcher, Offer, WorkerError, make_launcher
from kuberpa_agent.packages import InstallError, Packages, Wanted
from kuberpa_agent.requirements import RequirementError
from kuberpa_agent.runs import Event
from kuberpa_agent.worker import rundir

log = logging.getLogger(__name__)

_CURRENT: Final = "packages.json"
_MAX_MESSAGE_CHARS: Final = 4000


class Workers:
    """The warm workers: one for what every robot has, one for the robot's packages, replaced when those change."""

    def __init__(
        self,
        state_dir: Path,
        packages: Packages,
        used: Callable[[], frozenset[str]],
        changed: Callable[[], None],
    ) -> None:
        """`used`: fingerprints that running runs need; `changed`: called when definitions or the status change."""
        self._state_dir = state_dir
        self._packages = packages
        self._used = used
        self._changed = changed
        self._base: Launcher = make_launcher(Path(sys.executable), state_dir, "builtin", builtin=True)
        self._robot: Launcher | None = None
        self._known: dict[str, Known] = {}
        self._builtin: dict[str, Known] = {}
        self._task: asyncio.Task[None] | None = None
        self._wanted: Wanted | None = None
        self._settled = asyncio.Event()
        self._settled.set()
        self.fingerprint = ""
        """The set in use; empty for none."""
        self.status = PackagesStatus()

    @property
    def known(self) -> dict[str, Known]:
        """Definitions by name."""
        return {**self._known, **self._builtin}

    def announcements(self) -> tuple[Event, ...]:
        """What the panel is told besides definitions and packages."""
        return ()

    async def open(self) -> None:
        """Start the base worker, and that of the last working set. Raises WorkerError for the former."""
        await self._base.open()
        self._builtin = {k.definition.name: k for k in _known(self._base.offer, builtin=True)}
        current = rundir.read_json(self._state_dir / _CURRENT) or {}
        fingerprint = current.get("fingerprint", "")
        if fingerprint and self._packages.is_ready(fingerprint):
            try:
                await self._switch(fingerprint)
            except WorkerError as error:
                log.warning("the last working set of packages does not start: %s", error)

    def configure(self, wanted: Wanted) -> None:
        """Bring the packages to the wanted set in the background; a set that is being installed is given up."""
        if wanted == self._wanted and self.status.state != "Failed":
            return
        self._wanted = wanted
        previous, self._task = self._task, None
        self._settled.clear()
        self._task = asyncio.create_task(self._apply(wanted, previous))

    def leave(self) -> None:
        """The robot is deleted: what it has here goes with its pod."""

    async def settled(self) -> None:
        """Wait until no installation is under way."""
        await self._settled.wait()

    def launcher_of(self, target: Known) -> Launcher | None:
        """Who runs the definition."""
        return self._base if target.builtin else self._robot

    def path_of(self) -> Path | None:
        """Folder of the programs of the set in use."""
        return self._packages.bin(self.fingerprint) if self.fingerprint else None

    @property
    def python(self) -> Path:
        """The interpreter that has the robot's packages; the agent's own while there are none."""
        return self._packages.python(self.fingerprint) if self.fingerprint else Path(sys.executable)

    async def close(self) -> None:
        """End the workers and a running installation."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for launcher in (self._base, self._robot):
            if launcher is not None:
                await launcher.close()

    async def _apply(self, wanted: Wanted, previous: asyncio.Task[None] | None) -> None:
        if previous is not None:
            previous.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await previous
        try:
            if wanted.requirements:
                await self._install(wanted)
            else:
                await self._drop()
        except (InstallError, RequirementError, WorkerError) as error:
            kept = " The packages installed before stay in use." if self.fingerprint else ""
            self._report("Failed", self.status.fingerprint, f"{error}"[-_MAX_MESSAGE_CHARS + len(kept) :] + kept)
        self._settled.set()
        await self._packages.collect_garbage(self._used() | {self.fingerprint, ".cache"})

    async def _install(self, wanted: Wanted) -> None:
        self._report("Installing", "", f"installing {', '.join(wanted.requirements)}"[:500])
        fingerprint = await asyncio.to_thread(self._packages.fingerprint, wanted)
        if fingerprint != self.fingerprint or self._robot is None:
            self._report("Installing", fingerprint, self.status.message)
            await self._packages.install(wanted, fingerprint)
            await self._switch(fingerprint)
        self._report("Installed", fingerprint, "")

    async def _switch(self, fingerprint: str) -> None:
        """Start workers of the new set; only when they are up do the old ones go. Raises WorkerError."""
        new = make_launcher(self._packages.python(fingerprint), self._state_dir, fingerprint, builtin=False)
        try:
            await new.open()
            found = self._usable(new.offer)
        except BaseException:
            await new.close()
            raise
        old, self._robot, self._known, self.fingerprint = self._robot, new, found, fingerprint
        rundir.write_json(self._state_dir / _CURRENT, {"fingerprint": fingerprint}, durable=True)
        self._changed()
        if old is not None:
            await old.close()

    def _usable(self, offer: Offer) -> dict[str, Known]:
        """The definitions of new packages. Raises WorkerError when the set as a whole cannot be used."""
        if offer.errors:
            raise WorkerError("the packages are installed, but importing them fails: " + "\n".join(offer.errors))
        found = {k.definition.name: k for k in _known(offer, builtin=False)}
        if taken := sorted(found.keys() & self._builtin.keys()):
            raise WorkerError(f"the packages define {', '.join(taken)}, which every robot has: rename them")
        return found

    async def _drop(self) -> None:
        old, self._robot, self._known, self.fingerprint = self._robot, None, {}, ""
        rundir.write_json(self._state_dir / _CURRENT, {"fingerprint": ""}, durable=True)
        if old is not None:
            await old.close()
        self._report("None", "", "")

    def _report(self, state: str, fingerprint: str, message: str) -> None:
        self.status = PackagesStatus.of({"state": state, "fingerprint": fingerprint, "message": message[:4096]})
        self._changed()


def _known(offer: Offer, *, builtin: bool) -> Iterable[Known]:
    for described in offer.definitions:
        try:
            yield known(described, builtin=builtin)
        except ValidationError as error:
            raise WorkerError(f"definition {described.get('name')!r}: {error.errors()[0]['msg']}") from None
