"""/api/v1/robots/…: one picture of a robot's screen, its processes, its files, and who did what there."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal, Self

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import Field
from starlette.requests import Request

from kuberpa.audit import AuditEntry
from kuberpa.model import Model
from kuberpa.streams import Message, StreamClosedError
from kuberpa.wire import StreamKind
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.guards import Allowed, guarded
from kuberpa_panel.api.problems import ConflictProblem, InvalidProblem, NotFoundProblem
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.database.audit import Deed
from kuberpa_panel.language import _
from kuberpa_panel.remote.wish import Channel, Wish

router = APIRouter(prefix="/api/v1/robots/{namespace}/{name}", tags=["remote"])
PART_BYTES: Final = 64 * 1024
Path = Annotated[str, Query(min_length=1, max_length=4096, description="Absolute path on the robot's machine.")]


class Process(Model):
    """One process of the robot's machine."""

    pid: int
    parent: int
    name: str
    user: str
    started: float
    command: str
    memory: int
    cpu_seconds: float
    state: str


class Processes(Model):
    """What the robot's user sees of them; `more` were left out."""

    processes: tuple[Process, ...]
    more: int


class Killed(Model):
    """What became of a process and all below it."""

    killed: tuple[int, ...]
    survivors: tuple[int, ...]


class Entry(Model):
    """One file or folder."""

    name: str
    kind: Literal["file", "folder", "other"]
    size: int
    modified: float


class Folder(Model):
    """What is in a folder; `more` entries were left out."""

    path: str
    entries: tuple[Entry, ...]
    more: int


class Roots(Model):
    """Folders below which files may be reached."""

    roots: tuple[str, ...]


class Written(Model):
    """How many bytes a file has now."""

    written: int


class Deleted(Model):
    """What is gone."""

    deleted: str


class Stream:
    """One question to a robot, as an async context manager. What the robot refuses is a ConflictProblem."""

    def __init__(self, request: Request, viewer: Viewer, kind: StreamKind, **options: Any) -> None:
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        self._context = context_of(request)
        self._wish = Wish(namespace, name, kind, viewer.user.name, options)
        self._channel: Channel | None = None

    async def __aenter__(self) -> Self:
        wish = self._wish
        if self._context.services.catalog.robot(wish.namespace, wish.robot) is None:
            raise NotFoundProblem(
                _("There is no robot %(namespace)s/%(robot)s.", namespace=wish.namespace, robot=wish.robot)
            )
        try:
            self._channel = await self._context.services.broker.open(wish)
        except StreamClosedError as error:
            raise ConflictProblem(_sentence(error)) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ask no more."""
        if self._channel is not None:
            self._channel.close()

    async def receive(self) -> Message:
        """The next part of the answer. Raises ConflictProblem."""
        assert self._channel is not None  # noqa: S101  entered
        try:
            return await self._channel.receive()
        except StreamClosedError as error:
            raise ConflictProblem(_sentence(error)) from None

    async def send(self, data: bytes) -> None:
        """A part of what is written. Raises ConflictProblem."""
        assert self._channel is not None  # noqa: S101  entered
        try:
            await self._channel.send(data)
        except StreamClosedError as error:
            raise ConflictProblem(_sentence(error)) from None

    async def answer(self) -> Any:
        """The answer, as JSON."""
        return json.loads(await self.receive())


@router.get(
    "/screenshot",
    summary="A picture of a robot's screen",
    responses={200: {"content": {"image/png": {}, "image/jpeg": {}}}},
)
async def get_screenshot(
    request: Request,
    viewer: Annotated[Viewer, guarded(Allowed("get", "robots/session"))],
    form: Annotated[Literal["png", "jpeg"], Query(alias="format")] = "png",
) -> Response:
    """The screen as it is now. 409 with the reason when it cannot be captured."""
    await _record(request, viewer, "screen.picture")
    async with Stream(request, viewer, StreamKind.SCREEN, once=form) as stream:
        return Response(await stream.receive(), media_type=f"image/{form}")


@router.get("/processes", summary="Processes of a robot's machine")
async def list_processes(
    request: Request, viewer: Annotated[Viewer, guarded(Allowed("get", "robots/processes"))]
) -> Processes:
    """As far as the robot's own user sees them, the youngest first."""
    async with Stream(request, viewer, StreamKind.PROCESSES, do="list") as stream:
        return Processes.of(await stream.answer())


