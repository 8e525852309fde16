"""`kuberpa enroll ROBOT`: invite the agent of an external robot, or revoke it."""

import json
from datetime import datetime
from typing import Annotated, Any, Final

import aiohttp
import typer

from kuberpa.enrolment import CODE_MINUTES
from kuberpa_cli.work.address import find_panel
from kuberpa_cli.work.arguments import check_name, robot_name
from kuberpa_cli.work.connection import connect, default_namespace
from kuberpa_cli.work.edge import finish
from kuberpa_cli.work.exits import ExitCode, UsageError, WorkError
from kuberpa_cli.work.panel import Address, unreachable
from kuberpa_cli.work.screen import Screen

ANSWER_SECONDS: Final = 30.0
_OK: Final = 300


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("enroll", rich_help_panel="Robots", no_args_is_help=True)(enroll)


def enroll(
    robot: Annotated[str, typer.Argument(metavar="ROBOT", help="A Robot with spec.runtime.external.")],
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="Namespace; without it that of the kubeconfig's context."),
    ] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Make its agent's key and open codes worthless.")] = False,
    panel_url: Annotated[
        str | None,
        typer.Option("--panel-url", help="The panel's address as the robot's machine reaches it, if it is another."),
    ] = None,
) -> None:
    """Print the command that makes an agent on another machine the robot's.

    Its code is valid once and for 15 minutes. With --revoke: end what was enrolled.
    """

    async def work() -> int:
        name = robot_name(robot)
        place = check_name(namespace, "--namespace") if namespace else default_namespace()
        async with connect() as cluster:
            address = await find_panel(cluster)
        if revoke:
            answer = await _ask(address, "DELETE", place, name)
            Screen().out.write(f"{name}: {answer['revoked']} codes and keys are worth nothing from now on\n")
            return ExitCode.SUCCEEDED
        answer = await _ask(address, "POST", place, name)
        _print(answer, panel_url or address.url, robot=f"{place}/{name}")
        return ExitCode.SUCCEEDED

    finish(work())


def _print(answer: dict[str, Any], panel: str, *, robot: str) -> None:
    ends = datetime.fromisoformat(answer["expiresAt"]).astimezone()
    screen = Screen()
    screen.note(
        f"On the machine of robot {robot}, with the agent installed (pip install kuberpa-agent), within "
        f"{CODE_MINUTES} minutes (until {ends:%H:%M}); as administrator where it is to be a service:"
    )
    screen.out.write(f"kuberpa-agent enroll --panel {panel} {answer['code']}\n")


async def _ask(address: Address, method: str, namespace: str, name: str) -> dict[str, Any]:
    """Raises WorkError in the panel's words."""
    url = f"{address.url}/api/v1/robots/{namespace}/{name}/enrolment"
    headers = {"Authorization": f"Bearer {address.token}", "Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=10)
    try:
        async with (
            aiohttp.ClientSession(headers=headers, timeout=timeout) as http,
            http.request(method, url, allow_redirects=False) as response,
        ):
            text = await response.text()
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise unreachable(address, str(error) or type(error).__name__) from None
    body = _parsed(text)
    if status < _OK:
        return body
    detail = str(body.get("detail") or text[:300])
    match status:
        case 401 | 403:
            raise WorkError(detail, ExitCode.FORBIDDEN)
        case 400 | 404 | 409 | 422:
            raise UsageError(detail)
        case _:
            raise WorkError(f"The panel at {address.url} answers {status}: {detail}", ExitCode.UNREACHABLE)


def _parsed(text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
