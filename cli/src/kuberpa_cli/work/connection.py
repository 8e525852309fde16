import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from kubernetes.aio.config import ConfigException, list_kube_config_contexts

from kuberpa.client import (
    ApiError,
    Cluster,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    Resource,
    UnauthorizedError,
    UnavailableError,
)
from kuberpa_cli.work.exits import ExitCode, UsageError, WorkError

POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
HOW_TO_CONNECT: Final = (
    '`kuberpa up --detach` starts a cluster on this machine; `eval "$(kuberpa env)"` makes this shell use it.'
)


@dataclass(frozen=True)
class Doing:
    """A request as Kubernetes' authorizer sees it, for messages."""

    verb: str
    resource: Resource
    namespace: str
    name: str = ""

    def __str__(self) -> str:
        group = f".{self.resource.group}" if self.resource.group else ""
        name = f" {self.name}" if self.name else ""
        return f"{self.verb} {self.resource.plural}{group}{name} in namespace {self.namespace}"


def explain(error: ApiError, doing: Doing, server: str) -> WorkError:
    """What an answer of the API server means to the user, with the exit code for it."""
    match error:
        case ForbiddenError():
            return WorkError(f"You may not {doing}. The server says: {error}", ExitCode.FORBIDDEN)
        case UnauthorizedError():
            return WorkError(
                f"{server} does not accept your credentials (to {doing}): the token or certificate in the kubeconfig "
                "may have expired.",
                ExitCode.FORBIDDEN,
            )
        case UnavailableError():
            return WorkError(f"{server} cannot be reached or does not answer: {error}", ExitCode.UNREACHABLE)
        case NotFoundError() if not doing.name or _is_unserved(error):
            return WorkError(
                f"{server} does not know {doing.resource.plural}.{doing.resource.group}: kuberpa's resource "
                "definitions are not installed there (kubectl apply -f crds/).",
                ExitCode.USAGE,
            )
        case NotFoundError() | ConflictError() | InvalidError():
            return UsageError(f"Could not {doing}. {error}")
        case _:
            return WorkError(f"Could not {doing}. {error}", ExitCode.FAILED)


@asynccontextmanager
async def connect() -> AsyncIterator[Cluster]:
    """The cluster of the present kubeconfig context. Raises WorkError when there is none to be had."""
    files = _kubeconfigs()
    try:
        cluster = await Cluster.connect()
    except (ConfigException, OSError, yaml.YAMLError) as error:
        raise WorkError(f"No cluster to talk to ({files}): {error}\n{HOW_TO_CONNECT}", ExitCode.UNREACHABLE) from None
    async with cluster:
        yield cluster


def default_namespace() -> str:
    """The namespace of the present context, of the pod that this runs in, or `default`."""
    if "KUBECONFIG" not in os.environ and POD_NAMESPACE.exists():
        return POD_NAMESPACE.read_text(encoding="utf-8").strip()
    try:
        _, context = list_kube_config_contexts(os.environ.get("KUBECONFIG"))  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, yaml.YAMLError):
        return "default"
    return str(context.get("context", {}).get("namespace") or "default")


def _kubeconfigs() -> str:
    """Where the kubeconfig is. Raises WorkError when nothing is there and this is no pod."""
    files = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube/config")
    in_pod = "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ
    if not in_pod and not any(Path(file).exists() for file in files.split(os.pathsep)):
        raise WorkError(f"No cluster to talk to: there is no {files}.\n{HOW_TO_CONNECT}", ExitCode.UNREACHABLE)
    return files


def _is_unserved(error: NotFoundError) -> bool:
    """Whether the whole resource is unknown: the server then names no object."""
    return not error.body.get("details", {}).get("name")
