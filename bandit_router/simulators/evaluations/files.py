"""Files of results as records: CSV, JSON, JSON Lines, Excel, Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bandit_router.errors import InvalidInput

Record = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """One file as it stands.

    Attributes:
        path: of it. records: its rows, nested objects as "outer.inner" too. first_line: of the first record.
        document: the whole of a JSON file that is one object, else None.
        decimal_comma: whether numbers are written as 0,5.
    """

    path: Path
    records: list[Record]
    first_line: int = 1
    document: dict[str, Any] | None = None
    decimal_comma: bool = False

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order of first appearance."""
        return list(dict.fromkeys(name for record in self.records for name in record))


def read_source(path: Path) -> Source:
    """Read one file by its ending.

    Raises:
        InvalidInput: the file is missing or cannot be read. ImportError: Excel without the extra `excel`.
    """
    try:
        if path.suffix.lower() in (".xlsx", ".xls", ".xlsb", ".ods"):
            return _sheet(path)
        if path.suffix.lower() == ".parquet":
            return _parquet(path)
        if path.suffix.lower() in (".pkl", ".pickle"):
            raise InvalidInput(
                f"{path}: a pickle can run code and is not read; write it with pandas.read_pickle(...).to_parquet(...)"
            )
        text = _text(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {path}: {error}") from None
    if path.suffix.lower() in (".json", ".jsonl", ".ndjson") or text.lstrip()[:1] in ("{", "["):
        return _json(path, text)
    return _csv(path, text)


def _text(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")


def _csv(path: Path, text: str) -> Source:
    header = text.split("\n", 1)[0]
    separator = max(",;\t", key=header.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True) if row]
    except csv.Error as error:
        raise InvalidInput(f"{path} is no CSV: {error}") from None
    if not rows:
        raise InvalidInput(f"{path} is empty")
    names = [name.strip() for name in rows[0]]
    _distinct(path, names)
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(names):
            raise InvalidInput(f"{path}, row {number}: {len(row)} cells under {len(names)} columns")
    records = [dict(zip(names, row, strict=True)) for row in rows[1:]]
    return Source(path, records, first_line=2, decimal_comma=separator != ",")


def _distinct(path: Path, names: list[str]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InvalidInput(f"{path} has the column {twice[0]!r} twice; rename one")


def _json(path: Path, text: str) -> Source:
    try:
        whole = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return Source(path, [flat(record) for record in _lines(path, text)])
    if isinstance(whole, dict):
        return Source(path, [flat(whole)], document=whole)
    if isinstance(whole, list) and all(isinstance(record, dict) for record in whole):
        return Source(path, [flat(record) for record in whole])
    raise InvalidInput(f"{path}: expected JSON objects, got {type(whole).__name__}")


def _lines(path: Path, text: str) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                records.append(msgspec.json.decode(line, type=dict[str, Any]))
            except (msgspec.DecodeError, msgspec.ValidationError) as error:
                raise InvalidInput(f"{path}, line {number} is no JSON object: {error}") from None
    return records


def flat(record: Mapping[str, Any], before: str = "") -> Record:
    """The record with the fields of nested objects beside the objects themselves."""
    fields: Record = {}
    for name, value in record.items():
        fields[before + name] = value
        if isinstance(value, dict):
            fields |= flat(value, f"{before}{name}.")
    return fields


def _parquet(path: Path) -> Source:
    import polars as pl

    try:
        return Source(path, pl.read_parquet(path).to_dicts())
    except pl.exceptions.PolarsError as error:
        raise InvalidInput(f"{path} is no Parquet file: {str(error).splitlines()[0]}") from None


def _sheet(path: Path) -> Source:
    try:
        import fastexcel
    except ImportError:
        raise ImportError("Excel needs the extra 'excel': pip install 'bandit-router[excel]'; or save as CSV") from None
    if not path.exists():
        raise InvalidInput(f"cannot read {path}: no such file")
    try:
        cells = fastexcel.read_excel(path).load_sheet(0, dtypes="string").to_polars()
        return Source(path, cells.to_dicts(), first_line=2)
    except fastexcel.FastExcelError as error:
        raise InvalidInput(f"{path} is no Excel file: {str(error).splitlines()[0]}") from None
