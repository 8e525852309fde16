"""Files of items: CSV, XLSX and JSON lines become rows, each with its place in the file or what is wrong with it."""

import csv
import json
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from kuberpa.queueing import AddItem
from kuberpa_cli.work.exits import UsageError

FORMATS: Final = {".csv": "csv", ".tsv": "csv", ".xlsx": "xlsx", ".jsonl": "jsonl", ".ndjson": "jsonl"}
STDIN: Final = "-"
ITEM_FIELDS: Final = ("payload", "reference", "priority", "deadline", "deferUntil")
_TRUE: Final = frozenset({"true", "yes", "1"})
_FALSE: Final = frozenset({"false", "no", "0"})
_MAX_FIELD: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the item to add, or why it is none. `line` counts from 1 as editors and spreadsheets do."""

    line: int
    item: dict[str, Any] | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is read."""

    form: str = ""
    """csv, xlsx or jsonl; by the file's name when empty."""
    encoding: str = "utf-8-sig"
    sheet: str = ""
    reference: str = ""
    """Column, or field of a JSON line, that becomes the reference; it stays in the payload too."""
    priority: str = ""
    deadline: str = ""
    whole: bool = False
    """JSON lines are items ({payload, reference, …}), as export writes them, and not payloads."""


def read(path: str, how: Reading, schema: Mapping[str, Any] | None) -> Iterator[Row]:
    """The rows of a file. `schema`: the queue's, whose types cells of text are turned into. Raises UsageError."""
    form = how.form or FORMATS.get(Path(path).suffix.lower(), "")
    if not form:
        known = ", ".join(FORMATS)
        raise UsageError(f"{path}: say --format csv, xlsx or jsonl, or use a name that ends in {known}")
    if how.whole and form != "jsonl":
        raise UsageError("--items: only JSON lines can be whole items")
    if path != STDIN and not Path(path).is_file():
        raise UsageError(f"There is no file {path}")
    try:
        source = {"csv": _csv, "xlsx": _xlsx, "jsonl": _jsonl}[form](path, how)
        for line, payload, error in source:
            yield Row(line, error=error) if error else _row(line, payload, how, schema or {})
    except (UnicodeError, LookupError) as error:
        raise UsageError(f"{path}: cannot be read as {how.encoding}: {error}; say --encoding") from None
    except (OSError, csv.Error) as error:
        raise UsageError(f"{path}: {error}") from None


def _row(line: int, payload: dict[str, Any], how: Reading, schema: Mapping[str, Any]) -> Row:
    if how.whole:
        item: dict[str, Any] = {key: payload[key] for key in ITEM_FIELDS if key in payload}
    else:
        item = {"payload": {key: _cast(value, schema, key) for key, value in payload.items()}}
        for field, column in (("reference", how.reference), ("priority", how.priority), ("deadline", how.deadline)):
            if not column:
                continue
            if column not in payload:
                return Row(line, error=f"{column}: has no value, and is the {field}")
            item[field] = payload[column] if field == "priority" else str(payload[column])
    try:
        AddItem.model_validate(item)
    except ValidationError as error:
        return Row(line, error=complaint(error))
    return Row(line, item)


def complaint(error: ValidationError) -> str:
    """What is wrong, by field, in one line."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'row'}: {each['msg']}" for each in found[:5])


def _cast(value: Any, schema: Mapping[str, Any], key: str) -> Any:  # noqa: PLR0911  one a type
    """Text of a cell as the type that the queue's schema wants; what does not fit stays text and is refused later."""
    if not isinstance(value, str):
        return value
    properties = schema.get("properties")
    wanted = (properties.get(key) or {}).get("type") if isinstance(properties, Mapping) else None
    try:
        match wanted:
            case "integer":
                return int(value)
            case "number":
                return float(value.replace(",", ".") if "." not in value else value)
            case "boolean":
                low = value.strip().lower()
                return True if low in _TRUE else False if low in _FALSE else value
            case "object" | "array":
                return json.loads(value)
    except ValueError:
        return value
    return value


def _csv(path: str, how: Reading) -> Iterator[tuple[int, dict[str, Any], str]]:
    csv.field_size_limit(_MAX_FIELD)
    with ExitStack() as stack:
        file = sys.stdin if path == STDIN else stack.enter_context(Path(path).open(encoding=how.encoding, newline=""))
        header = file.readline()
        delimiter = max(";,\t|", key=header.count) if header.strip() else ","
        names = next(csv.reader([header], delimiter=delimiter), [])
        _check_names(path, names)
        reader = csv.reader(file, delimiter=delimiter)
        for cells in reader:
            line = reader.line_num + 1
            if not any(cells):
                continue
            extra = len(cells) > len(names)
            error = f"has {len(cells)} cells, and the header {len(names)}" if extra else ""
            yield line, {n: cell for n, cell in zip(names, cells, strict=False) if cell}, error


def _xlsx(path: str, how: Reading) -> Iterator[tuple[int, dict[str, Any], str]]:
    from openpyxl import load_workbook  # noqa: PLC0415  slow to import, and rarely needed
    from openpyxl.utils.exceptions import InvalidFileException  # noqa: PLC0415  as above

    if path == STDIN:
        raise UsageError("A workbook cannot be read from stdin: name the file")
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise UsageError(f"{path}: is no workbook (.xlsx): {error}") from None
    try:
        if how.sheet and how.sheet not in book.sheetnames:
            raise UsageError(f"{path}: there is no sheet {how.sheet!r}; it has {', '.join(book.sheetnames)}")
        rows = book[how.sheet or book.sheetnames[0]].iter_rows(values_only=True)
        names = ["" if name is None else str(name).strip() for name in next(rows, ())]
        while names and not names[-1]:
            names.pop()
        _check_names(path, names)
        for line, cells in enumerate(rows, start=2):
            if any(cell is not None for cell in cells):
                yield line, {n: _plain(c) for n, c in zip(names, cells, strict=False) if c is not None}, ""
    finally:
        book.close()


def _check_names(path: str, names: list[str]) -> None:
    if not names or not all(names):
        raise UsageError(f"{path}: the first row must name every column")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{path}: the first row names {', '.join(twice)} twice")


def _plain(cell: Any) -> Any:
    """A cell as JSON has it; whole numbers that a spreadsheet keeps as 12.0 are 12."""
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    return cell


def _jsonl(path: str, how: Reading) -> Iterator[tuple[int, dict[str, Any], str]]:
    with ExitStack() as stack:
        file = sys.stdin if path == STDIN else stack.enter_context(Path(path).open(encoding=how.encoding))
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                body = json.loads(text)
            except (ValueError, RecursionError) as error:
                yield line, {}, f"is not JSON: {error}"
                continue
            yield line, body if isinstance(body, dict) else {}, "" if isinstance(body, dict) else "must be an object"
