"""The settings that count, as the GSettings of kuberpa's own namespace has them."""

import logging
from collections.abc import Callable
from typing import Any, Final

from pydantic import ValidationError

from kuberpa.client import GSETTINGS, ApiError, Cluster, GoneError
from kuberpa.gsettings import SETTINGS_NAME, GSettings, Settings

SELECTOR: Final = f"metadata.name={SETTINGS_NAME}"
log = logging.getLogger(__name__)


async def watch_settings(cluster: Cluster, namespace: str, apply: Callable[[Settings], None]) -> None:
    """One round: read the object, then follow it until the watch ends; without it defaults count. Raises ApiError.

    Not by kopf: it would watch GSettings in every namespace served, and need the right to.
    """
    listing = await cluster.list_all(GSETTINGS, namespace, fieldSelector=SELECTOR)
    apply(_settings(listing.items[0]) if listing.items else Settings())
    version = listing.resource_version
    while True:
        try:
            async for kind, body in cluster.watch(GSETTINGS, version, namespace, fieldSelector=SELECTOR):
                version = body["metadata"]["resourceVersion"]
                if kind == "DELETED":
                    apply(Settings())
                elif kind != "BOOKMARK":
                    apply(_settings(body))
        except GoneError:
            return
        except ApiError:
            log.warning("the watch of the settings broke; reading them again")
            raise


def _settings(body: dict[str, Any]) -> Settings:
    try:
        return GSettings.of(body).spec.settings or Settings()
    except ValidationError as error:
        log.error("the settings cannot be read, defaults count: %s", error)  # noqa: TRY400  the message says it all
        return Settings()
