"""RobotRoleBindings on behalf of users, who have been reviewed already."""

from kuberpa.client import ROBOT_ROLE_BINDINGS, Body, Cluster
from kuberpa.names import ANNOTATION_ON_BEHALF_OF, API_VERSION
from kuberpa.rolebinding import RobotRoleBinding, RobotRoleBindingSpec
from kuberpa_panel.services.access import User


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
        self, user: User, namespace: str, name: str, spec: RobotRoleBindingSpec, version: str
    ) -> RobotRoleBinding:
        """Change what is given, at the version that was read. Raises ConflictError when that moved."""
        metadata = {"name": name, "resourceVersion": version, "annotations": {ANNOTATION_ON_BEHALF_OF: user.name}}
        body = {
            "apiVersion": API_VERSION,
            "kind": ROBOT_ROLE_BINDINGS.kind,
            "metadata": metadata,
            "spec": _spec(spec),
        }
        return RobotRoleBinding.of(await self._cluster.replace(ROBOT_ROLE_BINDINGS, namespace, body))

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
