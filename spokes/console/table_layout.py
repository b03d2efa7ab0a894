"""How a table fits a terminal: every column whole, or one block of lines for each row.

A word is never divided: ids are copied into other commands.
"""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import cell_len

GAP: Final = 2  # columns between two columns of a table, and around it
_SEPARATOR: Final = "  "


def column_widths(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Return the width of each column of a table that is at most `width` wide.

    Columns of several words share the room that is left when each column holds its longest word.

    Returns:
        None if not every column can hold its longest word.
    """
    cells = list(zip(columns, *rows, strict=True))
    least = [max(cell_len(word) for text in column for word in text.split() or [""]) for column in cells]
    most = [max(cell_len(line) for text in column for line in text.splitlines() or [""]) for column in cells]
    room = width - GAP * (len(columns) + 1)
    if sum(most) <= room:
        return most
    spare = room - sum(least)
    if spare < 0:
        return None
    wanted = sum(most) - sum(least)
    return [low + (high - low) * spare // wanted for low, high in zip(least, most, strict=True)]


def row_lines(columns: Sequence[str], row: Sequence[str], width: int) -> Iterator[str]:
    """Yield the lines of one row as a block: a line for each column, continued below its value.

    A word that is wider than the terminal stays on one line, which the terminal continues.
    """
    label_width = max(map(cell_len, columns))
    value_width = max(width - label_width - len(_SEPARATOR), 1)
    for column, text in zip(columns, row, strict=True):
        label = column + " " * (label_width - cell_len(column))
        for line in text.splitlines() or [""]:
            parts = textwrap.wrap(line, value_width, break_long_words=False, break_on_hyphens=False) or [""]
            for part in parts:
                yield f"{label}{_SEPARATOR}{part}".rstrip()
                label = " " * label_width
