"""The flight recorder: the last minutes of the screen while something runs, kept for the attempts that fail.

A ring of small pictures on disk, one every few seconds and only when the screen changed. When an attempt fails, the
pictures since it began are set aside (by hard links) until the panel has fetched them:

    {"do": "list"}                              → {"recordings": [[uid, token], …]}
    {"do": "read", "uid": U, "token": N}        → per picture bytes: its time in ms (8 bytes), JPEG; then {"end": n}
    {"do": "forget", "uid": U, "token": N}      → {"forgotten": true}
"""

import asyncio
import contextlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from kuberpa import wire
from kuberpa.lifecycle import Outcome
from kuberpa.streams import Stream
from kuberpa_agent.screen.capture import Frame, UncapturableError
from kuberpa_agent.visits.camera import Camera
from kuberpa_agent.visits.service import RemoteError

log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 2.0
BLIND_SECONDS: Final = 15.0
KEPT_SECONDS: Final = 5 * 60.0
RING_BYTES: Final = 48 * 1024 * 1024
RECORDINGS: Final = 20
"""That wait to be fetched; the oldest make way."""
LEAD_SECONDS: Final = 3.0
PICTURE: Final = (1280, 800)
QUALITY: Final = 40
_NAME: Final = re.compile(r"^[A-Za-z0-9-]{1,64}\.[0-9]{1,16}$")


class Recorder:
    """Records one robot's screen."""

    def __init__(
        self, camera: Camera, folder: Path, busy: Callable[[], bool], interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        """`busy` says whether anything runs."""
        self._camera, self._busy, self._interval = camera, busy, interval_seconds
        self._ring, self._kept = folder / "ring", folder / "kept"
        self._last: Frame | None = None
        self._endings: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Record until cancelled."""
        await asyncio.to_thread(self._begin)
        while True:
            wait = self._interval
            if self._busy():
                try:
                    await self._record(await self._camera.look(self._interval / 2))
                except UncapturableError:
                    wait = BLIND_SECONDS
                except OSError as error:
                    log.warning("the screen is not recorded: %s", error)
                    wait = BLIND_SECONDS
            await asyncio.sleep(wait)

    def note(self, finished: wire.Finished) -> None:
        """An attempt has ended: what was seen of it is set aside if it failed."""
        if finished.outcome is Outcome.FAILED:
            since = time.time() - finished.ended_ago_seconds - finished.run_seconds - LEAD_SECONDS
            task = asyncio.create_task(self._set_aside(f"{finished.uid}.{finished.token}", since))
            self._endings.add(task)
            task.add_done_callback(self._endings.discard)

    async def _set_aside(self, name: str, since: float) -> None:
        """With a last picture of how it looks now, which is what failed."""
        try:
            with contextlib.suppress(UncapturableError):
                await self._record(await self._camera.look())
            await asyncio.to_thread(self._link, self._kept / name, since)
        except OSError as error:
            log.warning("the recording of a failed attempt is lost: %s", error)

    def _link(self, target: Path, since: float) -> None:
        pictures = self._pictures()
        before = [each for each in pictures if int(each.stem) < since * 1000]
        chosen = before[-1:] + pictures[len(before) :]
        if chosen and not target.exists():
            target.mkdir(parents=True)
            for picture in chosen:
                os.link(picture, target / picture.name)
            for old in self._recordings()[:-RECORDINGS]:
                shutil.rmtree(old, ignore_errors=True)

    async def serve(self, stream: Stream, user: str, options: Mapping[str, Any]) -> None:  # noqa: ARG002  a Service
        """Answer the one question."""
        match options:
            case {"do": "list"}:
                await asyncio.gather(*self._endings, return_exceptions=True)
                names = [each.name.rpartition(".") for each in await asyncio.to_thread(self._recordings)]
                await stream.send(json.dumps({"recordings": [[uid, int(token)] for uid, _, token in names]}))
            case {"do": "read", "uid": str(uid), "token": int(token)}:
                await self._read(stream, self._of(uid, token))
            case {"do": "forget", "uid": str(uid), "token": int(token)}:
                await asyncio.to_thread(shutil.rmtree, self._of(uid, token), ignore_errors=True)
                await stream.send(json.dumps({"forgotten": True}))
            case _:
                raise RemoteError("do is one of list, read, forget")

    def _begin(self) -> None:
        shutil.rmtree(self._ring, ignore_errors=True)  # of an earlier life: nothing of it can fail any more
        self._ring.mkdir(parents=True)

    async def _record(self, frame: Frame) -> None:
        if self._last is not None and self._last.pixels == frame.pixels:
            return
        self._last = frame
        await asyncio.to_thread(self._write, frame, time.time())

    def _write(self, frame: Frame, now: float) -> None:
        (self._ring / f"{int(now * 1000)}.jpg").write_bytes(frame.jpeg(QUALITY, *PICTURE))
        pictures = self._pictures()
        total = sum(each.stat().st_size for each in pictures)
        for picture in pictures[:-1]:  # the last one before the window is what was seen when it began
            if total <= RING_BYTES and int(picture.stem) >= (now - KEPT_SECONDS) * 1000:
                break
            total -= picture.stat().st_size
            picture.unlink()

    def _pictures(self) -> list[Path]:
        """Of the ring, in order."""
        return sorted(self._ring.glob("*.jpg"), key=lambda each: int(each.stem))

    def _recordings(self) -> list[Path]:
        """What waits to be fetched, the oldest first."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(
                (each for each in self._kept.iterdir() if _NAME.match(each.name)), key=lambda each: each.stat().st_mtime
            )
        return []

    def _of(self, uid: str, token: int) -> Path:
        name = f"{uid}.{token}"
        if not _NAME.match(name) or not (self._kept / name).is_dir():
            raise RemoteError("there is no such recording")
        return self._kept / name

    async def _read(self, stream: Stream, folder: Path) -> None:
        pictures = await asyncio.to_thread(lambda: sorted(folder.glob("*.jpg"), key=lambda each: int(each.stem)))
        for picture in pictures:
            await stream.send(int(picture.stem).to_bytes(8, "big") + await asyncio.to_thread(picture.read_bytes))
        await stream.send(json.dumps({"end": len(pictures)}))
