"""What the pod of a robot on a host has more than others: the host, and what identifies its user there."""

import json
from typing import Final

from kuberpa.host import RobotHost, Supervised
from kuberpa.robot import Robot
from kuberpa_operator.core.effects import Body

CREDENTIALS: Final = "/var/run/kuberpa/host/credentials"
AUTHORITIES: Final = "/var/run/kuberpa/host/ca"
CA_KEY: Final = "ca.crt"


def host_environment(robot: Robot, host: RobotHost) -> dict[str, str]:
    """Variables of the agent. Nothing in them is secret."""
    winrm = host.spec.winrm
    supervised = Supervised(
        robot=robot.metadata.uid, host=host.spec, connections=max(1, winrm.max_connections // host.spec.slots)
    )
    environment = {
        "KUBERPA_HOST": json.dumps(supervised.to_json(), sort_keys=True),
        "KUBERPA_HOST_CREDENTIALS_DIR": CREDENTIALS,
    }
    if winrm.tls.ca_secret_ref is not None:
        environment["KUBERPA_HOST_CA_FILE"] = f"{AUTHORITIES}/{CA_KEY}"
    return environment


def host_volumes(host: RobotHost) -> list[tuple[Body, str]]:
    """The host's Secrets and their folders. Kubelet keeps them up to date; the agent reads them for each call."""
    winrm = host.spec.winrm
    volumes = [
        (
            {"name": "host-credentials", "secret": {"secretName": winrm.credentials_secret_ref.name}},
            CREDENTIALS,
        )
    ]
    if winrm.tls.ca_secret_ref is not None:
        items = [{"key": CA_KEY, "path": CA_KEY}]  # whatever key that Secret has beside it is not the supervisor's
        source = {"secretName": winrm.tls.ca_secret_ref.name, "items": items}
        volumes.append(({"name": "host-ca", "secret": source}, AUTHORITIES))
    return volumes
