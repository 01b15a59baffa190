"""CSV files that people make with spreadsheets: read with line numbers in every complaint, written so that no cell is a
formula."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from orchestrator.errors import InvalidInput

MAX_BYTES = 16 * 2**20
FORMULAS = ("=", "@", "+", "-", "\t", "\r", "\n", "\uff1d", "\uff20", "\uff0b", "\uff0d")
"""What spreadsheets take for the beginning of a formula; the last four, as wide as CJK characters, in some places."""


def read_text(path: Path) -> str:
    """A file's text, UTF-8 with or without a mark. Raises InvalidInput with the line that is none."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{path}: the file is larger than {MAX_BYTES} bytes.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{path}, line {line}: this is not UTF-8; save the file as UTF-8.") from None


def columns_of(text: str) -> list[str]:
    """The names in the first line, in lower case."""
    return [cell.strip().lower() for cell in next(_reader(text), [])]


def _reader(text: str) -> Any:
    first = text.split("\n", 1)[0]
    separator = ";" if first.count(";") > first.count(",") else ","
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)


def rows_of(
    text: str, name: str, required: Iterable[str], known: Iterable[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, cells by column) of each row that is not empty. Columns separated by commas or semicolons.

    Raises InvalidInput for columns that are missing, unknown or double, and rows that do not fit.
    """
    reader = _reader(text)
    try:
        columns = [cell.strip().lower() for cell in next(reader, [])]
        _check_columns(columns, name, list(required), list(known))
        end = reader.line_num
        for cells in reader:
            line, end = end + 1, reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                raise InvalidInput(
                    f"{name}, line {line}: it has {len(cells)} cells, and the first line has {len(columns)}."
                )
            yield line, {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}
    except csv.Error as error:
        raise InvalidInput(f"{name}, line {reader.line_num}: this is not CSV: {error}.") from None


def _check_columns(columns: list[str], name: str, required: list[str], known: list[str]) -> None:
    for column in required:
        if column not in columns:
            raise InvalidInput(
                f"{name}, line 1: the column {column!r} is missing; there are {', '.join(columns) or 'none'}."
            )
    for column in columns:
        if columns.count(column) > 1:
            raise InvalidInput(f"{name}, line 1: the column {column!r} is there twice.")
        if column not in known:
            raise InvalidInput(f"{name}, line 1: {column!r} is not a column; known are {', '.join(known)}.")


def finite(text: str) -> float:
    """Raises ValueError for what is no number, or none that JSON has."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def table(columns: list[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """CSV, line by line. A cell that a spreadsheet would take for a formula gets an apostrophe before it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)  # whatever a spreadsheet takes for the separator
    for row in itertools.chain([columns], rows):
        writer.writerow([_harmless(cell) for cell in row])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULAS) else cell
