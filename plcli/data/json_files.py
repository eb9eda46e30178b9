"""Reads the values of a JSON file: a list of rows, JSON lines, or a mapping that holds rows."""

import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

from plcli.errors import DataError, listed


def lines(file: IO[str], name: str) -> Iterator[Any]:
    """Yield the value of each line; blank lines are skipped.

    Raises:
        DataError: if a line is not JSON.
    """
    for number, line in enumerate((line for line in file if line.strip()), start=1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{name}, row {number}: is not JSON: {error.msg} "
                f"at character {error.pos + 1}. {_remedy(error)}"
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name}, row {number}: {_limit(error)}") from None


def values(file: IO[str], name: str) -> Iterator[Any]:
    """Yield the rows of a JSON file.

    They are a list, or one value for each line; or in a mapping: under `data`, as SQuAD's
    paragraphs, or as columns, as pandas writes them.

    Raises:
        DataError: if it is not JSON, or has no rows.
    """
    text = file.read()
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        if "Extra data" in error.msg and text.lstrip().startswith("{"):  # a row for each line
            yield from lines(iter(text.splitlines()), name)  # type: ignore[arg-type]  # of lines
            return
        raise DataError(
            f"{name}, line {error.lineno}: is not JSON: {error.msg}. {_remedy(error)}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: {_limit(error)}") from None
    rows = found if isinstance(found, list) else _rows_in(found)
    if rows is None:
        has = f"It has {listed(map(str, found))}. " if isinstance(found, dict) and found else ""
        raise DataError(
            f"{name}: is a {type(found).__name__}, not a list of rows. {has}"
            "Write [{...}, {...}], or name the file .jsonl if each line is a row."
        )
    yield from rows


def _rows_in(found: Any) -> list[Any] | None:
    """Return the rows in a mapping; None if it has none."""
    if not isinstance(found, Mapping):
        return None
    if "classes" in found and isinstance(found.get("annotations"), list):  # spaCy's annotators
        return [row for row in found["annotations"] if row is not None]
    data = found.get("data")
    if isinstance(data, list) and data:
        nested = all(isinstance(row, Mapping) and "paragraphs" in row for row in data)
        return _squad(data) if nested else data
    columns = list(found.values())
    if all(isinstance(column, list) and column for column in columns):
        same_length = len({len(column) for column in columns}) == 1
        cells = zip(*columns, strict=True) if same_length else []
        return [dict(zip(found, row, strict=True)) for row in cells] or None
    if columns and all(isinstance(column, Mapping) for column in columns):
        keys = list(columns[0])
        if all(list(column) == keys for column in columns):
            return [{name: column[key] for name, column in found.items()} for key in keys]
    return None


def _squad(data: list[Any]) -> list[Any]:
    """Return the questions of SQuAD's own files as rows.

    https://rajpurkar.github.io/SQuAD-explorer/
    """
    return [
        {
            "id": question.get("id"),
            "title": article.get("title"),
            "context": paragraph.get("context"),
            "question": question.get("question"),
            "answers": question.get("answers") or [],
            "is_impossible": question.get("is_impossible", False),
        }
        for article in data
        for paragraph in article["paragraphs"]
        for question in paragraph.get("qas", [])
    ]


def _remedy(error: json.JSONDecodeError) -> str:
    if error.doc.lstrip().startswith("{") and "Extra data" in error.msg:
        return "Name the file .jsonl if each line is a row."
    return "Correct it there, or write the file with a JSON library."


def _limit(error: Exception) -> str:
    too_deep = isinstance(error, RecursionError)
    reason = "it is nested too deeply" if too_deep else "a number is too long"
    return f"is not JSON that can be read: {reason}. Correct or remove the row."
