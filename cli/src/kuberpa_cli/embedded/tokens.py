"""Keeps ServiceAccount tokens of local processes fresh in files, as a kubelet does for pods."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kuberpa_cli import clock
from kuberpa_cli.embedded import files
from kuberpa_cli.embedded.kubectl import KubectlError, Tool

LIFE_SECONDS = 3600
REFRESH_AT = 0.8
RETRY_SECONDS = 5.0


@dataclass(frozen=True)
class Account:
    """A ServiceAccount and the file that holds its token."""

    namespace: str
    name: str
    file: Path
    audience: str = ""
    """Whom the token is for; the API server without one."""


async def issue(kubectl: Tool, account: Account, life_seconds: int = LIFE_SECONDS) -> None:
    """Ask for a token by TokenRequest and put it into the account's file."""
    audience = (f"--audience={account.audience}",) if account.audience else ()
    place, life = f"--namespace={account.namespace}", f"--duration={life_seconds}s"
    token = await kubectl("create", "token", account.name, place, life, *audience)
    files.write(account.file, token.strip())


async def keep_fresh(
    kubectl: Tool,
    accounts: tuple[Account, ...],
    say: Callable[[str], None],
    *,
    life_seconds: int = LIFE_SECONDS,
    retry_seconds: float = RETRY_SECONDS,
) -> None:
    """Renew each token at 80 % of its life until cancelled; a refusal is told and tried again."""
    due = clock.now().timestamp() + life_seconds * REFRESH_AT
    while True:
        await clock.sleep_until(due)
        due = clock.now().timestamp() + life_seconds * REFRESH_AT
        for account in accounts:
            try:
                await issue(kubectl, account, life_seconds)
            except KubectlError as error:
                say(f"the token of {account.namespace}/{account.name} was not renewed yet: {error}")
                due = clock.now().timestamp() + retry_seconds
