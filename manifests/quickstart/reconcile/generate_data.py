"""Makes the month that comes with the sample: `python generate_data.py [FOLDER]`. The same seed gives the same bytes.

Companies, people, accounts and numbers are invented; the shapes are those of real exports: lines about the account
above the header, no-break spaces between thousands, quotes in names, Latin letters for Cyrillic ones, pasted texts.
"""

import csv
import io
import random
import re
import sys
import zipfile
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from openpyxl import Workbook
from openpyxl.styles import Font
from openpyxl.worksheet.worksheet import Worksheet

SEED = 20261031
MODIFIED = re.compile(rb"(<dcterms:modified[^>]*>)[^<]*")
DATA = Path(__file__).parent / "src" / "kuberpa_sample_reconcile" / "data"
MONTH = date(2026, 10, 1)
INVOICES = 318
CANCELLED = 6
UNPAID = 21
PARTLY = 5
IN_PARTS = 9
BY_AMOUNT = 24
DUPLICATES = 11
PAID_TWICE = 4
TOO_MUCH = 3
WRONG_PAYER = 3
UNKNOWN = 17
REFUNDS = 13

ADJECTIVES = (
    "Северный", "Уральский", "Волжский", "Балтийский", "Сибирский", "Донской", "Невский", "Южный", "Камский",
    "Алтайский", "Енисейский", "Поволжский", "Заречный", "Приморский",
)  # fmt: skip
NOUNS = (
    "хлебозавод", "кирпичный завод", "торговый дом", "химкомбинат", "молокозавод", "ремонтный завод", "склад",
    "автопарк", "издательский дом", "мебельный комбинат", "карьер", "лесхоз",
)  # fmt: skip
BRANDS = (
    "Вектор-Снаб", "Ромашка", "ТехноЛайн", "Альфа-Строй", "Меридиан", "Ёлочка", "СтройГрад", "Логистик+", "Аквамарин",
    "Печатный двор", "Кедр", "Сталь и К°", "Гранит", "Полюс", "Медтехника", "Светоч", "Интер-Агро", "Новый дом",
)  # fmt: skip
PEOPLE = (
    "Щербакова Наталья Юрьевна", "Королёв Пётр Ильич", "Ахметзянов Рустам Фаридович", "Цой Елена Викторовна",
    "Мамедов Эльчин Тофикович", "Подъячев Семён Аркадьевич", "Объедкова Жанна Львовна",
)  # fmt: skip
GOODS = ("за канцтовары", "за бумагу", "за обслуживание оргтехники", "за картриджи", "за мебель", "за услуги доставки")


@dataclass(frozen=True)
class Company:
    """A counterparty."""

    name: str
    taxpayer: str
    account: str


@dataclass(frozen=True)
class Invoice:
    """A line of the register."""

    number: int
    day: date
    company: Company
    amount: Decimal
    status: str = "Выставлен"

    @property
    def name(self) -> str:
        """As the register spells it."""
        return f"В-{self.day.year}-{self.number:04}"


@dataclass(frozen=True)
class Row:
    """A line of the statement."""

    day: date
    document: int
    company: Company
    amount: Decimal
    purpose: str


def taxpayer_number(rng: random.Random, length: int) -> str:
    """A number with right check digits, in a region that no tax office has."""
    digits = [0, 0] + [rng.randrange(10) for _ in range(length - (3 if length == 10 else 4))]
    weights = {
        10: ((2, 4, 10, 3, 5, 9, 4, 6, 8),),
        12: ((7, 2, 4, 10, 3, 5, 9, 4, 6, 8), (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)),
    }
    for row in weights[length]:
        digits.append(sum(weight * digit for weight, digit in zip(row, digits, strict=True)) % 11 % 10)
    return "".join(map(str, digits))


def companies(rng: random.Random) -> list[Company]:
    """Counterparties with numbers and accounts of their own."""
    names = [f'ООО "{brand}"' for brand in BRANDS]
    names += [f'АО "{rng.choice(ADJECTIVES)} {noun}"' for noun in NOUNS]
    names += [f'ГБУ "{adjective} центр занятости"' for adjective in ADJECTIVES[:4]]
    names += [f"ИП {person}" for person in PEOPLE]
    return [
        Company(
            name,
            taxpayer_number(rng, 12 if name.startswith("ИП") else 10),
            f"40702810{rng.randrange(10**11, 10**12):012}",
        )
        for name in names
    ]


