"""The model/ folder: what it holds, that it is whole, and that it needs nothing else."""

import hashlib
import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

import plcli as package
from plcli.errors import MachineError, ModelError
from plcli.runs import artefact
from plcli.tasks.linear_regression import SimpleLinearModel
from tests.conftest import TINY_BERT, message_rows, signed, table_rows, write_rows
from tests.running import (
    CLASSIFIER,
    LINEAR,
    TABLE,
    card,
    changed,
    fit,
    predicted,
    read_json,
    run_plcli,
)
from tests.tiny import bert_tokenizer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a tiny classifier of several labels a row."""
    folder = tmp_path_factory.mktemp("text")
    rows = changed(message_rows(2), tags=[[row["intent"]] for row in message_rows(2)])
    train, test = write_rows(folder / "train.jsonl", rows), folder / "test.jsonl"
    write_rows(test, rows[:9])
    return fit(
        folder,
        model={"architecture": TINY_BERT, "threshold": 0.4},
        data={"train": str(train), "validation": str(test), "test": str(test)}
        | {"text": "message", "label": "tags", "problem": "multi_label", "max_length": 24},
    )


@pytest.fixture(scope="module")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a linear model, which has no save_pretrained."""
    folder = tmp_path_factory.mktemp("table")
    source = str(write_rows(folder / "table.csv", table_rows()))
    return fit(
        folder,
        model={},
        data={"train": source, "test": source, "features": ["a", "b"], "target": "y"},
        classes=(LINEAR, TABLE),
    )


@pytest.fixture
def model(run: Path) -> Path:
    """A copy of the classifier's artefact, alone in another place."""
    return Path(shutil.copytree(run / "model", "elsewhere"))


# plcli.json


def test_the_folder_holds_weights_tokenizer_and_card(run: Path) -> None:
    names = {path.name for path in (run / "model").iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "plcli.json"}


def test_the_card_names_the_task(run: Path) -> None:
    assert card(run)["task"] == "text-classification"


def test_the_card_names_the_class_of_the_model(run: Path) -> None:
    assert card(run)["model"]["class_path"] == CLASSIFIER


def test_the_card_names_the_columns(run: Path) -> None:
    assert card(run)["columns"] == {"inputs": ["message"], "targets": ["tags"]}


def test_the_card_lists_the_labels_in_order(run: Path) -> None:
    assert card(run)["labels"] == ["billing", "delivery", "praise"]


def test_the_card_has_the_label_order_of_the_model(run: Path) -> None:
    names = read_json(run / "model" / "config.json")["id2label"]
    assert [names[str(index)] for index in range(3)] == card(run)["labels"]


def test_the_card_has_max_length(run: Path) -> None:
    assert card(run)["max_length"] == 24


def test_the_tokenizer_has_max_length(run: Path) -> None:
    assert read_json(run / "model" / "tokenizer_config.json")["model_max_length"] == 24


def test_a_pretrained_tokenizer_is_kept_with_the_max_length_of_the_data(
    run: Path, tmp_path: Path
) -> None:
    source = str(write_rows(tmp_path / "rows.jsonl", message_rows()))
    fit(
        tmp_path,
        model={"pretrained": str(run / "model")},
        data={"train": source, "validation": source, "text": "message", "label": "intent"}
        | {"max_length": 11},
    )
    settings = read_json(tmp_path / "run" / "model" / "tokenizer_config.json")
    assert settings["model_max_length"] == 11


def test_the_card_has_a_threshold_for_every_label(run: Path) -> None:
    assert card(run)["thresholds"] == {"billing": 0.4, "delivery": 0.4, "praise": 0.4}


def test_the_card_has_the_temperature(run: Path) -> None:
    assert card(run)["temperature"] == 1.0


def test_the_card_has_the_metrics_of_the_run(run: Path) -> None:
    metrics = read_json(run / "metrics.json")
    assert {**card(run)["metrics"], "fit": metrics["fit"]} == metrics


def test_the_card_has_metrics_of_validation_and_test(run: Path) -> None:
    assert set(card(run)["metrics"]) == {"validation", "test"}


def test_the_card_has_a_fingerprint_of_every_split(run: Path) -> None:
    assert set(card(run)["data_fingerprints"]) == {"train", "validation", "test"}


def test_a_fingerprint_is_that_of_the_content_not_of_the_name(run: Path) -> None:
    prints = card(run)["data_fingerprints"]
    assert prints["validation"] == prints["test"] != prints["train"]


def test_the_card_has_the_version_of_plcli(run: Path) -> None:
    assert card(run)["plcli"] == package.__version__


