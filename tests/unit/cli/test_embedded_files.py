"""Certificates, ports, folders and user IDs of the embedded cluster."""

import json
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from kuberpa_cli.embedded import files, paths, pki, ports, uids
from kuberpa_cli.embedded.part import Condition, State
from kuberpa_cli.embedded.processes import Identity
from kuberpa_cli.embedded.run import Run, RunPhase
from kuberpa_cli.errors import KuberpaError
from kuberpa_cli.runtime.settings import LOCAL_NODES

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_each_client_certificate_carries_its_kubernetes_identity(tmp_path: Path) -> None:
    issued = pki.ensure(tmp_path, NOW)
    subjects = {leaf.file: certificate(issued.certificate(leaf.file)).subject.rfc4514_string() for leaf in pki.CLIENTS}
    assert subjects["admin"] == "O=system:masters,CN=kuberpa-admin"
    assert subjects["kube-scheduler"] == "CN=system:kube-scheduler"
    assert subjects["local-runtime"] == "CN=system:kuberpa:local-runtime"


def test_the_servers_certificate_is_good_for_every_name_it_has(tmp_path: Path) -> None:
    issued = certificate(pki.ensure(tmp_path, NOW).certificate("kube-apiserver"))
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "kubernetes.default.svc"} <= set(names.get_values_for_type(x509.DNSName))
    assert "127.0.0.1" in map(str, names.get_values_for_type(x509.IPAddress))


def test_no_client_of_the_api_server_is_signed_by_etcds_authority(tmp_path: Path) -> None:
    issued = pki.ensure(tmp_path, NOW)
    etcd_ca = certificate(issued.certificate("etcd-ca"))
    certificate(issued.certificate("etcd-client")).verify_directly_issued_by(etcd_ca)
    for leaf in pki.CLIENTS:
        with pytest.raises(ValueError, match=r"[Ii]ssuer"):
            certificate(issued.certificate(leaf.file)).verify_directly_issued_by(etcd_ca)


def test_certificates_are_renewed_before_they_expire_and_the_authority_stays(tmp_path: Path) -> None:
    issued = pki.ensure(tmp_path, NOW)
    authority, admin = issued.certificate("ca").read_bytes(), issued.certificate("admin").read_bytes()
    pki.ensure(tmp_path, NOW + timedelta(days=300))
    assert issued.certificate("admin").read_bytes() == admin
    pki.ensure(tmp_path, NOW + timedelta(days=310))
    assert issued.certificate("admin").read_bytes() != admin
    assert issued.certificate("ca").read_bytes() == authority


def test_no_private_key_is_readable_by_others(tmp_path: Path) -> None:
    pki.ensure(tmp_path, NOW)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.key")} == {0o600}


def test_ports_are_remembered(tmp_path: Path) -> None:
    chosen = ports.allocate(tmp_path / "ports.json", ("a", "b"))
    assert chosen["a"] != chosen["b"]
    assert ports.allocate(tmp_path / "ports.json", ("a", "b")) == chosen


def test_a_remembered_port_that_is_taken_meanwhile_is_replaced(tmp_path: Path) -> None:
    chosen = ports.allocate(tmp_path / "ports.json", ("a", "b"))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((ports.LOOPBACK, chosen["a"]))
        other.listen(1)
        again = ports.allocate(tmp_path / "ports.json", ("a", "b"))
    assert again["a"] != chosen["a"]
    assert again["b"] == chosen["b"]


def test_folders_follow_xdg_and_kuberpas_own_variables() -> None:
    chosen = paths.from_environment({"HOME": "/home/u"}, root=False)
    assert chosen.state == Path("/home/u/.local/state/kuberpa")
    assert chosen.cache == Path("/home/u/.cache/kuberpa")
    assert chosen.shared == chosen.state / "local"
    xdg = {"HOME": "/home/u", "XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "relative-is-ignored"}
    chosen = paths.from_environment(xdg, root=False)
    assert (chosen.state, chosen.cache) == (Path("/s/kuberpa"), Path("/home/u/.cache/kuberpa"))
    chosen = paths.from_environment({**xdg, "KUBERPA_STATE_DIR": "/own", "KUBERPA_CACHE_DIR": "/kept"}, root=True)
    assert (chosen.state, chosen.cache) == (Path("/own"), Path("/kept"))
    assert chosen.shared == Path("/var/lib/kuberpa") / chosen.cluster_id


def test_a_closed_folder_above_a_program_makes_it_unreachable(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    program = closed / "open" / "program"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    closed.chmod(0o700)
    assert not paths.traversable(program)
    assert paths.traversable(Path("/bin/sh"))


def test_clusters_of_one_machine_have_user_ids_of_their_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = uids.block(tmp_path, "one"), uids.block(tmp_path, "two")
    assert not set(one) & set(two)
    assert uids.block(tmp_path, "one") == one
    (tmp_path / "one").rmdir()
    (tmp_path / "three").mkdir()
    assert uids.block(tmp_path, "three") == one


def test_a_container_with_few_user_ids_gets_a_block_that_fits(tmp_path: Path) -> None:
    assert max(uids.block(tmp_path, "one", largest=65535)) < 65535


def test_running_out_of_user_ids_is_explained(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / str(number)).mkdir()
        uids.block(tmp_path, str(number))
    with pytest.raises(KuberpaError, match="all 20 blocks"):
        uids.block(tmp_path, "one-more")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "file"
    files.write(target, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write(target, "\ud800")
    files.write(target, "new", mode=0o640)
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [target]


def test_a_run_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    run = Run(1, 2.0, "2026-11-24T12:00:00Z", RunPhase.READY).with_part(Condition("etcd", State.READY, pid=3))
    run.save(tmp_path / "status.json")
    assert Run.load(tmp_path / "status.json") == run
    assert Run.load(tmp_path / "missing") is None


def test_the_file_of_a_dead_run_is_not_taken_for_a_live_one() -> None:
    own = Identity.of(os.getpid())
    assert own is not None
    assert Run(own.pid, own.created, "").alive
    assert not Run(own.pid, own.created - 100, "").alive


def test_the_runtime_serves_the_nodes_that_the_manifest_creates() -> None:
    manifest = Path(uids.__file__).parent / "manifests" / "local.yaml"
    nodes = {body["metadata"]["name"] for body in yaml.safe_load_all(manifest.read_text()) if body["kind"] == "Node"}
    assert nodes == LOCAL_NODES


def test_the_ports_file_is_json_a_person_can_edit(tmp_path: Path) -> None:
    chosen = ports.allocate(tmp_path / "ports.json", ("panel",))
    assert json.loads((tmp_path / "ports.json").read_text()) == dict(chosen)
