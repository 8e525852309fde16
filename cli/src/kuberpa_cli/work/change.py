from dataclasses import dataclass

from kuberpa.activity import ActivityItem, DesiredState
from kuberpa.client import ACTIVITY_ITEMS, ApiError, Body, Cluster, ConflictError, NotFoundError, UnavailableError
from kuberpa_cli.work.arguments import Request, generate_name
from kuberpa_cli.work.connection import Doing, explain
from kuberpa_cli.work.exits import ExitCode, UsageError, WorkError
from kuberpa_cli.work.targets import nothing_named

NAME_ATTEMPTS = 5


async def create(cluster: Cluster, namespace: str, request: Request, name: str | None) -> Body:
    """Create the ActivityItem, under a generated name when none is given. Raises WorkError."""
    spec = request.to_spec()
    for _ in range(NAME_ATTEMPTS):
        chosen = name or generate_name(request.definition)
        doing = Doing("create", ACTIVITY_ITEMS, namespace)
        try:
            return await cluster.create(ACTIVITY_ITEMS, namespace, {"metadata": {"name": chosen}, "spec": spec})
        except ConflictError as error:
            if name:
                raise UsageError(
                    f"Activity {name} exists already in namespace {namespace}. Leave out --name to have one generated."
                ) from None
            conflict = error
        except UnavailableError as error:
            raise WorkError(
                f"{explain(error, doing, cluster.server)}\nWhether {chosen} was created is not known: "
                f"kubectl get activityitem {chosen} -n {namespace}",
                ExitCode.UNREACHABLE,
            ) from None
        except ApiError as error:
            raise explain(error, doing, cluster.server) from None
    raise explain(conflict, doing, cluster.server)


@dataclass(frozen=True)
class Changed:
    """An item after it was asked to end; `message` says what that means."""

    item: ActivityItem
    message: str


async def find(cluster: Cluster, namespace: str, name: str) -> ActivityItem:
    """The item. Raises UsageError with close names when there is none."""
    try:
        return ActivityItem.of(await cluster.get(ACTIVITY_ITEMS, namespace, name))
    except NotFoundError:
        raise await nothing_named(cluster, namespace, name) from None
    except ApiError as error:
        raise explain(error, Doing("get", ACTIVITY_ITEMS, namespace, name), cluster.server) from None


async def end(cluster: Cluster, namespace: str, name: str, wanted: DesiredState) -> Changed:
    """Ask an item to stop, or to be killed. One that has ended, or is being killed already, is left alone."""
    item = await find(cluster, namespace, name)
    if item.status.is_final:
        return Changed(item, f"{name} is {item.status.phase} already")
    if item.spec.desired_state in {wanted, DesiredState.KILL}:
        return Changed(item, f"{name} is being {_doing(item.spec.desired_state)} already")
    patch = {"spec": {"desiredState": str(wanted)}}
    try:
        item = ActivityItem.of(await cluster.merge(ACTIVITY_ITEMS, namespace, name, patch))
    except ApiError as error:
        raise explain(error, Doing("patch", ACTIVITY_ITEMS, namespace, name), cluster.server) from None
    if wanted is DesiredState.KILL:
        return Changed(item, f"{name} is being killed")
    grace = item.spec.stop.grace_period_seconds
    return Changed(item, f"{name} is asked to stop; what is left of it after {grace} s is killed")


def _doing(wanted: DesiredState) -> str:
    return "killed" if wanted is DesiredState.KILL else "stopped"
