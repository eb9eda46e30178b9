"""predict -: texts, JSON lines and csv on standard input, and what is neither."""

import io
import json
import sys
from pathlib import Path

import pytest

from tests.conftest import Command, FinishedRun, Result, message, printed_rows
from tests.running import read_rows

ROW = '{"a": 1, "b": 2}'


class Bytes(io.StringIO):
    """Standard input that is bytes."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.buffer = io.BytesIO(content)


@pytest.fixture
def piped(plcli: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Predict what is piped in."""

    def run(content: bytes, folder: Path, *words: object) -> Result:
        monkeypatch.setattr(sys, "stdin", Bytes(content))
        return plcli("predict", "--run", folder, "-", *words)

    return run


def test_standard_input_is_a_text_a_line(
    plcli: Command, text_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("where is my parcel\n\nthank you\n"))
    rows = printed_rows(plcli("predict", "--run", text_run.folder, "--input", "-"))
    assert [row["id"] for row in rows] == [0, 1, 2]


def test_standard_input_may_be_json_lines(
    plcli: Command, linear_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{ROW}\n{ROW}\n"))
    rows = printed_rows(plcli("predict", "--run", linear_run.folder, "--input", "-"))
    assert len(rows) == 2


def test_empty_standard_input_is_told(
    plcli: Command, text_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    result = plcli("predict", "--run", text_run.folder, "--input", "-")
    assert (result.code, message(result)) == (
        2,
        "plcli: --input -: standard input is empty.\n",
    )


def test_standard_input_can_be_written_to_a_file(
    plcli: Command, text_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("where\nwhat\n"))
    plcli("predict", "--run", text_run.folder, "--input", "-", "--output", "out.csv")
    assert [row["id"] for row in read_rows(Path("out.csv"))] == ["0", "1"]


def test_a_dash_alone_is_standard_input(
    plcli: Command, text_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("where is my parcel\nthank you\n"))
    rows = printed_rows(plcli("predict", "--run", text_run.folder, "-"))
    assert len(rows) == 2


# what the first line is taken for

TEXTS = ["where is my parcel", "thank you"]
AS_TEXT = "\n".join(TEXTS)
AS_JSON = "\n".join(json.dumps({"message": text, "n": 1}) for text in TEXTS)
AS_CSV = "n,message\n" + "\n".join(f'1,"{text}"' for text in TEXTS)
AS_TSV = "n\tmessage\n" + "\n".join(f"1\t{text}" for text in TEXTS)
BOM = b"\xef\xbb\xbf"
KINDS = {
    "text": (AS_TEXT.encode(), "one text per line"),
    "text with a byte order mark": (BOM + AS_TEXT.encode(), "one text per line"),
    "text of Windows": (AS_TEXT.replace("\n", "\r\n").encode(), "one text per line"),
    "JSON lines": (AS_JSON.encode(), "JSON lines"),
    "JSON lines with a byte order mark": (BOM + AS_JSON.encode(), "JSON lines"),
    "JSON lines with blank lines": (AS_JSON.replace("\n", "\n\n").encode(), "JSON lines"),
    "csv": (AS_CSV.encode(), "csv with a header"),
    "csv with a byte order mark": (BOM + AS_CSV.encode(), "csv with a header"),
    "csv of one column": (f"message\n{AS_TEXT}".encode(), "csv with a header"),
    "tsv": (AS_TSV.encode(), "csv with a header"),
}


@pytest.mark.parametrize("name", KINDS)
def test_standard_input_is_read_as_what_its_first_line_is(
    plcli: Command, piped: Command, text_run: FinishedRun, name: str
) -> None:
    content, said = KINDS[name]
    result = piped(content, text_run.folder)
    assert f"standard input: reading {said}" in result.err
    assert printed_rows(result) == printed_rows(plcli("predict", "--run", text_run.folder, *TEXTS))


REFUSED = {
    "JSON after text": (
        f"{AS_TEXT}\n{AS_JSON}".encode(),
        "line 3: is a JSON object, but line 1 is plain text. Give --input-format",
    ),
    "text after JSON": (
        f"{AS_JSON}\n{AS_TEXT}".encode(),
        "line 3: is not a JSON object (Expecting value: line 1 column 1 (char 0)). Give",
    ),
    "broken JSON": (b'{"message": "where is', "line 1: is not a JSON object (Unterminated string"),
    "broken JSON with a byte order mark": (BOM + b'{"message" 3}', "line 1: is not a JSON object"),
    "JSON nested too deeply": (
        b'{"message": ' + b"[" * 100_000,
        "line 1: is not a JSON object (it is nested too deeply)",
    ),
    "a JSON array": (f"[{AS_JSON}".encode(), "looks like a JSON array. Write one object per line"),
    "JSON without the column": (
        b'{"messge": "where is it"}',
        "line 1: has no column 'message'. Did you mean 'messge'? It has messge.",
    ),
    "csv with too many cells": (
        f"{AS_CSV}\n1,2,3\n".encode(),
        "line 4: has 3 cells, the header has 2. Give --input-format",
    ),
    "latin-1": ("caf\u00e9\n".encode("latin-1"), "line 1: is not UTF-8 (byte 0xe9). Convert it"),
    "latin-1 further on": (
        "ok\ncaf\u00e9\n".encode("latin-1"),
        "line 2: is not UTF-8 (byte 0xe9). Convert it, for example with `iconv -f LATIN1",
    ),
    "UTF-16": (AS_TEXT.encode("utf-16"), "looks like UTF-16, not UTF-8. Convert it"),
    "UTF-16 without a mark": (AS_TEXT.encode("utf-16-le"), "looks like UTF-16, not UTF-8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_standard_input_that_is_not_clear_is_refused(
    piped: Command, text_run: FinishedRun, name: str
) -> None:
    content, said = REFUSED[name]
    result = piped(content, text_run.folder)
    assert (result.code, result.out) == (3, "")
    assert f"plcli: standard input{', ' if said.startswith('line') else ': '}{said}" in result.err


def test_the_format_can_be_given(piped: Command, text_run: FinishedRun) -> None:
    result = piped(f"{AS_TEXT}\n{AS_JSON}".encode(), text_run.folder, "--input-format", "text")
    assert len(printed_rows(result)) == 4


def test_text_that_is_given_as_such_is_never_json(
    plcli: Command, piped: Command, text_run: FinishedRun
) -> None:
    line = json.dumps({"message": "where is my parcel"})
    as_text = printed_rows(piped(line.encode(), text_run.folder, "--input-format", "text"))
    as_row = printed_rows(piped(line.encode(), text_run.folder))
    assert as_text != as_row


def test_a_format_that_is_not_known_is_refused(piped: Command, text_run: FinishedRun) -> None:
    result = piped(b"x", text_run.folder, "--input-format", "json")
    assert (result.code, message(result)) == (
        2,
        "plcli: --input-format: got 'json', expected text, jsonl or csv. Did you mean 'jsonl'?\n",
    )
