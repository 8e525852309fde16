"""JSON lines on stderr, as every part of kuberpa writes them."""

import logging
import sys

from pythonjsonlogger.json import JsonFormatter


def set_up_logging(level: str) -> None:
    """Send every logger's records of this level and above to stderr, one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
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
