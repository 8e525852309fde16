"""Looks at the robots before an item is created: what would wait for ever is refused with what would be right."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from kuberpa.client import ACTIVITY_ITEMS, ROBOTS, ApiError, Cluster, ForbiddenError, NotFoundError
from kuberpa.robot import Robot
from kuberpa_cli.work.arguments import Request
from kuberpa_cli.work.connection import Doing, explain
from kuberpa_cli.work.exits import UsageError

LISTED = 40


async def check_target(cluster: Cluster, namespace: str, request: Request) -> list[str]:
    """What the user should know before the item is created. Raises UsageError when no robot could run it.

    A user who may not read robots gets no check: the item's status says it then.
    """
    try:
        robots = [Robot.of(body) for body in (await cluster.list_all(ROBOTS, namespace)).items]
    except ForbiddenError:
        return await _check_named(cluster, namespace, request)
    except ApiError as error:
        raise explain(error, Doing("list", ROBOTS, namespace), cluster.server) from None
    return check(robots, namespace, request)


async def _check_named(cluster: Cluster, namespace: str, request: Request) -> list[str]:
    if not request.robot:
        return []
    try:
        robot = Robot.of(await cluster.get(ROBOTS, namespace, request.robot))
    except NotFoundError:
        raise UsageError(f"There is no robot {request.robot} in namespace {namespace}.") from None
    except ForbiddenError:
        return []
    except ApiError as error:
        raise explain(error, Doing("get", ROBOTS, namespace, request.robot), cluster.server) from None
    return check([robot], namespace, request)


def check(robots: Sequence[Robot], namespace: str, request: Request) -> list[str]:
    """The pure part of `check_target`, with all robots of the namespace."""
    chosen = [robot for robot in robots if _is_wanted(robot, request)]
    if not chosen:
        raise UsageError(_nobody(robots, namespace, request))
    offers = [offered(robot) for robot in chosen]
    known = [offer for offer in offers if offer is not None]
    if len(known) == len(offers) and not any(request.definition in offer for offer in known):
        raise UsageError(_unknown_definition(chosen, frozenset().union(*known), request.definition))
    return [_not_here_yet(robot) for robot in chosen if request.robot and not _is_connected(robot)]


def offered(robot: Robot) -> frozenset[str] | None:
    """Names of the definitions that the robot offers; None while that is not known for sure."""
    agent = robot.status.agent
    if agent is None or not agent.definitions:
        return None
    if robot.spec.packages and agent.packages.state != "Installed":
        return None
    return frozenset(agent.definitions)


async def nothing_named(cluster: Cluster, namespace: str, name: str) -> UsageError:
    """For an activity that does not exist: names close ones, and where older ones are."""
    try:
        listing = await cluster.list_all(ACTIVITY_ITEMS, namespace)
    except ApiError:
        names: list[str] = []
    else:
        names = [body["metadata"]["name"] for body in listing.items]
    return UsageError(
        f"There is no activity {name} in namespace {namespace}.{did_you_mean(name, names)}\n"
        "Finished activities leave the cluster after a while; their history and log stay in the panel."
    )


async def no_robot_named(cluster: Cluster, namespace: str, name: str) -> UsageError:
    """For a robot that does not exist: names close ones."""
    try:
        names = [body["metadata"]["name"] for body in (await cluster.list_all(ROBOTS, namespace)).items]
    except ApiError:
        names = []
    return UsageError(f"There is no robot {name} in namespace {namespace}.{did_you_mean(name, names)}")


def no_robot_selected(namespace: str | None, selector: Mapping[str, str]) -> UsageError:
    """For a selection that is empty."""
    where = f"in namespace {namespace}" if namespace else "in any namespace"
    wanted = ",".join(f"{key}={value}" for key, value in selector.items())
    which = f"No robot {where} has the labels {wanted}." if wanted else f"There are no robots {where}."
    return UsageError(f"{which} Another namespace is chosen with -n NAMESPACE, all with ls -A.")


def _is_wanted(robot: Robot, request: Request) -> bool:
    if request.robot:
        return robot.metadata.name == request.robot
    labels = robot.metadata.labels
    return all(labels.get(key) == value for key, value in (request.selector or {}).items())


def _is_connected(robot: Robot) -> bool:
    return robot.status.agent is not None and robot.status.agent.connected


def _not_here_yet(robot: Robot) -> str:
    why = f": {robot.status.message}" if robot.status.message else ""
    return f"Robot {robot.metadata.name} is {robot.status.phase}{why}. The activity waits for it."


def _nobody(robots: Sequence[Robot], namespace: str, request: Request) -> str:
    if not robots:
        return f"There are no robots in namespace {namespace}. Another one is chosen with -n NAMESPACE."
    names = [robot.metadata.name for robot in robots]
    if request.robot:
        return (
            f"There is no robot {request.robot} in namespace {namespace}.{did_you_mean(request.robot, names)}\n"
            f"Robots there: {_listed(names)}"
        )
    wanted = ",".join(f"{key}={value}" for key, value in (request.selector or {}).items())
    return "\n".join(
        [
            f"No robot in namespace {namespace} has the labels {wanted}. Robots there, with their labels:",
            *(f"  {robot.metadata.name}: {_labels(robot)}" for robot in robots[:LISTED]),
        ]
    )


def _labels(robot: Robot) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(robot.metadata.labels.items())) or "none"


def _unknown_definition(robots: Sequence[Robot], offer: frozenset[str], definition: str) -> str:
    who = f"Robot {robots[0].metadata.name} offers" if len(robots) == 1 else f"These {len(robots)} robots offer"
    return f"{who} no definition {definition}.{did_you_mean(definition, offer)}\nOffered: {_listed(offer)}"


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """A question with close words, after a blank; nothing when none is close."""
    close = get_close_matches(word, list(words), n=3)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _listed(words: Iterable[str]) -> str:
    names = sorted(words)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
