"""RobotRoleBindings on behalf of users, who have been reviewed already."""

from typing import Final

from kuberpa.client import ROBOT_ROLE_BINDINGS, Body, Cluster, ConflictError, NotFoundError
from kuberpa.names import ANNOTATION_ON_BEHALF_OF, API_VERSION
from kuberpa.rolebinding import RobotRoleBinding, RobotRoleBindingSpec
from kuberpa_panel.services.access import User

TRIES: Final = 5


class RoleBindings:
    """Every method raises ApiError."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def create(self, user: User, namespace: str, name: str, spec: RobotRoleBindingSpec) -> RobotRoleBinding:
        """Give a role."""
        metadata = {"name": name, "annotations": {ANNOTATION_ON_BEHALF_OF: user.name}}
        body = {"metadata": metadata, "spec": _spec(spec)}
        return RobotRoleBinding.of(await self._cluster.create(ROBOT_ROLE_BINDINGS, namespace, body))

    async def replace(
        self, user: User, namespace: str, name: str, spec: RobotRoleBindingSpec, generation: int
    ) -> RobotRoleBinding:
        """Change what is given, if nobody else has since. Raises ConflictError when somebody has, NotFoundError."""
        for attempt in range(TRIES):
            present = await self._read(namespace, name)
            if present["metadata"]["generation"] != generation:
                raise ConflictError(
                    f"RobotRoleBinding {namespace}/{name} was changed meanwhile. Nothing was done: read it again"
                )
            annotations = present["metadata"].get("annotations", {}) | {ANNOTATION_ON_BEHALF_OF: user.name}
            body = {**present, "metadata": {**present["metadata"], "annotations": annotations}, "spec": _spec(spec)}
            body |= {"apiVersion": API_VERSION, "kind": ROBOT_ROLE_BINDINGS.kind}
            try:
                return RobotRoleBinding.of(await self._cluster.replace(ROBOT_ROLE_BINDINGS, namespace, body))
            except ConflictError:
                if attempt + 1 == TRIES:
                    raise  # the operator may have written its status in between, but not as often as that
        raise AssertionError("the last try returns or raises")

    async def _read(self, namespace: str, name: str) -> Body:
        """As it is now: what is watched is read again by a list of one, which takes no right of its own."""
        listing = await self._cluster.list_all(ROBOT_ROLE_BINDINGS, namespace, fieldSelector=f"metadata.name={name}")
        if not listing.items:
            raise NotFoundError(f"robotrolebindings {name!r} not found", status=404, reason="NotFound")
        return dict(listing.items[0])

    async def delete(self, namespace: str, name: str, uid: str) -> None:
        """Take it back."""
        await self._cluster.delete(ROBOT_ROLE_BINDINGS, namespace, name, uid=uid)


def _spec(spec: RobotRoleBindingSpec) -> Body:
    # a namespace that is empty is left out, as people write it
    body = spec.to_json()
    for subject in body["subjects"]:
        if not subject.get("namespace"):
            subject.pop("namespace", None)
    return body
