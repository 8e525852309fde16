"""Small pictures of many robots' screens: one stream a robot, however many people look, and none when nobody does."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from kuberpa.streams import Message, StreamClosedError
from kuberpa.wire import StreamKind
from kuberpa_panel.remote.broker import Broker
from kuberpa_panel.remote.wish import Channel, Wish

RETRY_SECONDS: Final = 5.0
LINGER_SECONDS: Final = 5.0
"""A page that is loaded anew finds its pictures still there."""

Place = tuple[str, str]
"""Namespace and name."""


class Feed:
    """The small pictures of one robot."""

    def __init__(self, broker: Broker, place: Place) -> None:
        self._broker, self._place = broker, place
        self.latest: Message | None = None
        self.watchers: set[Callable[[Place], None]] = set()
        self._task = asyncio.create_task(self._run(), name=f"thumbnails of {place[0]}/{place[1]}")
        self._channel: Channel | None = None

    async def close(self) -> None:
        """Nobody looks any more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        wish = Wish(*self._place, StreamKind.THUMBNAIL, "", {})
        while True:
            try:
                channel = await self._broker.open(wish)
                try:
                    while True:
                        self._show(await channel.receive())
                finally:
                    channel.close()
            except StreamClosedError as end:
                self._show(json.dumps({"uncapturable": str(end)}))
            await asyncio.sleep(RETRY_SECONDS)

    def _show(self, message: Message) -> None:
        if message != self.latest:
            self.latest = message
            for watcher in tuple(self.watchers):
                watcher(self._place)


class Thumbnails:
    """The feeds of this replica."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._feeds: dict[Place, Feed] = {}
        self._leaving: dict[Place, asyncio.Task[None]] = {}

    def watch(self, place: Place, watcher: Callable[[Place], None]) -> Feed:
        """Tell this watcher of each new picture."""
        leaving = self._leaving.pop(place, None)
        if leaving is not None:
            leaving.cancel()
        feed = self._feeds.get(place)
        if feed is None:
            feed = self._feeds[place] = Feed(self._broker, place)
        feed.watchers.add(watcher)
        if feed.latest is not None:
            watcher(place)
        return feed

    def leave(self, place: Place, watcher: Callable[[Place], None]) -> None:
        """Tell it no more."""
        feed = self._feeds.get(place)
        if feed is None:
            return
        feed.watchers.discard(watcher)
        if not feed.watchers and place not in self._leaving:
            self._leaving[place] = asyncio.create_task(self._end(place, feed))

    async def close(self) -> None:
        """This replica ends."""
        tasks = list(self._leaving.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *(feed.close() for feed in self._feeds.values()), return_exceptions=True)

    async def _end(self, place: Place, feed: Feed) -> None:
        await asyncio.sleep(LINGER_SECONDS)
        self._leaving.pop(place, None)
        if self._feeds.get(place) is feed and not feed.watchers:
            del self._feeds[place]
            await feed.close()


class Wall:
    """One page full of small pictures. A slow browser gets the latest of each, not all."""

    def __init__(self, thumbnails: Thumbnails) -> None:
        self._thumbnails = thumbnails
        self._feeds: dict[Place, Feed] = {}
        self._due: dict[Place, None] = {}
        self._wake = asyncio.Event()

    @property
    def places(self) -> set[Place]:
        """The robots on it."""
        return set(self._feeds)

    def show(self, places: set[Place]) -> None:
        """These robots, and no others."""
        for place in self.places - places:
            self._thumbnails.leave(place, self._changed)
            del self._feeds[place]
            self._due.pop(place, None)
        for place in places - self.places:
            self._feeds[place] = self._thumbnails.watch(place, self._changed)

    async def next(self) -> tuple[Place, Message]:
        """The next picture to send."""
        while not self._due:
            self._wake.clear()
            await self._wake.wait()
        place = next(iter(self._due))
        del self._due[place]
        latest = self._feeds[place].latest
        return place, latest if latest is not None else b""

    def _changed(self, place: Place) -> None:
        self._due[place] = None
        self._wake.set()


def frame_of(place: Place, message: Message) -> Message:
    """As the page reads it: JSON with the robot's name, or the length of the name, the name and the JPEG."""
    name = "/".join(place)
    if isinstance(message, str):
        with suppress(ValueError):
            return json.dumps({"robot": name, **json.loads(message)})
        return json.dumps({"robot": name, "uncapturable": "the robot's agent sent something that is no picture"})
    head = name.encode()
    return len(head).to_bytes(2, "big") + head + message
