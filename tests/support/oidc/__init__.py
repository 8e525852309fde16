"""A certified OpenID Connect provider in a process of its own: panva's oidc-provider, pinned by package-lock.json."""

import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp

FOLDER = Path(__file__).parent
CLIENT = "kuberpa"


def prepared() -> None:
    """Install what package-lock.json names, unless it is there."""
    marker, lock = FOLDER / "node_modules/.package-lock.json", FOLDER / "package-lock.json"
    if not marker.exists() or marker.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=FOLDER, check=True)


@dataclass(frozen=True)
class Provider:
    """A running provider."""

    issuer: str
    secret: str

    def environment(self, folder: Path, panel_url: str, **more: str) -> dict[str, str]:
        """What tells a panel of it."""
        secret = folder / "oidc-secret"
        secret.write_text(self.secret)
        return {
            "KUBERPA_OIDC_ISSUER": self.issuer,
            "KUBERPA_OIDC_CLIENT_ID": CLIENT,
            "KUBERPA_OIDC_CLIENT_SECRET_FILE": str(secret),
            "KUBERPA_OIDC_PANEL_URL": panel_url,
            "KUBERPA_OIDC_NAME": "Corp",
            **more,
        }


@contextmanager
def providing(port: int, redirect: str, accounts: Mapping[str, Mapping[str, Any]]) -> Iterator[Provider]:
    """A provider on a port of this machine that knows these accounts."""
    prepared()
    secret = secrets.token_urlsafe(32)
    told = {"PORT": str(port), "CLIENT": CLIENT, "SECRET": secret, "REDIRECT": redirect}
    process = subprocess.Popen(
        ["node", "provider.mjs"],
        cwd=FOLDER,
        env={**os.environ, **told, "ACCOUNTS": json.dumps(accounts)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert "ready" in process.stdout.readline()
            yield Provider(f"http://127.0.0.1:{port}", secret)
        finally:
            process.kill()


async def sign_in(browser: aiohttp.ClientSession, address: str, account: str) -> tuple[int, str, str]:
    """Follow the way through the provider as a browser does; status, address and text of where it ends.

    The last redirect, back to the panel, is followed too.
    """
    fields: dict[str, str] | None = None
    for _ in range(12):
        method = "GET" if fields is None else "POST"
        async with browser.request(method, address, data=fields, allow_redirects=False) as response:
            text = await response.text()
            where = str(response.url)
            if response.status in {302, 303}:
                address, fields = urljoin(where, response.headers["Location"]), None
                continue
        form = re.search(r'<form[^>]* action="([^"]+/interaction/[^"]+)"', text)
        if form is None:
            return response.status, where, text
        address = urljoin(where, unescape(form[1]))
        fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', text))
        if fields.get("prompt") == "login":
            fields |= {"login": account, "password": "any"}
    raise AssertionError(f"the way never ends; last at {address}")