def price(rng: random.Random) -> Decimal:
    """From some hundred roubles to some hundred thousand, mostly with kopecks."""
    value = Decimal(round(min(rng.lognormvariate(9.6, 1.1), 900_000) * 100)) / 100
    return value.quantize(Decimal("1.00")) if rng.random() < 0.3 else value.quantize(Decimal("0.01"))


def register(rng: random.Random, known: list[Company]) -> list[Invoice]:
    """The month's invoices, all amounts of one payer different."""
    taken: set[tuple[str, Decimal]] = set()
    invoices = []
    for index in range(INVOICES):
        company = rng.choice(known)
        amount = price(rng)
        while (company.taxpayer, amount) in taken:
            amount += Decimal("10.00")
        taken.add((company.taxpayer, amount))
        day = MONTH - timedelta(days=20) + timedelta(days=index * 45 // INVOICES)
        invoices.append(Invoice(700 + index, day, company, amount))
    return invoices


def spelled(rng: random.Random, invoice: Invoice) -> str:
    """The number as payers write it."""
    letter = rng.choice(("В", "В", "В", "B", "в"))
    first, second = rng.choice((("-", "-"), ("-", "-"), ("-", "-"), ("/", "/"), (" - ", "-"), ("-", "/")))
    return f"{letter}{first}{invoice.day.year}{second}{invoice.number:04}"


def purpose(rng: random.Random, invoice: Invoice) -> str:
    """The text of a payment that names its invoice."""
    start = rng.choice(("Оплата по счёту №", "Оплата по счету N", "Опл. сч. №", "оплата счета", "Счёт"))
    tax = "НДС не облагается" if invoice.company.name.startswith("ИП") else "в т.ч. НДС 20%"
    return f"{start} {spelled(rng, invoice)} от {invoice.day:%d.%m.%Y} {rng.choice(GOODS)}, {tax}"


class Month:
    """The statement as it grows."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.rows: list[Row] = []

    def add(self, company: Company, amount: Decimal, text: str, after: date = MONTH) -> Row:
        """An operation on a working day of the month, not before `after`."""
        first = max(after, MONTH)
        day = first + timedelta(days=self.rng.randrange((MONTH + timedelta(days=30) - first).days + 1))
        while day.weekday() > 4:
            day = day - timedelta(days=1) if day.day > 27 else day + timedelta(days=1)
        row = Row(day, self.rng.randrange(1, 9999), company, amount, text)
        self.rows.append(row)
        return row


def statement(rng: random.Random, invoices: list[Invoice], known: list[Company]) -> tuple[list[Row], list[Invoice]]:
    """Payments for the register, and what life adds to them; the register with what became of it."""
    month = Month(rng)
    order = invoices.copy()
    rng.shuffle(order)
    cancelled, unpaid, partly, in_parts, by_amount, plain = _split(
        order, CANCELLED, UNPAID, PARTLY, IN_PARTS, BY_AMOUNT
    )
    _pay(month, plain, by_amount, in_parts, partly)
    _err(month, plain, cancelled, unpaid, known)
    _stray(month, plain, known)
    rows = sorted(month.rows, key=lambda row: (row.day, row.document, row.company.taxpayer))
    for row in rng.sample([row for row in rows if row.amount > 0], DUPLICATES):
        rows.insert(rows.index(row) + rng.randrange(1, 4), row)
    annulled = {invoice.number for invoice in cancelled}
    return rows, [replace(i, status="Аннулирован") if i.number in annulled else i for i in invoices]


def _pay(
    month: Month, plain: list[Invoice], by_amount: list[Invoice], in_parts: list[Invoice], partly: list[Invoice]
) -> None:
    """What can be matched."""
    rng = month.rng
    for invoice in plain:
        month.add(invoice.company, invoice.amount, purpose(rng, invoice), invoice.day)
    for invoice in by_amount:
        month.add(invoice.company, invoice.amount, f"Оплата {rng.choice(GOODS)} по договору", invoice.day)
    for invoice in in_parts:
        first = (invoice.amount * 2 / 5).quantize(Decimal("0.01"))
        for part, amount in (("аванс", first), ("остаток", invoice.amount - first)):
            month.add(invoice.company, amount, f"{purpose(rng, invoice)}, {part}", invoice.day)
    for invoice in partly:
        month.add(invoice.company, (invoice.amount / 2).quantize(Decimal("0.01")), purpose(rng, invoice), invoice.day)


def _err(
    month: Month, plain: list[Invoice], cancelled: list[Invoice], unpaid: list[Invoice], known: list[Company]
) -> None:
    """Payments that name an invoice and do not pay it."""
    rng = month.rng
    for invoice in cancelled[:3]:
        month.add(invoice.company, invoice.amount, purpose(rng, invoice), invoice.day)
    for invoice in unpaid[:WRONG_PAYER]:
        other = next(company for company in known if company != invoice.company)
        month.add(other, invoice.amount, purpose(rng, invoice), invoice.day)
    for invoice in unpaid[WRONG_PAYER : WRONG_PAYER + TOO_MUCH]:
        month.add(invoice.company, invoice.amount + 100, purpose(rng, invoice), invoice.day)
    for invoice in plain[:PAID_TWICE]:
        month.add(invoice.company, invoice.amount, f"{purpose(rng, invoice)} (повторно)", invoice.day)


def _stray(month: Month, plain: list[Invoice], known: list[Company]) -> None:
    """Money for nothing on the register, and money that went back."""
    rng = month.rng
    texts = ("Пополнение счёта", "Проценты по остатку", "Оплата по договору поставки", "Оплата сч. В-2025-0101")
    for index in range(UNKNOWN):
        month.add(rng.choice(known), Decimal(rng.randrange(10, 90)) / 100 + 7, texts[index % len(texts)])
    for index, invoice in enumerate(rng.sample(plain, REFUNDS)):
        text = (
            f"Возврат по счёту {spelled(rng, invoice)}" if index % 3 else "Возврат излишне уплаченного по акту сверки"
        )
        month.add(invoice.company, -(invoice.amount / 4).quantize(Decimal("0.01")), text, invoice.day)


def _split(items: list[Invoice], *sizes: int) -> list[list[Invoice]]:
    parts, at = [], 0
    for size in sizes:
        parts.append(items[at : at + size])
        at += size
    return [*parts, items[at:]]


def money(rng: random.Random, value: Decimal) -> str:
    """As banks write it."""
    text = f"{value:,.2f}".replace(",", rng.choice(("", " ", "\u00a0"))).replace(".", ",")
    return text if "," in text else f"{text},00"


def csv_bytes(rng: random.Random, rows: list[Row]) -> bytes:
    """The export: lines about the account, header, operations with broken ones among them, footer."""
    lines = [_line(_cells(rng, row)) for row in rows]
    for at, broken in zip(sorted(rng.sample(range(20, len(lines) - 20), 11)), _broken(rng, rows), strict=True):
        lines.insert(at, broken)
    head = [
        "Выписка по счёту;40702810500000004217".encode("cp1251"),
        "Владелец;ООО «Канцелярия-Сервис»".encode("cp1251"),
        f"Период;{MONTH:%d.%m.%Y} - 31.10.2026".encode("cp1251"),
        b"",
        "Дата операции;Номер документа;Контрагент;ИНН;Счёт;Сумма;Валюта;Назначение платежа".encode("cp1251"),
    ]
    foot = [f"Итого;{len(lines)}".encode("cp1251"), "Исходящий остаток;3 418 220,07".encode("cp1251")]
    return b"\r\n".join([*head, *lines, *foot]) + b"\r\n"


def _cells(rng: random.Random, row: Row) -> list[str]:
    company = row.company
    amount = money(rng, row.amount)
    who = [company.name, company.taxpayer, company.account]
    return [f"{row.day:%d.%m.%Y}", str(row.document), *who, amount, "RUR", row.purpose]


def _line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=";", lineterminator="").writerow(cells)
    return text.getvalue().encode("cp1251")


def _broken(rng: random.Random, rows: list[Row]) -> list[bytes]:
    """One row of every kind of damage that exports really have."""
    good = [_cells(rng, row) for row in rng.sample(rows, 11)]

    def with_cell(index: int, column: int, value: str) -> bytes:
        return _line([*good[index][:column], value, *good[index][column + 1 :]])

    return [
        with_cell(0, 0, "31.09.2026"),
        with_cell(1, 0, "2026-10-14"),
        with_cell(2, 5, "1 25O,00"),
        with_cell(3, 5, ""),
        with_cell(4, 5, "12,500.00"),
        with_cell(5, 5, "0,00"),
        with_cell(6, 3, good[6][3][:-1] + str((int(good[6][3][-1]) + 1) % 10)),
        with_cell(7, 6, "USD"),
        _line(good[8][:7]),
        ";".join([*good[9][:2], '"Вектор" ООО', *good[9][3:]]).encode("cp1251"),
        _line(good[10]).replace("Оплата".encode("cp1251"), b"\x98plata", 1) + b"\x98",
    ]


def xlsx_bytes(rng: random.Random, invoices: list[Invoice]) -> bytes:
    """The register: a title above the header, some amounts and dates as pasted text, three rows that are wrong."""
    book = Workbook()
    book.properties.created = datetime(2026, 11, 1, 9, 0)  # noqa: DTZ001  openpyxl's are naive
    sheet = book.worksheets[0]
    sheet.title = "Счета"
    sheet.append(["Реестр выставленных счетов, октябрь 2026"])
    sheet.append([])
    sheet.append(["Номер счёта", "Дата", "Контрагент", "ИНН", "Сумма, руб.", "Оплатить до", "Статус"])
    for cell in (sheet["A1"], *sheet[3]):
        cell.font = Font(bold=True)
    for index, invoice in enumerate(invoices):
        _append(sheet, rng, invoice)
        if index == 57:
            sheet.append([invoice.name, *_rest(rng, invoices[12])])
        if index == 140:
            sheet.append(["В-2026-1901", invoice.day, invoice.company.name, invoice.company.taxpayer, None])
        if index == 233:
            sheet.append(["без номера", *_rest(rng, invoices[40])])
    for column, width in zip("ABCDEFG", (16, 12, 40, 15, 16, 14, 14), strict=True):
        sheet.column_dimensions[column].width = width
    sheet.freeze_panes = "A4"
    raw = io.BytesIO()
    book.save(raw)
    return _timeless(raw.getvalue())


def _append(sheet: Worksheet, rng: random.Random, invoice: Invoice) -> None:
    sheet.append([invoice.name, *_rest(rng, invoice)])
    row = sheet.max_row
    for column in "BF":
        sheet[f"{column}{row}"].number_format = "dd.mm.yyyy"
    sheet[f"E{row}"].number_format = "#,##0.00"


def _rest(rng: random.Random, invoice: Invoice) -> list[object]:
    pasted = rng.random()
    day: object = f"{invoice.day:%d.%m.%Y}" if pasted < 0.04 else datetime.combine(invoice.day, datetime.min.time())
    amount: object = money(rng, invoice.amount) if 0.04 <= pasted < 0.1 else float(invoice.amount)
    due = datetime.combine(invoice.day + timedelta(days=10), datetime.min.time())
    return [day, invoice.company.name, invoice.company.taxpayer, amount, due, invoice.status]


def _timeless(raw: bytes) -> bytes:
    """The same archive without the times at which its members were written."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = MODIFIED.sub(rb"\g<1>2026-11-01T09:00:00Z", source.read(name))
            target.writestr(zipfile.ZipInfo(name, (2026, 11, 1, 9, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def main(folder: Path) -> None:
    """Write both files."""
    rng = random.Random(SEED)  # noqa: S311  a repeatable month, not a secret
    known = companies(rng)
    rows, invoices = statement(rng, register(rng, known), known)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "statement-2026-10.csv").write_bytes(csv_bytes(rng, rows))
    (folder / "invoices-2026-10.xlsx").write_bytes(xlsx_bytes(rng, invoices))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
