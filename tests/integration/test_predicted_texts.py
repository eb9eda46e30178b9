"""predict: texts that are typed or come from standard input, and rows that are printed."""

import pytest

from tests.conftest import Command, FinishedRun, message, printed_rows

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
