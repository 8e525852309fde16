"""Files of items: CSV, XLSX and JSON lines become rows, each with its place in the file or what is wrong with it.

Files are untrusted: a workbook is opened only when what it unpacks to is bounded, and everything else is a stream.
"""

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import PurePath
from typing import Any, BinaryIO, Final

from pydantic import ValidationError

from kuberpa.queueing import AddItem

FORMATS: Final = {".csv": "csv", ".tsv": "csv", ".xlsx": "xlsx", ".jsonl": "jsonl", ".ndjson": "jsonl"}
ITEM_FIELDS: Final = ("payload", "reference", "priority", "deadline", "deferUntil")
_TRUE: Final = frozenset({"true", "yes", "1"})
_FALSE: Final = frozenset({"false", "no", "0"})
_MAX_FIELD: Final = 4 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 256 * 1024 * 1024
"""What a workbook may unpack to by default."""


class FileError(ValueError):
    """The file as a whole cannot be read; the message has no name of it."""

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option
        """What of a Reading would help: format or encoding."""


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


def form_of(name: str, how: Reading) -> str:
    """csv, xlsx or jsonl. Raises FileError."""
    form = how.form or FORMATS.get(PurePath(name).suffix.lower(), "")
    if not form:
        raise FileError(f"must have a name that ends in {', '.join(FORMATS)}", "format")
    if how.whole and form != "jsonl":
        raise FileError("only JSON lines can be whole items")
    return form


def read(
    form: str, file: BinaryIO, how: Reading, schema: Mapping[str, Any] | None, unpacked: int = MAX_UNPACKED_BYTES
) -> Iterator[Row]:
    """The rows of a file. `schema`: the queue's, whose types cells of text are turned into. Raises FileError."""
    try:
        source = _xlsx(file, how, unpacked) if form == "xlsx" else {"csv": _csv, "jsonl": _jsonl}[form](file, how)
        for line, payload, error in source:
            yield Row(line, error=error) if error else _row(line, payload, how, schema or {})
    except (UnicodeError, LookupError) as error:
        raise FileError(f"cannot be read as {how.encoding}: {error}", "encoding") from None
    except (OSError, csv.Error) as error:
        raise FileError(str(error)) from None


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


def _csv(file: BinaryIO, how: Reading) -> Iterator[tuple[int, dict[str, Any], str]]:
    csv.field_size_limit(_MAX_FIELD)
    text = io.TextIOWrapper(file, how.encoding, newline="")
    try:
        header = text.readline()
        delimiter = max(";,\t|", key=header.count) if header.strip() else ","
        names = next(csv.reader([header], delimiter=delimiter), [])
        _check_names(names)
        reader = csv.reader(text, delimiter=delimiter)
        for cells in reader:
            line = reader.line_num + 1
            if not any(cells):
                continue
            extra = len(cells) > len(names)
            error = f"has {len(cells)} cells, and the header {len(names)}" if extra else ""
            yield line, {n: cell for n, cell in zip(names, cells, strict=False) if cell}, error
    finally:
        text.detach()


def _xlsx(file: BinaryIO, how: Reading, unpacked: int) -> Iterator[tuple[int, dict[str, Any], str]]:
    from openpyxl import load_workbook  # noqa: PLC0415  slow to import, and rarely needed
    from openpyxl.utils.exceptions import InvalidFileException  # noqa: PLC0415  as above

    try:
        # what the directory of the archive says is all that is ever unpacked of a part
        size = sum(part.file_size for part in zipfile.ZipFile(file).infolist())
        book = load_workbook(file, read_only=True, data_only=True) if size <= unpacked else None
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, SyntaxError) as error:
        raise FileError(f"is no workbook (.xlsx): {error}") from None
    if book is None:
        raise FileError(f"unpacks to {size:,} bytes; at most {unpacked:,} are read")
    try:
        if how.sheet and how.sheet not in book.sheetnames:
            raise FileError(f"there is no sheet {how.sheet!r}; it has {', '.join(book.sheetnames)}")
        rows = book[how.sheet or book.sheetnames[0]].iter_rows(values_only=True)
        names = ["" if name is None else str(name).strip() for name in next(rows, ())]
        while names and not names[-1]:
            names.pop()
        _check_names(names)
        for line, cells in enumerate(rows, start=2):
            if any(cell is not None for cell in cells):
                yield line, {n: _plain(c) for n, c in zip(names, cells, strict=False) if c is not None}, ""
    finally:
        book.close()


def _check_names(names: list[str]) -> None:
    if not names or not all(names):
        raise FileError("the first row must name every column")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise FileError(f"the first row names {', '.join(twice)} twice")


def _plain(cell: Any) -> Any:
    """A cell as JSON has it; whole numbers that a spreadsheet keeps as 12.0 are 12."""
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    return cell


def _jsonl(file: BinaryIO, how: Reading) -> Iterator[tuple[int, dict[str, Any], str]]:
    lines = io.TextIOWrapper(file, how.encoding)
    try:
        for line, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                body = json.loads(text)
            except (ValueError, RecursionError) as error:
                yield line, {}, f"is not JSON: {error}"
                continue
            yield line, body if isinstance(body, dict) else {}, "" if isinstance(body, dict) else "must be an object"
    finally:
        lines.detach()