@router.delete("/processes/{pid}", summary="Kill a process of a robot's machine")
async def kill_process(
    request: Request,
    pid: int,
    viewer: Annotated[Viewer, guarded(Allowed("delete", "robots/processes"))],
    started: Annotated[float, Query(description="`started` of the list: a later process of that number is spared.")],
) -> Killed:
    """The process and everything below it."""
    await _record(request, viewer, "process.kill", pid=pid)
    async with Stream(request, viewer, StreamKind.PROCESSES, do="kill", pid=pid, started=started) as stream:
        return Killed.of(await stream.answer())


@router.get("/files/roots", summary="Where a robot's files may be reached")
async def list_roots(request: Request, viewer: Annotated[Viewer, guarded(Allowed("get", "robots/files"))]) -> Roots:
    """The folders that the robot's settings allow."""
    async with Stream(request, viewer, StreamKind.FILES, do="roots") as stream:
        return Roots.of(await stream.answer())


@router.get("/files", summary="What is in a robot's folder")
async def list_files(
    request: Request, path: Path, viewer: Annotated[Viewer, guarded(Allowed("get", "robots/files"))]
) -> Folder:
    """Folders first. The path must be below one of the roots, after every link in it was followed."""
    async with Stream(request, viewer, StreamKind.FILES, do="list", path=path) as stream:
        return Folder.of(await stream.answer())


@router.get(
    "/files/content", summary="Fetch a robot's file", responses={200: {"content": {"application/octet-stream": {}}}}
)
async def read_file(
    request: Request, path: Path, viewer: Annotated[Viewer, guarded(Allowed("get", "robots/files"))]
) -> Response:
    """The bytes of the file."""
    await _record(request, viewer, "file.read", path=path)
    stream = Stream(request, viewer, StreamKind.FILES, do="read", path=path)
    await stream.__aenter__()
    try:
        size = int((await stream.answer())["size"])
    except BaseException:
        stream.close()
        raise
    name = path.replace("\\", "/").rsplit("/", 1)[-1].encode("ascii", "replace").decode().replace('"', "_")
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Length": str(size)}
    return StreamingResponse(_body(stream, size), media_type="application/octet-stream", headers=headers)


@router.put("/files/content", summary="Put a file on a robot")
async def write_file(
    request: Request, path: Path, viewer: Annotated[Viewer, guarded(Allowed("create", "robots/files"))]
) -> Written:
    """The body is the file; it appears under its name when all of it is there. Needs Content-Length."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        raise InvalidProblem(_("Say the size of the file by Content-Length."))
    await _record(request, viewer, "file.write", path=path, size=int(length))
    async with Stream(request, viewer, StreamKind.FILES, do="write", path=path, size=int(length)) as stream:
        async for part in request.stream():
            for at in range(0, len(part), PART_BYTES):
                await stream.send(part[at : at + PART_BYTES])
        await stream.send(b"")
        return Written.of(await stream.answer())


@router.delete("/files", summary="Delete a robot's file or empty folder")
async def delete_file(
    request: Request, path: Path, viewer: Annotated[Viewer, guarded(Allowed("delete", "robots/files"))]
) -> Deleted:
    """A link itself is deleted, not what it leads to."""
    await _record(request, viewer, "file.delete", path=path)
    async with Stream(request, viewer, StreamKind.FILES, do="delete", path=path) as stream:
        return Deleted.of(await stream.answer())


@router.get("/audit", summary="Who did what to a robot")
async def list_audit(
    request: Request,
    namespace: str,
    name: str,
    _: Annotated[Viewer, guarded(Allowed("get", "robots/audit"))],
    limit: Annotated[int, Field(ge=1, le=500), Query()] = 100,
) -> tuple[AuditEntry, ...]:
    """What anybody did to this robot, the last deed first."""
    return await context_of(request).services.audit.of_object("Robot", namespace, name, limit)


async def _body(stream: Stream, size: int) -> AsyncIterator[bytes]:
    """At most as much as was announced: a file may grow while it is read."""
    try:
        while size > 0:
            part = (await stream.receive())[:size]
            size -= len(part)
            yield part if isinstance(part, bytes) else b""
    finally:
        stream.close()


async def _record(request: Request, viewer: Viewer, action: str, **detail: object) -> None:
    namespace, name = request.path_params["namespace"], request.path_params["name"]
    deed = Deed(action, "Robot", namespace, name, viewer.user.name, new=detail or None)
    await context_of(request).services.audit.record(deed)


def _sentence(error: StreamClosedError) -> str:
    text = str(error) or _("the robot's agent ended it")
    return f"{text[0].upper()}{text[1:]}."
