"""The least that a queue over HTTP can be: one table, one statement a request, no rights, no checks, no history."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import uvicorn
from fastapi import FastAPI

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

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", access_log=False)
