"""Between an editor's connection here and the debugger of an activity there: bytes, through the panel."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Final

import aiohttp

from kuberpa.activity import ActivityItem, ActivityPhase
from kuberpa.client import ACTIVITY_ITEMS, Cluster
from kuberpa_cli.work.exits import ExitCode, UsageError, WorkError
from kuberpa_cli.work.panel import Address

READ_BYTES: Final = 32 * 1024
HOST: Final = "127.0.0.1"
FORBIDDEN: Final = 4403


async def choose(cluster: Cluster, namespace: str, robot: str, wanted: str | None) -> str:
    """The activity to attach to. Raises UsageError."""
    if wanted is not None:
        return wanted
    items = [ActivityItem.of(each) for each in (await cluster.list_all(ACTIVITY_ITEMS, namespace)).items]
    found = [
        each.metadata.name
        for each in items
        if each.status.robot == robot and each.spec.debug is not None and each.status.phase is ActivityPhase.RUNNING
    ]
    if not found:
        raise UsageError(f"Nothing on {robot} waits for a debugger: start it with `kuberpa run … --debug`.")
    if len(found) > 1:
        raise UsageError(f"Several on {robot} wait for a debugger: name one of {', '.join(sorted(found))}.")
    return found[0]


class Tunnel:
    """A local port; each connection is an editor's session."""

    def __init__(self, address: Address, namespace: str, choose_: Callable[[], Awaitable[str]]) -> None:
        self._address, self._namespace, self._choose = address, namespace, choose_
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[int]:
        """Take editors; the value is the port."""
        try:
            server = await asyncio.start_server(self._take, HOST, port)
        except OSError as error:
            raise UsageError(f"--port {port}: {error.strerror or error}. Try another one.") from None
        async with server:
            yield int(server.sockets[0].getsockname()[1])

    async def forever(self) -> None:
        """Until cancelled, or there is no more right to it. Raises WorkError."""
        await self._ended

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            name = await self._choose()
            print(f"an editor attaches to {name}", file=sys.stderr)
            why = await self._join(name, reader, writer)
            print(f"detached from {name}{f': {why}' if why else ''}", file=sys.stderr)
        except WorkError as error:
            if error.exit_code == ExitCode.FORBIDDEN and not self._ended.done():
                self._ended.set_exception(error)
            print(error, file=sys.stderr)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _join(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        url = f"{self._address.url}/api/v1/activities/{self._namespace}/{name}/debugger"
        headers = {"Authorization": f"Bearer {self._address.token}"}
        try:
            async with (
                aiohttp.ClientSession(headers=headers) as http,
                http.ws_connect(url, heartbeat=20, max_msg_size=0) as socket,
            ):
                sending = asyncio.create_task(_send(reader, socket))
                try:
                    return await _receive(socket, writer)
                finally:
                    sending.cancel()
        except aiohttp.WSServerHandshakeError as error:
            raise _refusal(name, error.status) from None
        except (aiohttp.ClientError, OSError) as error:
            raise WorkError(f"The panel is not reached: {error}", ExitCode.UNREACHABLE) from None


async def _send(reader: asyncio.StreamReader, socket: aiohttp.ClientWebSocketResponse) -> None:
    while data := await reader.read(READ_BYTES):
        await socket.send_bytes(data)
    await socket.close()


async def _receive(socket: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter) -> str:
    async for message in socket:
        if message.type is aiohttp.WSMsgType.BINARY:
            writer.write(message.data)
            await writer.drain()
    if socket.close_code == FORBIDDEN:
        raise WorkError("Your right to create activityitems/debug ended.", ExitCode.FORBIDDEN)
    return ""


def _refusal(name: str, status: int) -> WorkError:
    match status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return WorkError(f"{name}: you need the right to create activityitems/debug on it", ExitCode.FORBIDDEN)
        case HTTPStatus.NOT_FOUND:
            return UsageError(f"There is no activity {name}.")
        case HTTPStatus.CONFLICT:
            return UsageError(f"{name} takes no debugger: it runs without spec.debug, or its robot allows none.")
        case _:
            return WorkError(f"{name}: the panel answers {status}", ExitCode.UNREACHABLE)
