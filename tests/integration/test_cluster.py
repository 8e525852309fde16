import ssl
from datetime import UTC, datetime

import pytest
from tests.support.cluster import Cluster

from kuberpa_cli.embedded import pki
from kuberpa_cli.embedded.probes import client_context, http


def test_the_control_plane_answers_with_its_version(control_plane: Cluster) -> None:
    assert "Server Version: v1.37.2" in control_plane.kubectl("version")


def test_both_kinds_of_admission_policy_are_served(control_plane: Cluster) -> None:
    served = control_plane.kubectl("api-resources", "--api-group=admissionregistration.k8s.io", "-o", "name")
    assert "validatingadmissionpolicies.admissionregistration.k8s.io" in served.split()
    assert "mutatingadmissionpolicies.admissionregistration.k8s.io" in served.split()


async def test_a_client_that_trusts_another_authority_refuses_the_server(
    control_plane: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = pki.ensure(tmp_path_factory.mktemp("other-pki"), datetime.now(UTC))  # noqa: TID251
    why = await http(f"{control_plane.site.server}/readyz", client_context(stranger, "admin"))()
    assert why is not None
    assert "CERTIFICATE_VERIFY_FAILED" in why


async def test_etcd_refuses_the_api_servers_clients(control_plane: Cluster) -> None:
    context = client_context(control_plane.site.pki, "etcd-client", "etcd-ca")
    assert await http(f"{control_plane.site.url('etcd')}/health", context)() is None
    context = ssl.create_default_context(cafile=control_plane.site.pki.certificate("etcd-ca"))
    context.load_cert_chain(control_plane.site.pki.certificate("admin"), control_plane.site.pki.key("admin"))
    assert await http(f"{control_plane.site.url('etcd')}/health", context)() is not None
