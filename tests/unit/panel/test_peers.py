from datetime import UTC, datetime, timedelta

import pytest

from kuberpa.streams import StreamClosedError
from kuberpa.wire import StreamKind
from kuberpa_panel.remote.peers import TicketError, Tickets
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
