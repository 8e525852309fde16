"""The least that a queue can be, over HTTP and over a WebSocket: one table, one statement a request, no rights, no
checks, no history.
"""

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS minimal (id bigserial PRIMARY KEY, state text NOT NULL DEFAULT 'New', "
    "token bigint NOT NULL DEFAULT 0, payload text NOT NULL);"
    "CREATE INDEX IF NOT EXISTS minimal_ready ON minimal (id) WHERE state = 'New'"
)
ADD = "INSERT INTO minimal (payload) VALUES ($1) RETURNING id"
TAKE = (
    "UPDATE minimal SET state = 'Leased', token = token + 1 WHERE id = (SELECT id FROM minimal WHERE state = 'New' "
    "ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, token, payload"
)
COMPLETE = "UPDATE minimal SET state = 'Succeeded' WHERE id = $1 AND token = $2 AND state = 'Leased'"


def create_app(url: str) -> FastAPI:
    """The three routes."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.pool = await asyncpg.create_pool(url, min_size=10, max_size=10)
        await app.state.pool.execute(SCHEMA)
        yield
        await app.state.pool.close()

    app = FastAPI(lifespan=lifespan)

    @app.get("/healthz")
    async def healthz() -> str:
        return "ok"

    @app.post("/items")
    async def add(payload: dict[str, Any]) -> dict[str, Any]:
        return {"id": await app.state.pool.fetchval(ADD, json.dumps(payload))}

    @app.post("/take")
    async def take() -> dict[str, Any] | None:
        row = await app.state.pool.fetchrow(TAKE)
        return None if row is None else {"id": row["id"], "token": row["token"], "payload": json.loads(row["payload"])}

    @app.post("/items/{item}/complete")
    async def complete(item: int, body: dict[str, Any]) -> dict[str, Any]:
        return {"done": await app.state.pool.execute(COMPLETE, item, body["token"])}

    operations: dict[str, Callable[[Any], Awaitable[Any]]] = {
        "add": lambda request: add(request["payload"]),
        "take": lambda _: take(),
        "complete": lambda request: complete(request["item"], request),
    }

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        with suppress(WebSocketDisconnect):
            while True:
                request = json.loads(await socket.receive_text())
                result = await operations[request["op"]](request)
                await socket.send_text(json.dumps({"id": request["id"], "result": result}))

    return app


if __name__ == "__main__":
    port = int(sys.argv[2])
    uvicorn.run(
        create_app(sys.argv[1]),
        host="127.0.0.1",
        port=port,
        log_level="warning",
        access_log=False,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
    )
