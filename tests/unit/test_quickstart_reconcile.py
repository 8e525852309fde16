"""The sample's totals against a computation of this file's own: other parsing, other matching, floats nowhere.

Kopecks are integers here, cells are cut by position, the workbook is read as XML: nothing of the package is used to
say what the package should have found.
"""

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from openpyxl import Workbook, load_workbook

SAMPLE = Path(__file__).parents[2] / "manifests" / "quickstart" / "reconcile"
DATA = SAMPLE / "src" / "kuberpa_sample_reconcile" / "data"
STATEMENT = DATA / "statement-2026-10.csv"
REGISTER = DATA / "invoices-2026-10.xlsx"
SPREADSHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The activity's result and its folder, from a process of its own."""
    folder = tmp_path_factory.mktemp("robot")
    return call(folder), folder


def call(folder: Path, **kwargs: str) -> dict[str, Any]:
    """Run the activity as a robot does, in its folder."""
    code = (
        "import json, sys; from pathlib import Path; from kuberpa_sample_reconcile.activity import reconcile_bank;"
        "print(json.dumps(reconcile_bank(**{k: Path(v) for k, v in json.loads(sys.argv[1]).items()})))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, json.dumps(kwargs)],
        cwd=folder,
        env={"PYTHONPATH": str(SAMPLE / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


# ---- the same files, read in another way


def kopecks(text: str) -> int | None:
    digits = text.replace(" ", "").replace("\xa0", "")
    if not re.fullmatch(r"-?[0-9]+,[0-9][0-9]", digits) or digits.strip("-") == "0,00":
        return None
    return int(digits.replace(",", ""))


def roubles(amount: int) -> str:
    sign = "-" if amount < 0 else ""
    return f"{sign}{abs(amount) // 100}.{abs(amount) % 100:02}"


def is_day(text: str) -> bool:
    try:
        date.fromisoformat("-".join(reversed(text.split("."))))
    except ValueError:
        return False
    return text.count(".") == 2


def is_taxpayer(text: str) -> bool:
    digits = [int(c) for c in text]

    def check(weights: str) -> int:
        return sum(int(w, 16) * d for w, d in zip(weights, digits, strict=False)) % 11 % 10

    if len(digits) == 10:
        return check("24A359468") == digits[9]
    return len(digits) == 12 and check("724A359468") == digits[10] and check("3724A359468") == digits[11]


def invoice_in(text: str) -> int | None:
    found = set(re.findall(r"(?:^|\W)[ВвBb] ?[-/] ?2026 ?[-/] ?(\d{4})", text))
    return int(found.pop()) if len(found) == 1 else None


def foreign_invoice_in(text: str) -> bool:
    return re.search(r"В-2025-\d{4}", text) is not None


@dataclass(frozen=True)
class Paid:
    taxpayer: str
    kopecks: int
    purpose: str


@dataclass(frozen=True)
class Row:
    line: int
    cells: tuple[str, ...]


def statement_rows() -> list[Row]:
    """Every row between header and footer, cut at semicolons: no name or purpose here holds one."""
    lines = STATEMENT.read_bytes().replace(b"\x98", b"\x00").decode("cp1251").split("\r\n")
    first = next(n for n, text in enumerate(lines) if text.startswith("Дата операции;"))
    last = next(n for n, text in enumerate(lines) if text.startswith("Итого;"))
    return [Row(n + 1, tuple(lines[n].split(";"))) for n in range(first + 1, last)]


def is_readable(row: Row) -> bool:
    if len(row.cells) != 8 or any("\x00" in cell for cell in row.cells):
        return False
    day, _, payer, taxpayer, _, amount, currency, _ = row.cells
    quotes = payer.count('"')
    sound_quotes = quotes == 0 or (payer[0] == payer[-1] == '"' and '""' in payer and quotes % 2 == 0)
    return sound_quotes and is_day(day) and is_taxpayer(taxpayer) and kopecks(amount) is not None and currency == "RUR"


@dataclass(frozen=True)
class Billed:
    line: int
    number: int
    taxpayer: str
    kopecks: int
    cancelled: bool


def members(workbook: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(workbook) as book:
        return {name: book.read(name) for name in book.namelist()}


def sheet_rows() -> Iterator[tuple[int, dict[str, str]]]:
    """Cells of the register as texts by column letter, straight from the workbook's XML."""
    sheet = ET.fromstring(members(REGISTER)["xl/worksheets/sheet1.xml"])
    for row in sheet.iter(f"{SPREADSHEET}row"):
        cells = {}
        for cell in row:
            text = "".join(cell.itertext())
            if text:
                cells[re.sub(r"\d", "", cell.get("r", ""))] = text
        yield int(row.get("r", "0")), cells


def register() -> tuple[list[Billed], list[int]]:
    """Invoices, and the lines that are none."""
    invoices: dict[int, Billed] = {}
    wrong = []
    rows = dict(sheet_rows())
    header = next(line for line, cells in rows.items() if cells.get("A") == "Номер счёта")
    for line, cells in rows.items():
        if line <= header:
            continue
        number = invoice_in(cells.get("A", ""))
        text = cells.get("E", "")
        amount = kopecks(text) if "," in text else round(float(text) * 100) if text else None
        if number is None or amount is None or number in invoices:
            wrong.append(line)
        else:
            invoices[number] = Billed(line, number, cells["D"], amount, cells.get("G") == "Аннулирован")
    return list(invoices.values()), wrong


@dataclass
class Expected:
    matched: list[Paid]
    unmatched: list[Paid]
    paid: list[Billed]
    partly: list[Billed]
    left: int
    unpaid: list[Billed]
    duplicates: list[Paid]
    refunds: list[Paid]
    broken: set[tuple[str, int]]


@pytest.fixture(scope="module")
def expected() -> Expected:
    """Named payments are settled invoice by invoice; only what names none is looked up by payer and amount."""
    rows = statement_rows()
    good = [row for row in rows if is_readable(row)]
    # The same operation may be exported with and without spaces between thousands.
    counted = Counter((*row.cells[:5], str(kopecks(row.cells[5])), *row.cells[6:]) for row in good)
    once = [Paid(cells[3], int(cells[5]), cells[7]) for cells in counted]
    duplicates = [Paid(cells[3], int(cells[5]), cells[7]) for cells in (counted - Counter(counted.keys())).elements()]
    refunds = [p for p in once if p.kopecks < 0]
    money = [p for p in once if p.kopecks > 0]
    invoices, wrong = register()
    by_number = {invoice.number: invoice for invoice in invoices}
    left = {invoice.number: invoice.kopecks for invoice in invoices if not invoice.cancelled}
    matched: list[Paid] = []
    unmatched: list[Paid] = []
    nameless: list[Paid] = []
    for payment in money:
        number = invoice_in(payment.purpose)
        if number is None:
            (unmatched if foreign_invoice_in(payment.purpose) else nameless).append(payment)
        elif number in left and by_number[number].taxpayer == payment.taxpayer and payment.kopecks <= left[number]:
            left[number] -= payment.kopecks
            matched.append(payment)
        else:
            unmatched.append(payment)
    wanted: dict[tuple[str, int], list[int]] = defaultdict(list)
    for number, rest in left.items():
        wanted[by_number[number].taxpayer, rest].append(number)
    for payment in nameless:
        numbers = wanted.pop((payment.taxpayer, payment.kopecks), [])
        if len(numbers) == 1:
            left[numbers[0]] = 0
            matched.append(payment)
        else:
            unmatched.append(payment)
    valid = [invoice for invoice in invoices if not invoice.cancelled]
    return Expected(
        matched=matched,
        unmatched=unmatched,
        paid=[i for i in valid if left[i.number] == 0],
        partly=[i for i in valid if 0 < left[i.number] < i.kopecks],
        left=sum(left[i.number] for i in valid if 0 < left[i.number] < i.kopecks),
        unpaid=[i for i in valid if left[i.number] == i.kopecks],
        duplicates=duplicates,
        refunds=refunds,
        broken={("statement", row.line) for row in rows if not is_readable(row)}
        | {("register", line) for line in wrong},
    )


def total(items: list[Paid] | list[Billed]) -> dict[str, Any]:
    return {"count": len(items), "sum": roubles(sum(item.kopecks for item in items))}


# ---- what the activity found


def test_the_month_is_as_rough_as_a_real_one(expected: Expected) -> None:
    assert len(statement_rows()) > 300
    assert len(expected.duplicates) == 11
    assert len(expected.refunds) == 13
    assert len(expected.broken) == 14
    assert STATEMENT.read_bytes().count(b"\xa0") > 50


def test_every_total_agrees_with_the_independent_computation(
    run: tuple[dict[str, Any], Path], expected: Expected
) -> None:
    result, _ = run
    assert result["rows"] == len(statement_rows())
    assert result["matched"] == {"payments": total(expected.matched), "invoices": total(expected.paid)}
    assert result["unmatched"] == {"payments": total(expected.unmatched), "invoices": total(expected.unpaid)}
    assert result["partlyPaid"] == {**total(expected.partly), "left": roubles(expected.left)}
    assert result["duplicates"] == total(expected.duplicates)
    assert result["refunds"] == total(expected.refunds)


def test_every_row_is_in_exactly_one_place(run: tuple[dict[str, Any], Path], expected: Expected) -> None:
    result, _ = run
    broken = sum(row["source"] == "statement" for row in result["broken"])
    parts = (result["matched"]["payments"], result["unmatched"]["payments"], result["duplicates"], result["refunds"])
    assert sum(part["count"] for part in parts) + broken == result["rows"]
    money = sum(kopecks(row.cells[5]) or 0 for row in statement_rows() if is_readable(row))
    assert sum(int(part["sum"].replace(".", "")) for part in parts) == money


def test_every_broken_row_is_named_with_its_line_and_the_reason(
    run: tuple[dict[str, Any], Path], expected: Expected
) -> None:
    result, _ = run
    assert {(row["source"], row["line"]) for row in result["broken"]} == expected.broken
    why = "\n".join(row["why"] for row in result["broken"])
    for part in ("31.09.2026", "2026-10-14", "1 25O,00", "12,500.00", "zero roubles", "check digit", "'USD'",
                 "7 cells instead of 8", "quotes do not match", "byte 0x98", "is on line", "без номера"):  # fmt: skip
        assert part in why


def test_the_report_holds_every_row_that_the_result_counts(run: tuple[dict[str, Any], Path]) -> None:
    result, folder = run
    report = folder / result["report"]["path"]
    assert hashlib.sha256(report.read_bytes()).hexdigest() == result["report"]["sha256"]
    book = load_workbook(report)
    counts = {sheet.title: sheet.max_row - 1 for sheet in book.worksheets}
    assert counts == {
        "Итоги": 10,
        "Сопоставлено": result["matched"]["payments"]["count"],
        "Платежи без счёта": result["unmatched"]["payments"]["count"],
        "Возвраты": result["refunds"]["count"],
        "Дубликаты": result["duplicates"]["count"],
        "Счета без оплаты": result["unmatched"]["invoices"]["count"] + result["partlyPaid"]["count"],
        "Ошибки": len(result["broken"]),
    }
    refunds = sum(round(float(str(row[5].value)) * 100) for row in book["Возвраты"].iter_rows(min_row=2))
    assert roubles(refunds) == result["refunds"]["sum"]


def test_the_committed_data_is_what_the_committed_script_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, SAMPLE / "generate_data.py", tmp_path], check=True)
    assert (tmp_path / STATEMENT.name).read_bytes() == STATEMENT.read_bytes()
    assert members(tmp_path / REGISTER.name) == members(REGISTER)


HEADER = "Дата операции;Номер документа;Контрагент;ИНН;Счёт;Сумма;Валюта;Назначение платежа"
TAXPAYER = "7707083893"


def files(folder: Path, rows: list[str], invoices: list[list[Any]]) -> dict[str, str]:
    statement = folder / "s.csv"
    statement.write_bytes("\r\n".join(["Выписка", HEADER, *rows, "Итого"]).encode("cp1251"))
    book = Workbook()
    book.worksheets[0].append(["Номер счёта", "Дата", "Контрагент", "ИНН", "Сумма, руб.", "Оплатить до", "Статус"])
    for invoice in invoices:
        book.worksheets[0].append(invoice)
    book.save(folder / "r.xlsx")
    return {"statement": str(statement), "register": str(folder / "r.xlsx"), "report": str(folder / "out.xlsx")}


def payment(amount: str, purpose: str, *, document: int = 1, payer: str = "ООО Ель") -> str:
    return f"01.10.2026;{document};{payer};{TAXPAYER};4070;{amount};RUR;{purpose}"


def bill(number: int, amount: Any, status: str = "Выставлен") -> list[Any]:
    return [f"В-2026-{number:04}", "01.10.2026", "ООО Ель", TAXPAYER, amount, None, status]


def reasons(folder: Path, sheet: str) -> list[str]:
    return [str(row[-1].value) for row in load_workbook(folder / "out.xlsx")[sheet].iter_rows(min_row=2)]


def test_an_invoice_that_was_paid_in_full_takes_no_second_payment(tmp_path: Path) -> None:
    rows = [payment("100,00", "В-2026-0001"), payment("100,00", "В-2026-0001", document=2)]
    result = call(tmp_path, **files(tmp_path, rows, [bill(1, 100)]))
    assert result["matched"]["payments"] == {"count": 1, "sum": "100.00"}
    assert reasons(tmp_path, "Платежи без счёта") == ["invoice В-2026-0001 was paid in full by line 3"]


def test_a_payment_that_names_no_invoice_is_not_guessed_when_two_would_fit(tmp_path: Path) -> None:
    result = call(tmp_path, **files(tmp_path, [payment("100,00", "по договору")], [bill(1, 100), bill(2, 100)]))
    assert result["unmatched"]["payments"] == {"count": 1, "sum": "100.00"}


def test_a_purpose_that_looks_like_a_formula_stays_text_in_the_report(tmp_path: Path) -> None:
    call(tmp_path, **files(tmp_path, [payment("100,00", "=HYPERLINK(1)", payer="=1+1")], []))
    cells = next(load_workbook(tmp_path / "out.xlsx")["Платежи без счёта"].iter_rows(min_row=2))
    assert [(c.value, c.data_type) for c in cells if str(c.value).startswith("=")] == [
        ("=1+1", "s"),
        ("=HYPERLINK(1)", "s"),
    ]


def test_money_is_exact_where_floats_are_not(tmp_path: Path) -> None:
    rows = [payment("0,10", "В-2026-0001"), payment("0,20", "В-2026-0001", document=2)]
    result = call(tmp_path, **files(tmp_path, rows, [bill(1, 0.3)]))
    assert result["matched"]["invoices"] == {"count": 1, "sum": "0.30"}


@pytest.mark.parametrize(("broken", "said"), [("statement", "there is no line"), ("register", "is no XLSX workbook")])
def test_a_file_that_is_something_else_is_refused_as_a_whole(tmp_path: Path, broken: str, said: str) -> None:
    given = files(tmp_path, [], [])
    Path(given[broken]).write_bytes(b"something else")
    with pytest.raises(AssertionError, match=said):
        call(tmp_path, **given)
