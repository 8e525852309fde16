"""`kuberpa-panel`: one panel replica."""

import argparse
import sys
from typing import Final

import uvicorn

from kuberpa import wire
from kuberpa_panel import garbage, logs
from kuberpa_panel.app import create_app
from kuberpa_panel.settings import VARIABLES, Settings, SettingsError

PING_SECONDS: Final = 8.0
"""A peer that is silent for two of them is dead."""


def main() -> None:
    """Run until SIGTERM."""
    _parser().parse_args()
    try:
        settings = Settings.from_environ()
        settings.database_url()
        logs.configure(settings.log_level)
        app = create_app(settings)
    except SettingsError as error:
        sys.exit(f"kuberpa-panel: {error}")
    garbage.settle()
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=10,
        ws="websockets-sansio",
        ws_max_size=wire.MAX_FRAME_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        ws_per_message_deflate=False,
    )


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, VARIABLES))
    variables = "\n".join(f"  {name:<{width}}  {meaning}" for name, meaning in VARIABLES.items())
    return argparse.ArgumentParser(
        prog="kuberpa-panel",
        description="kuberpa's web panel and robot plane: agents and browsers connect to it.",
        epilog=f"Settings, by environment:\n{variables}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


if __name__ == "__main__":
    main()
