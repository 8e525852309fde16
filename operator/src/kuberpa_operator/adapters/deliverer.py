"""Brings what this process logs to the panel, which keeps the log. Nothing waits for it, and nothing depends on it."""

import asyncio
import logging
from pathlib import Path
from typing import Final

import aiohttp

from kuberpa.processlog import PATH, ProcessLines, ProcessLog

GATHER_SECONDS: Final = 1.0
RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 15.0)
REQUEST_SECONDS: Final = 10.0


async def deliver(log: ProcessLog, panel_url: str, token_file: Path, replica: str) -> None:
    """Deliver until cancelled. While the panel is away lines wait, up to as many as the log has room for."""
    failures = 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS)) as session:
        while True:
            lines = log.waiting()
            if not lines:
                await asyncio.sleep(GATHER_SECONDS)
                continue
            body = ProcessLines(process=log.process, replica=replica, lines=lines)
            problem = await _send(session, panel_url.rstrip("/") + PATH, token_file, body)
            if not problem:
                log.delivered(lines)
                failures = 0
                continue
            if not failures:
                logging.getLogger(__name__).info("the panel does not take this process's log yet: %s", problem)
            await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures += 1


async def _send(session: aiohttp.ClientSession, url: str, token_file: Path, body: ProcessLines) -> str:
    """Why it did not arrive; empty when it did."""
    try:
        token = (await asyncio.to_thread(token_file.read_text)).strip()
        headers = {"Authorization": f"Bearer {token}"}
        async with session.post(url, json=body.to_json(), headers=headers, allow_redirects=False) as answer:
            return "" if answer.status < 300 else f"it answers {answer.status}"  # noqa: PLR2004  HTTP's boundary
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return str(error) or type(error).__name__
