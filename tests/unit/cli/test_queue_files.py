"""Files of items, read and checked before anything is sent."""

import json
import zipfile
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from openpyxl import Workbook

from kuberpa import itemfiles
from kuberpa_cli.queues import importing
from kuberpa_cli.queues.client import QueueClient
from kuberpa_cli.queues.rows import Reading, Row, read
from kuberpa_cli.work.exits import UsageError
from kuberpa_cli.work.panel import Address

SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "number"}, "count": {"type": "integer"}, "paid": {"type": "boolean"}},
    "required": ["number"],
}


def rows(path: Path, **how: Any) -> list[Row]:
    return list(read(str(path), Reading(**how), SCHEMA))


def payloads(found: list[Row]) -> list[Any]:
    return [row.item and row.item["payload"] for row in found]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_cells_become_what_the_schema_wants_and_empty_ones_are_left_out(tmp_path: Path, delimiter: str) -> None:
    file = tmp_path / "a.csv"
    lines = ["number,total,count,paid,note", "A-1,12.5,3,yes,", "", "A-2,x,4.5,maybe,see below"]
    file.write_text("\n".join(line.replace(",", delimiter) for line in lines))
    assert [row.line for row in rows(file)] == [2, 4]
    assert payloads(rows(file)) == [
        {"number": "A-1", "total": 12.5, "count": 3, "paid": True},
        {"number": "A-2", "total": "x", "count": "4.5", "paid": "maybe", "note": "see below"},
    ]


def test_a_decimal_comma_of_a_russian_bank_is_a_number(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes("number;total\nA-1;12,50\n".encode("cp1251"))
    assert payloads(rows(file, encoding="cp1251")) == [{"number": "A-1", "total": 12.5}]


def test_columns_give_reference_priority_and_deadline(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("number,prio,until\nA-1,5,2027-03-01T09:00:00Z\n,1,2027-03-01T09:00:00Z\nA-3,x,tomorrow\n")
    good, nameless, wrong = rows(file, reference="number", priority="prio", deadline="until")
    assert good.item == {
        "payload": {"number": "A-1", "prio": "5", "until": "2027-03-01T09:00:00Z"},
        "reference": "A-1",
        "priority": "5",
        "deadline": "2027-03-01T09:00:00Z",
    }
    assert (nameless.line, nameless.error) == (3, "number: has no value, and is the reference")
    assert "priority" in wrong.error
    assert "deadline" in wrong.error


def test_a_workbooks_numbers_and_dates_are_json(tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["number", "total", "day", None])
    sheet.append(["A-1", 12.0, datetime(2026, 3, 1), None])  # noqa: DTZ001  cells have no zone
    sheet.append([None, None, None, None])
    sheet.append(["A-2", 1.25, None, None])
    file = tmp_path / "a.xlsx"
    book.save(file)
    found = rows(file)
    assert [row.line for row in found] == [2, 4]
    assert payloads(found) == [
        {"number": "A-1", "total": 12, "day": "2026-03-01T00:00:00"},
        {"number": "A-2", "total": 1.25},
    ]
    with pytest.raises(UsageError, match="there is no sheet 'x'; it has Sheet"):
        rows(file, sheet="x")


def test_json_lines_are_payloads_or_whole_items(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"number": "A-1"}\n\n[1]\n{"number": \n')
    good, no_object, no_json = rows(file)
    assert good.item == {"payload": {"number": "A-1"}}
    assert (no_object.line, no_object.error) == (3, "must be an object")
    assert "is not JSON" in no_json.error
    file.write_text('{"id": "7", "state": "Failed", "payload": {"number": "A-1"}, "reference": "r", "priority": 3}\n')
    assert rows(file, whole=True)[0].item == {"payload": {"number": "A-1"}, "reference": "r", "priority": 3}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"x", "say --format"),
        ("a.csv", b"", "the first row must name every column"),
        ("a.csv", b"a,,b\n", "the first row must name every column"),
        ("a.csv", b"a,b,a\n", "names a twice"),
        ("a.csv", b"a\n\xff\xfe\n", "say --encoding"),
        ("a.xlsx", b"no workbook", "is no workbook"),
    ],
)
def test_a_file_that_is_none_is_refused_in_words(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        rows(file)


def test_a_row_that_the_schema_refuses_names_its_field(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("number,total\nA-1,12\nA-2,much\n,3\n")
    found = list(importing.checked(rows(file), importing.validator_of(SCHEMA)))
    assert [row.error for row in found] == [
        "",
        "payload.total: 'much' is not of type 'number'",
        "payload: 'number' is a required property",
    ]


# Adding


@pytest.fixture
async def panel() -> AsyncIterator[tuple[Address, list[tuple[str, Any]]]]:
    """A panel that refuses odd numbers, and whose first answer gets lost."""
    seen: list[tuple[str, Any]] = []

    async def bulk(request: web.Request) -> web.Response:
        body = await request.json()
        seen.append((request.headers["Idempotency-Key"], body))
        if len(seen) == 1:
            return web.Response(status=503, text="away")
        odd = [n for n, item in enumerate(body["items"]) if item["payload"]["n"] % 2]
        errors = [{"row": n, "code": "Invalid", "field": "payload.n", "message": "is odd"} for n in odd]
        ids = [None if n in odd else "1" for n in range(len(body["items"]))]
        return web.json_response({"added": len(ids) - len(odd), "ids": ids, "errors": errors})

    app = web.Application(client_max_size=2**24)
    app.router.add_post("/api/v1/queues/default/q/items/bulk", bulk)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield Address(f"http://127.0.0.1:{runner.addresses[0][1]}", "token"), seen
    await runner.cleanup()


async def test_rows_are_added_in_batches_and_wrong_ones_named_by_line(
    panel: tuple[Address, list[tuple[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kuberpa_cli.work.panel.FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(importing, "BATCH_ROWS", 4)
    address, seen = panel
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"n": n}) + "\n" for n in range(6)) + "[]\n")
    async with QueueClient(address) as client:
        report = await importing.add_all(
            client, ("default", "q"), read(str(file), Reading(), None), lambda _: None, all_or_nothing=False
        )
    assert (report.rows, report.added) == (7, 3)
    assert sorted((wrong.line, wrong.message) for wrong in report.wrong) == [
        (2, "payload.n: is odd"),
        (4, "payload.n: is odd"),
        (6, "payload.n: is odd"),
        (7, "must be an object"),
    ]
    keys = [key for key, _ in seen]
    assert keys[0] == keys[1] != keys[2], "what was not answered is asked again under its key"


async def test_all_or_nothing_sends_nothing_when_a_row_is_wrong_already_here(
    panel: tuple[Address, list[tuple[str, Any]]], tmp_path: Path
) -> None:
    address, seen = panel
    file = tmp_path / "a.jsonl"
    file.write_text('{"n": 2}\n[]\n')
    async with QueueClient(address) as client:
        report = await importing.add_all(
            client, ("default", "q"), read(str(file), Reading(), None), lambda _: None, all_or_nothing=True
        )
    assert (report.added, [wrong.line for wrong in report.wrong], seen) == (0, [2], [])


def test_a_workbook_that_unpacks_to_too_much_is_not_opened(tmp_path: Path) -> None:
    book, path = Workbook(), tmp_path / "bomb.xlsx"
    book.save(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/bomb.xml", b" " * 3_000_000)
    with path.open("rb") as file, pytest.raises(itemfiles.FileError, match="at most 2,000,000 are read"):
        list(itemfiles.read("xlsx", file, Reading(), None, 2_000_000))
