from datetime import UTC, datetime, timedelta

import pytest

from kuberpa.audit import GENESIS, AuditEntry, AuditOutcome, AuditSeal, Chain, report_of

BEGIN = datetime(2026, 11, 27, 6, 0, tzinfo=UTC)


def entry(seq: int, previous: str, **more: object) -> AuditEntry:
    plain: dict[str, object] = {
        "seq": seq,
        "at": BEGIN + timedelta(seconds=seq),
        "username": "anna",
        "address": "10.0.0.7",
        "source": "panel",
        "verb": "stop",
        "kind": "Robot",
        "namespace": "office",
        "name": "invoices",
        "field": "",
        "outcome": AuditOutcome.ALLOWED,
        "reason": "",
        "old": None,
        "new": None,
        "request": "",
        "refers": None,
        "previous": previous,
        "hash": "",
    }
    made = AuditEntry.model_validate(plain | more)
    return made.model_copy(update={"hash": made.computed()})


def trail(length: int) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for seq in range(1, length + 1):
        entries.append(entry(seq, entries[-1].hash if entries else GENESIS))
    return entries


def checked(entries: list[AuditEntry], seal: AuditSeal | None = None) -> Chain:
    chain = Chain(seal)
    chain.take_all(entries)
    return chain


def test_a_trail_that_nobody_touched_is_whole() -> None:
    report = report_of(checked(trail(5)))
    assert (report.intact, report.entries, report.seq) == (True, 5, 5)
    assert report.head == f"5:{trail(5)[-1].hash}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", "oleg"),
        ("at", BEGIN),
        ("verb", "start"),
        ("name", "mail"),
        ("outcome", AuditOutcome.DENIED),
        ("old", ""),
        ("new", "{}"),
        ("refers", 1),
        ("address", ""),
    ],
)
def test_a_changed_field_is_found(field: str, value: object) -> None:
    entries = trail(3)
    entries[1] = entries[1].model_copy(update={field: value})
    assert checked(entries).problems == ["entry 2 was changed after it was written"]


def test_a_value_moved_into_the_next_field_is_found() -> None:
    entries = trail(2)
    entries[1] = entries[1].model_copy(update={"verb": "stopRobot", "kind": ""})
    assert checked(entries).problems == ["entry 2 was changed after it was written"]


def test_a_missing_entry_is_found() -> None:
    entries = trail(6)
    assert checked(entries[:2] + entries[4:]).problems == ["after entry 2 comes 5: entries 3 to 4 are missing"]
    assert checked(entries[1:]).problems == ["after entry 0 comes 2: entry 1 is missing"]


def test_an_entry_replaced_with_its_hash_is_found_by_the_next() -> None:
    entries = trail(3)
    entries[1] = entry(2, entries[0].hash, username="oleg")
    assert checked(entries).problems == ["entry 3 does not follow on entry 2: one of them was replaced"]


def test_a_trail_goes_on_from_its_seal() -> None:
    entries = trail(6)
    seal = AuditSeal(seq=4, hash=entries[3].hash, entries=4, sealed_at=BEGIN)
    assert not checked(entries[4:], seal).problems
    assert checked(entries[4:], seal.model_copy(update={"hash": GENESIS})).problems


def test_a_head_that_was_noted_tells_a_cut_and_a_rewritten_trail() -> None:
    entries = trail(3)
    chain = checked(entries)
    chain.expect(3, entries[2].hash, entries[2].hash)
    assert not chain.problems
    chain.expect(4, GENESIS, None)
    chain.expect(2, GENESIS, entries[1].hash)
    assert [problem.split(":")[0] for problem in chain.problems] == [
        "entry 4 is not there any more, and was",
        f"entry 2 has the hash {entries[1].hash}, and had {GENESIS}",
    ]


def test_only_the_first_findings_are_told() -> None:
    entries = [each.model_copy(update={"reason": "x"}) for each in trail(50)]
    assert len(checked(entries).problems) == 20
