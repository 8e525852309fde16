import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from tests.support.winrm.certificates import Authority, Pair
from websockets.asyncio.server import ServerConnection, serve

from kuberpa.client import Cluster, Resource
from kuberpa.names import ANNOTATION_ADDRESS
from kuberpa.streams import StreamClosedError
from kuberpa.wire import StreamKind
from kuberpa_panel.remote.peers import Peers, PeerSettings, TicketError, Tickets
from kuberpa_panel.remote.wish import Wish

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
WISH = Wish("prod", "desk", StreamKind.TERMINAL, "anna", {"size": [80, 24]})
KEY = b"k" * 32


def test_a_ticket_says_what_was_wished_and_is_good_once() -> None:
    ticket = Tickets(KEY).issue("kuberpa-panel-two", WISH, NOW)
    there = Tickets(KEY)
    assert there.check("kuberpa-panel-two", ticket, NOW + timedelta(seconds=5)) == WISH
    with pytest.raises(TicketError, match="used before"):
        there.check("kuberpa-panel-two", ticket, NOW + timedelta(seconds=6))


@pytest.mark.parametrize(
    ("server", "key", "later", "why"),
    [
        ("kuberpa-panel-three", KEY, 0, "not for kuberpa-panel-three"),
        ("kuberpa-panel-two", b"x" * 32, 0, "not signed with this panel's key"),
        ("kuberpa-panel-two", KEY, 31, "expired"),
        ("kuberpa-panel-two", KEY, -31, "expired"),
        ("kuberpa-panel-two", None, 0, "no key in common"),
    ],
)
def test_a_ticket_proves_nothing_elsewhere_later_or_under_another_key(
    server: str, key: bytes | None, later: int, why: str
) -> None:
    ticket = Tickets(KEY).issue("kuberpa-panel-two", WISH, NOW)
    with pytest.raises(TicketError, match=why):
        Tickets(key).check(server, ticket, NOW + timedelta(seconds=later))


def test_a_changed_ticket_is_refused() -> None:
    head, _, signature = Tickets(KEY).issue("two", WISH, NOW).partition(".")
    with pytest.raises(TicketError, match="not signed"):
        Tickets(KEY).check("two", f"{head[:-4]}AAAA.{signature}", NOW)


def test_a_replica_without_a_common_key_says_what_to_set() -> None:
    with pytest.raises(StreamClosedError, match="KUBERPA_SESSION_KEY_FILE"):
        Tickets(None).issue("two", WISH, NOW)


@dataclass(frozen=True)
class LeaseOf:
    """An API server that knows one replica's Lease."""

    address: str

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        assert (resource.plural, namespace, name) == ("leases", "home", "two")
        return {"metadata": {"annotations": {ANNOTATION_ADDRESS: self.address}}}


@asynccontextmanager
async def replica(pair: Pair) -> AsyncIterator[tuple[str, list[str]]]:
    """The other replica's listener, which serves this certificate: its address, and the tickets that reached it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    tickets: list[str] = []

    async def answer(socket: ServerConnection) -> None:
        assert socket.request is not None
        tickets.append(socket.request.headers["X-Kuberpa-Ticket"])
        await socket.send("hello")
        await socket.wait_closed()

    async with serve(answer, "127.0.0.1", 0, ssl=context) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"https://127.0.0.1:{port}", tickets


def peers(address: str, certificate: Path) -> Peers:
    return Peers(cast("Cluster", LeaseOf(address)), PeerSettings("home", KEY, certificate))


async def test_a_replica_that_serves_the_common_certificate_is_spoken_to(tmp_path: Path) -> None:
    pair = Authority(tmp_path).server("panel.example")  # whatever name it is for: all replicas have the same one
    async with replica(pair) as (address, tickets):
        channel = await peers(address, pair.certificate).open("two", WISH)
        assert await channel.receive() == "hello"
        channel.close()
        assert Tickets(KEY).check("two", tickets[0], datetime.now(UTC)) == WISH  # noqa: TID251  as the ticket's


@pytest.mark.parametrize("other", ["of the same authority", "of another authority", "of the same name, expired"])
async def test_another_certificate_is_refused_before_a_ticket_is_shown(tmp_path: Path, other: str) -> None:
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    pinned = ours.server("panel.example")
    served = {
        "of the same authority": ours.server("127.0.0.1"),
        "of another authority": theirs.server("panel.example"),
        "of the same name, expired": ours.server("panel.example", days=-1),
    }[other]
    async with replica(served) as (address, tickets):
        with pytest.raises(StreamClosedError, match=r"does not answer.*certificate verify failed"):
            await peers(address, pinned.certificate).open("two", WISH)
        assert tickets == []
