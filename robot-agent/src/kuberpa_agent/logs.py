"""JSON lines on stderr, as every part of kuberpa writes them."""

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from pythonjsonlogger.json import JsonFormatter

LOG_BYTES: Final = 5 * 1024 * 1024
LOG_FILES: Final = 5


def set_up_logging(level: str) -> None:
    """Send every logger's records of this level and above to stderr, one JSON object a line."""
    _set_up(level, logging.StreamHandler(sys.stderr))


def log_to_file(level: str, path: Path) -> None:
    """The same into a file of bounded size, with as many predecessors."""
    _set_up(level, RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1, encoding="utf-8"))


def _set_up(level: str, handler: logging.Handler) -> None:
    handler.setFormatter(
        JsonFormatter(
            ["levelname", "name", "message", "exc_info"],
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            timestamp="time",
            json_ensure_ascii=False,
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # At DEBUG this library writes the handshake's headers, and with them the bearer token.
    logging.getLogger("websockets").setLevel(max(logging.getLogger().level, logging.INFO))
