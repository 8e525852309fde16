"""Kerberos tickets of the host's user: fetched by MIT's kinit into a cache of this process' own."""

import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Final

from kuberpa.host import HostReason, Kerberos
from kuberpa_agent.host.errors import HostError

_FRESH_SECONDS: Final = 600.0
_KINIT_SECONDS: Final = 30.0
_LIFE: Final = "30m"


class Tickets:
    """Keeps one ticket that is young enough. The password goes to kinit's input, never into its arguments."""

    def __init__(self, kerberos: Kerberos, state_dir: Path) -> None:
        self._kerberos = kerberos
        self._folder = state_dir / "kerberos"
        self._lock = threading.Lock()
        self._fetched = float("-inf")
        self._for = ("", "")

    def fresh(self, user: str, password: str) -> str:
        """The principal, whose ticket this process' GSSAPI finds. Raises HostError."""
        principal = user if "@" in user else f"{user}@{self._kerberos.realm}"
        with self._lock:
            if time.monotonic() - self._fetched < _FRESH_SECONDS and self._for == (principal, password):
                return principal
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._configure()
            self._fetch(principal, password)
            self._fetched, self._for = time.monotonic(), (principal, password)
        return principal

    def _configure(self) -> None:
        """Before GSSAPI reads its configuration for the first time; nothing is looked up in DNS."""
        realm, kdc = self._kerberos.realm, self._kerberos.kdc
        text = (
            f"[libdefaults]\n default_realm = {realm}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n"
            f" rdns = false\n dns_canonicalize_hostname = false\n udp_preference_limit = 1\n"
            f"[realms]\n {realm} = {{\n  kdc = {kdc}\n }}\n[domain_realm]\n .{realm.lower()} = {realm}\n"
        )
        (self._folder / "krb5.conf").write_text(text, encoding="ascii")
        os.environ["KRB5_CONFIG"] = str(self._folder / "krb5.conf")
        os.environ["KRB5CCNAME"] = f"FILE:{self._folder / 'tickets'}"

    def _fetch(self, principal: str, password: str) -> None:
        try:
            done = subprocess.run(  # noqa: S603  MIT Kerberos' own client, no shell
                ["kinit", "-l", _LIFE, principal],  # noqa: S607  the image's
                input=password + "\n",
                capture_output=True,
                text=True,
                timeout=_KINIT_SECONDS,
                check=False,
                env={**os.environ, "LC_ALL": "C"},
            )
        except FileNotFoundError:
            raise HostError(HostReason.PROTOCOL_ERROR, "the image has no kinit, which Kerberos needs") from None
        except subprocess.TimeoutExpired:
            raise HostError(HostReason.UNREACHABLE, f"the KDC {self._kerberos.kdc} does not answer") from None
        if done.returncode == 0:
            return
        said = (done.stderr.strip().splitlines() or ["kinit failed"])[-1][:300]
        refused = any(
            each in said for each in ("Preauthentication failed", "Password incorrect", "not found in Kerberos")
        )
        reason = HostReason.CREDENTIALS_REFUSED if refused else HostReason.UNREACHABLE
        raise HostError(reason, f"no ticket for {principal}: {said}")