def test_the_card_has_the_sha256_of_the_weights(run: Path) -> None:
    content = (run / "model" / "model.safetensors").read_bytes()
    assert card(run)["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_card_names_no_file_of_the_machine(run: Path) -> None:
    assert str(run.parent) not in (run / "model" / "plcli.json").read_text(encoding="utf-8")


def test_the_card_is_plain_json(run: Path) -> None:
    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is not JSON")

    text = (run / "model" / "plcli.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse)


def test_the_card_of_a_constant_prediction_is_plain_json_too(tmp_path: Path) -> None:
    rows = changed(message_rows(), number=[1.0] * 12)  # Pearson's r of a constant is not a number
    source = str(write_rows(tmp_path / "rows.jsonl", rows))
    run = fit(
        tmp_path,
        model={"architecture": TINY_BERT},
        data={"train": source, "validation": source, "test": source}
        | {"text": "message", "label": "number", "problem": "regression"},
    )
    assert "NaN" not in (run / "model" / "plcli.json").read_text(encoding="utf-8")


def test_the_card_of_a_linear_model_has_the_facts_of_its_data(table_run: Path) -> None:
    assert set(card(table_run)["facts"]) == {
        "input_dim",
        "output_dim",
        "target_names",
        "features",
        "target",
        "feature_mean",
        "feature_std",
        "target_mean",
        "target_std",
    }


# on its own


@pytest.mark.parametrize("kind", ["run", "table_run"])
def test_the_artefact_needs_neither_config_nor_data_nor_network(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = request.getfixturevalue(kind)
    data = source.parent / ("test.jsonl" if kind == "run" else "table.csv")
    there, here = predicted(source, data), Path(shutil.copy(data, f"rows{data.suffix}"))
    copied = Path(shutil.copytree(source / "model", "elsewhere"))

    def refuse(*args: Any) -> NoReturn:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    hidden = source.parent.rename(source.parent.with_name("hidden"))
    try:
        assert predicted(copied, here) == there
    finally:
        hidden.rename(source.parent)


def test_a_moved_artefact_can_be_tested_on_other_rows(run: Path, model: Path) -> None:
    test = run.parent / "test.jsonl"
    result = run_plcli("test", "--run", model, "--data.test", test)
    assert f"{card(run)['metrics']['test']['loss']:.4f}" in result.out, result.err


def test_the_model_folder_of_a_run_predicts_what_the_run_predicts(run: Path) -> None:
    source = run.parent / "test.jsonl"
    assert predicted(run / "model", source) == predicted(run, source)


def test_a_moved_artefact_can_predict_a_typed_text(model: Path) -> None:
    assert json.loads(run_plcli("predict", "--run", model, "where is it").out)["id"] == 0


def test_the_threshold_of_the_training_config_stays_with_the_artefact(
    run: Path, model: Path
) -> None:
    rows = predicted(model, run.parent / "test.jsonl")
    assert [set(row["labels"]) for row in rows] == [
        {name for name, p in row["probability"].items() if p >= 0.4} for row in rows
    ]


def test_texts_longer_than_max_length_are_cut_as_in_training(model: Path) -> None:
    text = "late parcel " * 12
    rows = [{"message": text}, {"message": text * 9}]
    short, long = predicted(model, write_rows(Path("rows.jsonl"), rows))
    assert short["probability"] == pytest.approx(long["probability"], abs=1e-5)


def test_testing_an_artefact_without_rows_says_which_key_to_give(model: Path) -> None:
    result = run_plcli("test", "--run", model)
    assert (result.code, "data.test is not given." in result.err) == (2, True)


# damage


def test_altered_weights_are_refused(model: Path) -> None:
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match=r"has changed since it was written \(its sha256 differs"):
        artefact.load(model)


def test_altered_weights_end_a_prediction_with_4(model: Path) -> None:
    with open(model / "model.safetensors", "ab") as file:
        file.write(b"\0")
    assert run_plcli("predict", "--run", model, "a text").code == 4


def test_missing_weights_are_refused(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"elsewhere: contains no model\.safetensors\."):
        artefact.load(model)


@pytest.mark.parametrize(
    "content",
    ["", '{"task": "x"', "[]", '{"task": "x"}', "\udcff"],
    ids=["empty", "half", "a list", "without sha256", "not UTF-8"],
)
def test_a_damaged_card_is_refused(content: str, model: Path) -> None:
    (model / "plcli.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match=r"plcli\.json: is damaged"):
        artefact.load(model)


def test_a_card_without_facts_is_refused_with_a_message(model: Path) -> None:
    content = read_json(model / "plcli.json")
    del content["facts"]
    (model / "plcli.json").write_text(json.dumps(content), encoding="utf-8")
    assert run_plcli("predict", "--run", model, "a text").code == 4


def test_a_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a model of plcli; it contains no plcli\.json\."):
        artefact.load(tmp_path)


def edited(path: Path, **values: Any) -> None:
    """Change values of a JSON file."""
    path.write_text(json.dumps(read_json(path) | values), encoding="utf-8")


REVERSED = {"0": "praise", "1": "delivery", "2": "billing"}
HARM = {
    "another number of layers": lambda model: edited(model / "config.json", num_hidden_layers=2),
    "other words": lambda model: edited(model / "tokenizer.json", added_tokens=[]),
    "labels in another order": lambda model: edited(
        model / "plcli.json", labels=list(REVERSED.values())
    ),
    "added tokens": lambda model: (model / "added_tokens.json").write_text('{"the": 5}'),
    "another template": lambda model: (model / "chat_template.jinja").write_text("x"),
    "a second file of weights": lambda model: shutil.copy(
        model / "model.safetensors", model / "model-00002.safetensors"
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_folder_whose_files_do_not_belong_together_is_not_scored(harm: str, model: Path) -> None:
    HARM[harm](model)
    result = run_plcli("predict", "--run", model, "a text")
    assert (result.code, result.out) == (4, "")
    assert "has changed since it was written" in result.err or "not a file of this" in result.err


FORGED = {
    "more layers": (
        lambda model: edited(model / "config.json", num_hidden_layers=2),
        "elsewhere: lacks 16 of the model's weights, such as bert.encoder.layer.1.attention",
    ),
    "fewer layers": (
        lambda model: edited(model / "config.json", num_hidden_layers=0),
        "elsewhere: has 16 weights that the model does not have, such as bert.encoder.layer.0.",
    ),
    "labels in another order": (
        lambda model: edited(model / "config.json", id2label=REVERSED),
        "elsewhere: config.json names the labels in another order than plcli.json (praise, ",
    ),
    "another run's tokenizer": (
        lambda model: bert_tokenizer(words=[f"w{n}" for n in range(900)]).save_pretrained(model),
        "elsewhere: its tokenizer has 905 tokens, but its weights are for ",
    ),
}


@pytest.mark.parametrize("forged", FORGED)
def test_files_that_do_not_fit_each_other_are_refused_even_with_right_sums(
    forged: str, model: Path
) -> None:
    forge, said = FORGED[forged]
    forge(model)
    signed(model)
    result = run_plcli("predict", "--run", model, "a text")
    assert (result.code, said in result.err) == (4, True), result.err


@pytest.mark.parametrize("name", ["LICENSE", ".git", "predictions/a.json", ".cache/a.json"])
def test_a_file_that_no_library_reads_may_lie_beside_a_model(name: str, model: Path) -> None:
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("{}")
    assert artefact.load(model)


def test_weights_of_another_shape_are_refused(table_run: Path) -> None:
    with pytest.raises(ModelError, match=r"does not fit SimpleLinearModel: .*shape"):
        artefact.load_state(artefact.load(table_run / "model"), SimpleLinearModel(input_dim=5))


# saving


class Saved:
    """A model that saves what it is told to."""

    def __init__(self, content: bytes | None) -> None:
        self.content = content

    def save_pretrained(self, folder: Path) -> None:
        """Write weights, or fail half-way."""
        (folder / "config.json").write_text("{}")
        if self.content is None:
            raise OSError(28, "No space left on device")
        (folder / "model.safetensors").write_bytes(self.content)


def test_saving_replaces_what_stands_there() -> None:
    folder = Path("model")
    folder.mkdir()
    (folder / "old").touch()
    artefact.save(folder, model=Saved(b"new"), data=None, card={"facts": {}})
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "plcli.json",
    }


def test_a_failed_save_keeps_what_stood_there() -> None:
    folder = Path("model")
    artefact.save(folder, model=Saved(b"old"), data=None, card={"facts": {}})
    with pytest.raises(MachineError, match=r"model: cannot be written \(No space left on device\)"):
        artefact.save(folder, model=Saved(None), data=None, card={"facts": {}})
    assert artefact.load(folder).card["sha256"] == hashlib.sha256(b"old").hexdigest()


def test_a_failed_save_leaves_no_half_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(MachineError):
        artefact.save(Path("model"), model=Saved(None), data=None, card={"facts": {}})
    assert list(tmp_path.iterdir()) == []


class Secretive(Saved):
    """A model whose library writes files for their owner alone, as safetensors does."""

    def save_pretrained(self, folder: Path) -> None:
        """Write weights and a folder beside them."""
        super().save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o600)
        (folder / "1_Pooling").mkdir(0o700)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_what_is_saved_has_the_permissions_of_the_umask(umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        artefact.save(Path("model"), model=Secretive(b"x"), data=None, card={"facts": {}})
    finally:
        os.umask(before)
    found = {
        path: path.stat().st_mode & 0o777 for path in [Path("model"), *Path("model").iterdir()]
    }
    assert {each for path, each in found.items() if path.is_file()} == {mode}
    assert {each for path, each in found.items() if path.is_dir()} == {0o777 & ~umask}


def test_a_module_without_save_pretrained_keeps_its_whole_state() -> None:
    module = SimpleLinearModel(input_dim=2, feature_mean=[1.0, 2.0], target_std=[3.0])
    artefact.save(Path("model"), model=module, data=None, card={"facts": {}})
    other = SimpleLinearModel(input_dim=2)
    artefact.load_state(artefact.load(Path("model")), other)
    assert all(
        torch.equal(value, other.state_dict()[key]) for key, value in module.state_dict().items()
    )


def test_a_module_with_tied_weights_is_saved() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    module[1].weight = module[0].weight
    artefact.save(Path("model"), model=module, data=None, card={"facts": {}})
    assert artefact.exists(Path("model"))
