"""Files of items as this command names them: by path, or `-` for stdin."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from kuberpa import itemfiles
from kuberpa.itemfiles import FileError, Reading, Row, complaint
from kuberpa_cli.work.exits import UsageError

__all__ = ["STDIN", "Reading", "Row", "complaint", "read"]

STDIN: Final = "-"


def read(path: str, how: Reading, schema: Mapping[str, Any] | None) -> Iterator[Row]:
    """The rows of a file. `schema`: the queue's, whose types cells of text are turned into. Raises UsageError."""
    try:
        form = itemfiles.form_of(path, how)
        if path == STDIN and form == "xlsx":
            raise UsageError("A workbook cannot be read from stdin: name the file")
        if path != STDIN and not Path(path).is_file():
            raise UsageError(f"There is no file {path}")
        with ExitStack() as stack:
            file = sys.stdin.buffer if path == STDIN else stack.enter_context(Path(path).open("rb"))
            yield from itemfiles.read(form, file, how, schema)
    except FileError as error:
        raise UsageError(f"{path}: {error}{f'; say --{error.option}' if error.option else ''}") from None
    except OSError as error:
        raise UsageError(f"{path}: {error}") from None
