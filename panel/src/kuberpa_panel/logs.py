import logging
import sys

from pythonjsonlogger.json import JsonFormatter


def configure(level: str) -> None:
    """JSON lines on stderr, uvicorn's too."""
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
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    set_level(level)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)


def set_level(level: str) -> None:
    """From which level on to log."""
    logging.getLogger().setLevel(level)
    # at DEBUG uvicorn and websockets write handshakes with their headers, and with them bearer tokens
    for name in ("uvicorn.error", "websockets"):
        logging.getLogger(name).setLevel(max(logging.getLogger().level, logging.INFO))
