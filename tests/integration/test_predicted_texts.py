"""predict: texts that are typed or come from standard input, and rows that are printed."""

import io
import sys
from pathlib import Path

import pytest

from tests.conftest import Command, FinishedRun, message, printed_rows
from tests.running import read_rows

ROW = '{"a": 1, "b": 2}'


# what is predicted


def test_a_text_gives_one_row(plcli: Command, text_run: FinishedRun) -> None:
    rows = printed_rows(plcli("predict", "--run", text_run.folder, "where is my parcel"))
    assert len(rows) == 1


def test_a_row_has_an_id_a_label_and_a_score(plcli: Command, text_run: FinishedRun) -> None:
    row = printed_rows(plcli("predict", "--run", text_run.folder, "where is my parcel"))[0]
    assert set(row) >= {"id", "label", "score"}


def test_a_predicted_label_is_a_name(plcli: Command, text_run: FinishedRun) -> None:
    row = printed_rows(plcli("predict", "--run", text_run.folder, "where is my parcel"))[0]
    assert row["label"] in ("billing", "delivery", "praise")


def test_several_texts_are_numbered_in_their_order(plcli: Command, text_run: FinishedRun) -> None:
    texts = ["a much longer text than the one that follows", "short", "neither long nor short"]
    rows = printed_rows(plcli("predict", "--run", text_run.folder, *texts))
    assert [row["id"] for row in rows] == [0, 1, 2]


def test_each_of_several_texts_gets_its_own_prediction(
    plcli: Command, text_run: FinishedRun
) -> None:
    texts = ["a much longer text than the one that follows", "short"]
    together = printed_rows(plcli("predict", "--run", text_run.folder, *texts))
    alone = [printed_rows(plcli("predict", "--run", text_run.folder, text))[0] for text in texts]
    assert [row["score"] for row in together] == pytest.approx([row["score"] for row in alone])


def test_nothing_but_rows_goes_to_standard_output(plcli: Command, text_run: FinishedRun) -> None:
    result = plcli("predict", "--run", text_run.folder, "where is it")
    assert [line for line in result.out.splitlines() if not line.startswith("{")] == []


def test_a_text_is_predicted_without_a_word_on_standard_error(
    plcli: Command, text_run: FinishedRun
) -> None:
    assert plcli("predict", "--run", text_run.folder, "where is it").err == ""


def test_an_empty_text_is_predicted(plcli: Command, text_run: FinishedRun) -> None:
    assert len(printed_rows(plcli("predict", "--run", text_run.folder, ""))) == 1


def test_a_json_object_with_the_text_column_is_a_row(plcli: Command, text_run: FinishedRun) -> None:
    plain, row = (
        plcli("predict", "--run", text_run.folder, text).out
        for text in ("where is it", '{"message": "where is it"}')
    )
    assert plain == row


def test_a_json_object_without_a_column_is_told(plcli: Command, linear_run: FinishedRun) -> None:
    result = plcli("predict", "--run", linear_run.folder, '{"a": 1}')
    assert (result.code, message(result)) == (
        3,
        "plcli: the command line, row 1: has no column 'b'. It has a. Name one of these.\n",
    )


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


# typed again


def test_a_dash_alone_is_standard_input(
    plcli: Command, text_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("where is my parcel\nthank you\n"))
    rows = printed_rows(plcli("predict", "--run", text_run.folder, "-"))
    assert len(rows) == 2
