"""Wrong data, and a model that does not go with them, are told in one message with their place."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import Command, FinishedRun, message, write_config, write_rows

# a model alone


def test_a_model_without_data_is_refused(plcli: Command) -> None:
    assert plcli("fit", "--model", "SimpleLinearModel").code == 2


def test_a_classifier_without_weights_and_architecture_is_refused(
    plcli: Command, text_config: Path
) -> None:
    write_config(Path("child.yaml"), model={"init_args": {"architecture": None}})
    result = plcli("fit", "-c", text_config, "-c", "child.yaml")
    assert (result.code, message(result)) == (
        2,
        "plcli: model: give exactly one of pretrained (weights to start from), init_from (a run to "
        "start from) and architecture (a model_type and sizes).\n",
    )


def test_a_pretrained_folder_that_is_not_there_is_told(plcli: Command, text_config: Path) -> None:
    words = ["--model.architecture", "null", "--model.pretrained", "./nowhere"]
    result = plcli("fit", "-c", text_config, *words)
    assert (result.code, message(result)) == (
        4,
        "plcli: pretrained: no folder ./nowhere. Give a folder with a config.json, a hub id or "
        "package:NAME/FOLDER.\n",
    )


def test_a_pretrained_package_that_is_not_installed_is_told(
    plcli: Command, text_config: Path
) -> None:
    words = ["--model.architecture", "null", "--model.pretrained", "package:nowhere/model"]
    result = plcli("fit", "-c", text_config, *words)
    assert (result.code, message(result)) == (
        4,
        "plcli: pretrained: package:nowhere/model: no package 'nowhere' is installed. "
        "Install it with pip.\n",
    )


def test_a_hub_model_that_is_not_in_the_cache_is_told(plcli: Command, text_config: Path) -> None:
    words = ["--model.architecture", "null", "--model.pretrained", "nobody/nothing"]
    result = plcli("fit", "-c", text_config, *words)
    assert result.code == 5
    assert "pretrained: 'nobody/nothing' is not in the local cache" in message(result)


def test_a_misspelt_size_of_an_architecture_is_told(plcli: Command, text_config: Path) -> None:
    result = plcli("fit", "-c", text_config, "--model.architecture.hiden_size", "32")
    assert (result.code, message(result)) == (
        4,
        "plcli: architecture: bert has no 'hiden_size'. Did you mean 'hidden_size'?\n",
    )


def test_an_unknown_model_type_is_told(plcli: Command, text_config: Path) -> None:
    result = plcli("fit", "-c", text_config, "--model.architecture.model_type", "brt")
    assert result.code == 4
    assert "brt" in message(result)


# the data


EMPTY = "empty.csv: is empty. Write a first line with the column names, and rows below it."
DATA = {
    "a missing file": (
        ["--data.train", "tabel.csv"],
        "tabel.csv: no such file. Did you mean 'table.csv'?",
    ),
    "a folder": (
        ["--data.train", "folder"],
        "folder: is a folder. Name its files, for example 'folder/*.csv'.",
    ),
    "an unknown ending": (
        ["--data.train", "table.yaml"],
        "table.yaml: the ending '.yaml' is not one of csv, tsv, jsonl, json, parquet, arrow, txt, "
        "conll, iob, iob2, bio, ann.",
    ),
    "a missing column": (
        ["--data.train", "table.csv", "--data.features", "[a, c]"],
        "table.csv: has no column 'c'. It has a, b, y. Name one of these.",
    ),
    "a missing target": (
        ["--data.train", "table.csv", "--data.target", "z"],
        "table.csv: has no column 'z'. It has a, b, y. Name one of these.",
    ),
    "a cell that is no number": (
        ["--data.train", "words.csv"],
        "words.csv, row 2: column 'b' contains 'two', which is not a number. "
        "Write a number, or remove the row.",
    ),
    "an empty file": (["--data.train", "empty.csv"], EMPTY),
    "a file of a header alone": (
        ["--data.train", "header.csv"],
        "header.csv: has no rows. Add some.",
    ),
    "a feature of one value": (
        ["--data.train", "constant.csv"],
        "constant.csv: the feature 'b' has the same value in all training rows. Remove it from "
        "data.features.",
    ),
    "a missing test file": (
        ["--data.test", "nowhere.parquet"],
        "nowhere.parquet: no such file. Check the path.",
    ),
    "a missing validation file": (
        ["--data.validation", "nowhere.parquet"],
        "nowhere.parquet: no such file. Check the path.",
    ),
}


@pytest.mark.parametrize("mistake", DATA)
def test_wrong_data_is_told_with_its_place(
    plcli: Command, linear_config: Path, mistake: str
) -> None:
    Path("folder").mkdir()
    Path("empty.csv").touch()
    Path("header.csv").write_text("a,b,y\n")
    write_rows(Path("words.csv"), [{"a": 1, "b": 2, "y": 3}, {"a": 1, "b": "two", "y": 3}])
    write_rows(Path("constant.csv"), [{"a": i, "b": 2, "y": i} for i in range(9)])
    words, said = DATA[mistake]
    result = plcli("fit", "-c", linear_config, *words)
    assert (result.code, message(result)) == (3, f"plcli: {said}\n")


def test_a_label_that_is_not_among_those_given_is_told(plcli: Command, text_config: Path) -> None:
    result = plcli("fit", "-c", text_config, "--data.labels", "[billing, delivery, prais]")
    assert (result.code, message(result).replace(str(Path.cwd()), "")) == (
        3,
        "plcli: /train.jsonl, row 9: label 'praise' is not one of billing, delivery, prais. "
        "Did you mean 'prais'?\n",
    )


def test_a_text_for_a_model_of_two_columns_is_told(plcli: Command, linear_run: FinishedRun) -> None:
    result = plcli("predict", "--run", linear_run.folder, "some text")
    assert (result.code, message(result)) == (
        3,
        "plcli: text 1: this model reads 2 columns. Give a JSON object such as "
        '{"a": "...", "b": "..."}.\n',
    )


# what a file holds does not reach the terminal as it is


def test_a_column_name_does_not_colour_the_terminal(plcli: Command, linear_config: Path) -> None:
    Path("red.csv").write_text("\x1b[31ma\x1b[2J,b,y\n1,2,3\n")
    said = message(plcli("fit", "-c", linear_config, "--data.train", "red.csv"))
    assert ("\x1b" in said, "\\x1b[31ma" in said) == (False, True)


def test_a_column_name_of_many_lines_keeps_the_message_on_one(
    plcli: Command, linear_config: Path
) -> None:
    Path("lines.csv").write_text('"a\n\n\n\n\n\n\n",b,y\n1,2,3\n')
    said = message(plcli("fit", "-c", linear_config, "--data.train", "lines.csv"))
    assert said.count("\n") == 1


def test_a_long_column_name_is_cut(plcli: Command, linear_config: Path) -> None:
    Path("long.csv").write_text(f"{'x' * 100_000},b,y\n1,2,3\n")
    said = message(plcli("fit", "-c", linear_config, "--data.train", "long.csv"))
    assert len(said) < 400


# labels that are none, and files that are not there yet


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([f"ticket-{number}" for number in range(20)], "such as ticket-0, ticket-1, ticket-10, "),
        (list(range(20)), "; for numbers to predict, set data.problem: regression.\n"),
    ],
)
def test_a_column_of_which_every_value_is_its_own_is_no_label(
    plcli: Command, text_config: Path, values: list[object], said: str
) -> None:
    rows = [{"message": f"row {value}", "intent": value} for value in values]
    source = write_rows(Path("ids.jsonl"), rows)
    words = ("--data.train", source, "--data.validation", "null", "--data.test", "null")
    result = plcli("fit", "-c", text_config, *words)
    assert result.code == 3
    assert "ids.jsonl: column 'intent' has 20 different values in 20 rows, such" in result.err
    assert "so that it is no label: nothing can be learned from labels that do not" in result.err
    assert said in result.err


def test_a_label_that_is_also_the_text_is_refused(plcli: Command, text_config: Path) -> None:
    result = plcli("fit", "-c", text_config, "--data.label", "message")
    assert (result.code, message(result)) == (
        2,
        "plcli: data.label: the column 'message' is also in data.text, so that the answer would "
        "be in the text. Name another column.\n",
    )


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"


@pytest.mark.parametrize("file", ["rows.csv", "rows.parquet", "model.safetensors", "config.json"])
def test_a_pointer_of_git_lfs_is_told(plcli: Command, text_config: Path, file: str) -> None:
    Path("folder").mkdir()
    Path("folder/config.json").write_text("{}")
    Path("folder", file).write_text(POINTER)
    key = "--data.train" if file.startswith("rows") else "--model.pretrained"
    value = f"folder/{file}" if file.startswith("rows") else "folder"
    result = plcli("fit", "-c", text_config, key, value)
    assert result.code == (3 if file.startswith("rows") else 4)
    assert message(result).endswith(
        f"folder/{file}: is a pointer of Git LFS, not the file itself. Fetch it with `git lfs "
        "pull`, or download it.\n"
    )


def test_a_pointer_of_git_lfs_in_an_artefact_is_told(
    plcli: Command, linear_run: FinishedRun
) -> None:
    model = Path(shutil.copytree(linear_run.folder / "model", "model"))
    (model / "model.safetensors").write_text(POINTER)
    result = plcli("test", "--run", model)
    assert (result.code, message(result)) == (
        4,
        "plcli: model/model.safetensors: is a pointer of Git LFS, not the file itself. Fetch it "
        "with `git lfs pull`, or download it.\n",
    )
