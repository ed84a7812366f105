"""Files of results as records: CSV, JSON, JSON Lines, Excel, Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from bandit_router.errors import InvalidInput, InvalidLog
from bandit_router.reading import delimited
from bandit_router.reading.cells import decimal_sign
from bandit_router.reading.columnar import readable
from bandit_router.reading.files import read_bytes, read_text

Record = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """One file as it stands.

    Attributes:
        path: of it. records: its rows, nested objects as "outer.inner" too.
        lines: where each record stands; empty where records are only counted.
        document: the whole of a JSON file that is one object, else None.
        decimals: the sign before the decimals, by column; "." where it is not said.
    """

    path: Path
    records: list[Record]
    lines: Sequence[int] = ()
    document: dict[str, Any] | None = None
    decimals: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order of first appearance."""
        return list(dict.fromkeys(name for record in self.records for name in record))


def read_source(path: Path) -> Source:
    """Read one file by its ending, ".gz" and ".zst" aside; other text by what it begins with.

    Raises:
        InvalidInput: the file is missing or cannot be read. ImportError: Excel without the extra `excel`.
    """
    kind = Path(path.stem if path.suffix in (".gz", ".zst") else path.name).suffix.lower()
    if kind in (".pkl", ".pickle"):
        raise InvalidInput(
            f"{path}: a pickle can run code and is not read; write it with pandas.read_pickle(...).to_parquet(...)"
        )
    if kind == ".eval":
        raise InvalidInput(
            f"{path}: a log of Inspect in its own form; write it as JSON: inspect log convert {path} --to json "
            "--output-dir DIR"
        )
    try:
        if kind in (".xlsx", ".xls", ".xlsb", ".ods"):
            return _sheet(path)
        if kind == ".parquet":
            return _parquet(path)
        text, _ = read_text(path)
    except (OSError, InvalidLog) as error:
        raise InvalidInput(f"cannot read {path}: {error}") from None
    if kind in (".json", ".jsonl", ".ndjson") or text.lstrip()[:1] in ("{", "["):
        return _json(path, text)
    return _csv(path, text)


def _csv(path: Path, text: str) -> Source:
    names: list[str] = []
    records, lines = [], []
    for line, cells in delimited.rows(text):
        if isinstance(cells, str):
            raise InvalidInput(f"{path}, row {line} is no CSV: {cells}")
        if not names:
            names = [name.strip() for name in cells]
            _distinct(path, names)
        elif len(cells) != len(names):
            raise InvalidInput(f"{path}, row {line}: {len(cells)} cells under {len(names)} columns")
        else:
            records.append(dict(zip(names, cells, strict=True)))
            lines.append(line)
    if not names:
        raise InvalidInput(f"{path} is empty")
    return Source(path, records, lines, decimals=_decimals(text, names, records))


def _decimals(text: str, names: list[str], records: list[Record]) -> dict[str, str]:
    """The sign before the decimals of each column: what it proves; else a comma where no comma separates cells."""
    usual = "." if delimited.separator_of(text) == "," else ","
    columns = {name: [record[name] for record in records] for name in names}
    return {
        name: decimal_sign(cells) or (usual if any("," in cell for cell in cells) else ".")
        for name, cells in columns.items()
    }


def _distinct(path: Path, names: list[str]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InvalidInput(f"{path} has the column {twice[0]!r} twice; rename one")


def _json(path: Path, text: str) -> Source:
    try:
        whole = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        found = _lines(path, text)
        return Source(path, [flat(record) for record in found.values()], list(found))
    if isinstance(whole, dict):
        return Source(path, [flat(whole)], document=whole)
    if isinstance(whole, list) and all(isinstance(record, dict) for record in whole):
        return Source(path, [flat(record) for record in whole])
    raise InvalidInput(f"{path}: expected JSON objects, got {type(whole).__name__}")


def _lines(path: Path, text: str) -> dict[int, dict[str, Any]]:
    """The records of JSON Lines by their line."""
    records = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                records[number] = msgspec.json.decode(line, type=dict[str, Any])
            except (msgspec.DecodeError, msgspec.ValidationError, UnicodeEncodeError) as error:
                raise InvalidInput(f"{path}, row {number} is no JSON object: {error}") from None
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

    with readable(path):
        return Source(path, pl.read_parquet(read_bytes(path)).to_dicts())


def _sheet(path: Path) -> Source:
    try:
        import fastexcel
    except ImportError:
        raise ImportError("Excel needs the extra 'excel': pip install 'bandit-router[excel]'; or save as CSV") from None
    try:
        cells = fastexcel.read_excel(read_bytes(path)).load_sheet(0, dtypes="string").to_polars()
        return Source(path, cells.to_dicts(), range(2, len(cells) + 2))
    except fastexcel.FastExcelError as error:
        raise InvalidInput(f"{path} is no Excel file: {str(error).splitlines()[0]}") from None
