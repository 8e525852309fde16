"""The robot's screen, live: pictures of what changed, and the hands of whoever took control.

    browser  {"shown": n}                         picture n is on the person's screen
             {"take": true, "force": false}, {"release": true}
             {"events": [...]}                    see kuberpa_agent.screen.input.read_event
    agent    bytes                                a picture: kuberpa_agent.visits.pictures.HEAD and a JPEG
             {"viewers": [...], "controller": name, "mine": bool}
             {"uncapturable": sentence, "reason": R}, {"refused": sentence}, {"lost": sentence}

At most AHEAD pictures are on their way, so a slow link makes them fewer and coarser, not later.
"""

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from kuberpa.streams import Stream, StreamClosedError
from kuberpa_agent.screen.capture import Frame, UncapturableError
from kuberpa_agent.screen.input import InputError, read_events
from kuberpa_agent.visits.camera import Camera
from kuberpa_agent.visits.control import Takeover
from kuberpa_agent.visits.pictures import Canvas, Pace
from kuberpa_agent.visits.service import RemoteError

log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 0.08
"""A little more than ten pictures a second, so that ten arrive."""
POKED_SECONDS: Final = 0.02
"""After input: the program needs a moment to draw what it did."""
QUIET_SECONDS: Final = 0.7
BLIND_SECONDS: Final = 1.0
AHEAD: Final = 2
NEWS_WAITING: Final = 64
EVENTS: Final = 256
THUMBNAIL: Final = (320, 200)
THUMBNAIL_QUALITY: Final = 60
THUMBNAIL_SECONDS: Final = 1.0


class Screens:
    """Serves the screen to everybody who looks."""

    def __init__(self, camera: Camera, takeover: Takeover) -> None:
        self._camera, self._takeover = camera, takeover

    async def serve(self, stream: Stream, user: str, options: Mapping[str, Any]) -> None:
        """One person's view, or one picture for `{"once": "png" | "jpeg"}`."""
        if once := options.get("once"):
            await self._once(stream, str(once))
            return
        view = View(stream, user, self._camera, self._takeover)
        self._takeover.join(view)
        try:
            async with asyncio.TaskGroup() as group:
                for work in (view.show(), view.listen(), view.pass_on_news()):
                    group.create_task(work)
        except* RemoteError as errors:
            raise errors.exceptions[0] from None
        except* StreamClosedError:
            log.debug("%s looks no more", user)
        finally:
            await self._takeover.leave(view)

    async def thumbnails(self, stream: Stream, user: str, options: Mapping[str, Any]) -> None:  # noqa: ARG002  a Service
        """Small pictures, at most one a second, and only when something changed."""
        said, shown = "", None
        while True:
            try:
                frame = await self._camera.look(THUMBNAIL_SECONDS / 2)
                if shown is None or shown.pixels != frame.pixels:
                    shown, said = frame, ""
                    await stream.send(await asyncio.to_thread(frame.jpeg, THUMBNAIL_QUALITY, *THUMBNAIL))
            except UncapturableError as error:
                if said != str(error):
                    shown, said = None, str(error)
                    await stream.send(json.dumps({"uncapturable": said, "reason": error.reason}))
            await asyncio.sleep(THUMBNAIL_SECONDS)
            if stream.closed is not None:
                raise StreamClosedError(stream.closed)

    async def _once(self, stream: Stream, form: str) -> None:
        try:
            frame = await self._camera.look()
        except UncapturableError as error:
            raise RemoteError(str(error)) from None
        await stream.send(await asyncio.to_thread(frame.png if form == "png" else frame.jpeg))


class View:
    """What one person sees and does."""

    def __init__(self, stream: Stream, user: str, camera: Camera, takeover: Takeover) -> None:
        self.user = user
        self._stream, self._camera, self._takeover = stream, camera, takeover
        self._canvas, self._pace = Canvas(), Pace()
        self._under_way: OrderedDict[int, float] = OrderedDict()
        """When each picture that was not shown yet was taken."""
        self._news: asyncio.Queue[dict[str, Any]] = asyncio.Queue(NEWS_WAITING)
        self._poke, self._room = asyncio.Event(), asyncio.Event()
        self._number = 0

    def tell(self, news: dict[str, Any]) -> None:
        """Pass on soon; who does not read loses news, not the view."""
        with suppress(asyncio.QueueFull):
            self._news.put_nowait(news)

    async def pass_on_news(self) -> None:
        """Until the stream ends."""
        while True:
            await self._stream.send(json.dumps(await self._news.get()))

    async def show(self) -> None:
        """Pictures until the stream ends."""
        loop = asyncio.get_running_loop()
        said, changed_at = "", loop.time()
        while True:
            while len(self._under_way) >= AHEAD:
                self._room.clear()
                await self._room.wait()
            began, worked = loop.time(), time.process_time()
            try:
                frame = await self._camera.look()
            except UncapturableError as error:
                if said != str(error):
                    said = str(error)
                    await self._stream.send(json.dumps({"uncapturable": said, "reason": error.reason}))
                await self._wait(BLIND_SECONDS)
                continue
            if said:
                said = ""
                await self._stream.send(json.dumps({"uncapturable": ""}))
            picture = await self._picture(frame, quiet=began - changed_at >= QUIET_SECONDS)
            if picture is not None:
                changed_at = loop.time()
                self._number += 1
                self._under_way[self._number] = began
                await self._stream.send(picture)
            # a screen that takes much work to capture and to pack gets half as much rest; waiting is no work
            rest = (time.process_time() - worked) / 2
            await self._wait(max(INTERVAL_SECONDS - (loop.time() - began), rest))

    async def _picture(self, frame: Frame, *, quiet: bool) -> bytes | None:
        picture = await asyncio.to_thread(self._canvas.patch, frame, self._pace.level)
        if picture is None and quiet and self._canvas.blurred:
            return await asyncio.to_thread(self._canvas.again)
        return picture

    async def _wait(self, seconds: float) -> None:
        """Until the next picture is due: soon after input."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._poke.wait()
            await asyncio.sleep(POKED_SECONDS)
        self._poke.clear()

    async def listen(self) -> None:
        """What the person's page says, until the stream ends."""
        while True:
            message = await self._stream.receive()
            try:
                await self._take(json.loads(message))
            except InputError as error:
                self.tell({"refused": str(error)})
            except UncapturableError as error:
                self.tell({"refused": str(error)})
            except (ValueError, TypeError, AttributeError) as error:
                raise RemoteError(f"no message of a screen: {error}") from None

    async def _take(self, body: Mapping[str, Any]) -> None:
        if "shown" in body:
            taken = self._under_way.pop(int(body["shown"]), None)
            if taken is not None:
                self._pace.shown_after(asyncio.get_running_loop().time() - taken)
                self._room.set()
        if body.get("take") and (why := await self._takeover.take(self, force=bool(body.get("force")))):
            self.tell({"refused": why})
        if body.get("release"):
            await self._takeover.release(self)
        if "events" in body:
            events = read_events(list(body["events"])[:EVENTS])
            if not await self._takeover.perform(self, events):
                self.tell({"refused": "you do not have control"})
            self._poke.set()
