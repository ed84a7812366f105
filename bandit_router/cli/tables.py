"""Tables for people: no number is ever cut."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from bandit_router.cli.common import plain


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "") -> None:
    """A table of names with their numbers; on a narrow terminal, a paragraph for each name.

    Args:
        columns: headings, that of the names first; their line breaks keep the columns narrow.
        rows: a name and its numbers; missing ones at the end stay empty. An empty row draws a line.
    """
    from rich.console import Console
    from rich.table import Table

    rows = [[plain(cell) for cell in row] for row in rows]
    console = Console()
    table = Table(title=title, caption=caption or None)
    table.add_column(columns[0])
    for i, column in enumerate(columns[1:], start=1):
        cells = [*column.splitlines(), *(row[i] for row in rows if len(row) > i)]
        table.add_column(column, justify="right", no_wrap=True, min_width=max(map(len, cells)))
    for row in rows:
        table.add_row(*row) if row else table.add_section()
    needed = console.measure(table, options=console.options.update(width=1000)).minimum
    if needed <= console.width:
        console.print(table)
        return
    for line in (title, *_paragraphs([" ".join(column.split()) for column in columns], rows)):
        typer.echo(line)
    if caption:
        typer.echo(f"\n{caption}")


def _paragraphs(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    width = max(map(len, columns[1:]))
    lines = []
    for name, *cells in filter(None, rows):
        lines += ["", f"{columns[0]}: {name.strip()}"]
        lines += [f"  {column:<{width}} {cell}" for column, cell in zip(columns[1:], cells, strict=False)]
    return lines
