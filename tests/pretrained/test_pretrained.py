"""pretrained: what a name means, models ready to train, and what is said where there are none."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from plcli.data import fitted_tokenizers
from plcli.errors import MachineError, ModelError
from plcli.pretrained import location, tokenizers
from plcli.pretrained import weights as pretrained
from tests.tiny import bert_classifier, bert_tokenizer, save_bert, word_tokenizer

CLASSIFIER = transformers.AutoModelForSequenceClassification
BERT = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
LOADERS = pytest.mark.parametrize(
    "load",
    [tokenizers.load_tokenizer, lambda name: pretrained.load_model(CLASSIFIER, name)],
    ids=["tokenizer", "model"],
)


@pytest.fixture
def folder() -> str:
    """A folder with a tiny classifier of three labels and its tokenizer."""
    return str(save_bert(Path("bert")))


def refused(message: str) -> Any:
    """Expect a ModelError that says this, word by word."""
    return pytest.raises(ModelError, match=re.escape(message))


def save_tokenizer(tokenizer: Any) -> str:
    """Save a tokenizer beside a model's config."""
    tokenizer.save_pretrained("named")
    Path("named/config.json").write_text(json.dumps(BERT))
    return "named"


# names


def test_a_hub_id_stays_as_it_is() -> None:
    assert location.resolve("google-bert/bert-base-uncased") == "google-bert/bert-base-uncased"


def test_a_folder_is_its_path(folder: str) -> None:
    assert location.resolve(f"./{folder}/") == folder


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_bert(Path("bert"))
    assert location.resolve("~/bert") == str(tmp_path / "bert")


def test_a_folder_inside_a_package_is_found_without_importing_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path("lib/weights").mkdir(parents=True)
    Path("lib/weights/__init__.py").write_text("raise SystemExit('imported')")
    save_bert(Path("lib/weights/model"))
    monkeypatch.syspath_prepend(tmp_path / "lib")
    resolved = location.resolve("package:weights/model")
    assert resolved == str(tmp_path / "lib/weights/model")


def test_a_package_that_is_not_installed_is_told() -> None:
    with refused("pretrained: package:no_such/model: no package 'no_such' is installed."):
        location.resolve("package:no_such/model")


def test_a_folder_that_a_package_does_not_hold_is_told() -> None:
    with refused("pretrained: package:plcli/model: the package 'plcli' holds no 'model'."):
        location.resolve("package:plcli/model")


def test_a_folder_without_a_model_is_told() -> None:
    Path("empty").mkdir()
    with refused("pretrained: the folder empty holds no config.json, so no model."):
        location.resolve("empty")


@pytest.mark.parametrize("name", ["./none", "/no/such/folder", "~/none", "one/two/three"])
def test_a_folder_that_is_not_there_is_not_taken_for_a_hub_id(name: str) -> None:
    message = f"pretrained: no folder {name}. Give a folder with a config.json, a hub id or package"
    with refused(message):
        location.resolve(name)


def test_a_file_is_no_folder() -> None:
    Path("bert.bin").touch()
    with refused("pretrained: no folder bert.bin."):
        location.resolve("bert.bin")


# loading


def test_a_model_is_loaded_in_training_mode(folder: str) -> None:
    model = pretrained.load_model(CLASSIFIER, folder)
    assert all(module.training for module in model.modules())


def test_a_model_has_the_weights_of_its_folder() -> None:
    saved = bert_classifier()
    saved.save_pretrained("bert")
    loaded = pretrained.load_model(CLASSIFIER, "bert").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in saved.state_dict().items())


def test_a_setting_goes_into_the_models_config(folder: str) -> None:
    names = {0: "a", 1: "b", 2: "c"}
    model = pretrained.load_model(CLASSIFIER, folder, id2label=names)
    assert model.config.id2label == names


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What transformers logs; it may say all that it has to say."""
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_info()
    transformers.utils.logging.add_handler(caplog.handler)
    yield caplog
    transformers.utils.logging.remove_handler(caplog.handler)
    transformers.utils.logging.set_verbosity(verbosity)


def test_a_fresh_head_is_added_without_a_report(
    folder: str, said: pytest.LogCaptureFixture
) -> None:
    pretrained.load_model(transformers.AutoModelForQuestionAnswering, folder)
    assert said.text == ""


@pytest.mark.usefixtures("said")
def test_the_verbosity_of_transformers_is_as_before(folder: str) -> None:
    pretrained.load_model(CLASSIFIER, folder)
    assert transformers.utils.logging.get_verbosity() == transformers.utils.logging.INFO


@pytest.mark.usefixtures("said")
def test_the_verbosity_of_transformers_is_as_before_where_nothing_was_loaded() -> None:
    with contextlib.suppress(MachineError):
        pretrained.load_model(CLASSIFIER, "no-such/model")
    assert transformers.utils.logging.get_verbosity() == transformers.utils.logging.INFO


def test_a_tokenizer_is_loaded(folder: str) -> None:
    tokenizer = tokenizers.load_tokenizer(folder)
    assert tokenizer.tokenize("the invoices") == ["the", "invoice", "##s"]


@pytest.mark.parametrize(("settings", "pad"), [({"eos_token": "</s>"}, "</s>"), ({}, "<unk>")])
def test_a_tokenizer_without_a_padding_token_takes_one_that_it_has(
    settings: dict[str, str], pad: str
) -> None:
    name = save_tokenizer(word_tokenizer(unk_token="<unk>", **settings))
    assert tokenizers.load_tokenizer(name).pad_token == pad


def test_a_tokenizer_with_nothing_to_pad_with_is_refused() -> None:
    name = save_tokenizer(word_tokenizer())
    message = "the tokenizer of named has no padding token and none that could serve as one."
    with refused(message):
        tokenizers.load_tokenizer(name)


# what goes wrong in loading


@LOADERS
def test_a_hub_id_that_cannot_be_had_is_the_environments_error(load: Callable[[str], Any]) -> None:
    message = (
        r"^pretrained: 'no-such/model' is not in the local cache and cannot be had from the hub "
        r".*Check the name and the connection, or give a folder\.$"
    )
    with pytest.raises(MachineError, match=message):
        load("no-such/model")


def test_a_folder_without_weights_is_told(folder: str) -> None:
    Path(folder, "model.safetensors").unlink()
    with refused("pretrained: bert cannot be loaded: Error no file named model.safetensors"):
        pretrained.load_model(CLASSIFIER, folder)


def test_pickled_weights_are_not_loaded(folder: str) -> None:
    Path(folder, "model.safetensors").unlink()
    torch.save(bert_classifier().state_dict(), Path(folder, "pytorch_model.bin"))
    with refused("no file named model.safetensors"):
        pretrained.load_model(CLASSIFIER, folder)


@pytest.mark.parametrize("part", [0.0, 0.5])
def test_torn_weights_are_told(folder: str, part: float) -> None:
    weights = Path(folder, "model.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[: int(len(whole) * part)])
    with refused("pretrained: bert cannot be loaded: "):
        pretrained.load_model(CLASSIFIER, folder)


def test_a_config_that_is_not_json_is_told(folder: str) -> None:
    Path(folder, "config.json").write_text("{")
    with pytest.raises(ModelError, match="^pretrained: bert/config.json is damaged"):
        pretrained.load_model(CLASSIFIER, folder)


def test_an_unknown_model_type_is_told(folder: str) -> None:
    Path(folder, "config.json").write_text('{"model_type": "brt"}')
    with pytest.raises(ModelError, match="^pretrained: bert cannot be loaded: .*`brt`"):
        pretrained.load_model(CLASSIFIER, folder)


def test_a_head_of_another_size_is_refused(folder: str) -> None:
    with refused("pretrained: bert cannot be loaded: "):
        pretrained.load_model(CLASSIFIER, folder, num_labels=2)


def test_a_folder_without_a_tokenizer_is_refused() -> None:
    bert_classifier().save_pretrained("bert")
    with pytest.raises(ModelError, match="^pretrained: .*bert.*tokenizer"):
        tokenizers.load_tokenizer("bert")


@pytest.fixture
def remote_code(monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder whose code, once it is run, leaves a file `executed`."""
    copies = str(Path("copies_of_code").resolve())
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", copies)
    own_code = {
        "AutoConfig": "code.Config",
        "AutoModelForSequenceClassification": "code.Model",
        "AutoTokenizer": ["code.Tokenizer", None],
    }
    Path("remote").mkdir()
    Path("remote/config.json").write_text(json.dumps({"model_type": "own", "auto_map": own_code}))
    Path("remote/code.py").write_text(
        f"open({str(Path('executed').resolve())!r}, 'w')\n"
        "from transformers import PretrainedConfig as Config\n"
    )
    return "remote"


@LOADERS
def test_a_models_own_code_is_never_run_whatever_stands_on_stdin(
    load: Callable[[str], Any], remote_code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with contextlib.suppress(Exception):
        load(remote_code)
    assert not Path("executed").exists()


@LOADERS
def test_nobody_is_asked_whether_to_run_a_models_own_code(
    load: Callable[[str], Any], remote_code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer_no(question: str = "") -> str:
        asked.append(question)
        return "n"

    monkeypatch.setattr("builtins.input", answer_no)
    with contextlib.suppress(ModelError):
        load(remote_code)
    assert asked == []


def test_a_model_with_its_own_code_is_refused(remote_code: str) -> None:
    with pytest.raises(ModelError, match="remote/config.json: holds the key 'auto_map'"):
        pretrained.load_model(CLASSIFIER, remote_code)


# architectures


def test_a_model_is_built_of_the_sizes_that_are_named() -> None:
    model = pretrained.build_model(CLASSIFIER, BERT, vocab_size=50, num_labels=4)
    assert (model.config.hidden_size, model.classifier.out_features) == (32, 4)


def test_a_built_model_is_in_training_mode() -> None:
    assert pretrained.build_model(CLASSIFIER, BERT, vocab_size=50).training


def test_the_architecture_that_was_given_is_not_changed() -> None:
    architecture = dict(BERT)
    pretrained.build_model(CLASSIFIER, architecture, vocab_size=50)
    assert architecture == BERT


@pytest.mark.parametrize("architecture", [{}, {"hidden_size": 32}, {"model_type": 3}])
def test_an_architecture_without_a_model_type_is_refused(architecture: dict[str, Any]) -> None:
    with refused("architecture: needs a model_type, such as bert."):
        pretrained.build_model(CLASSIFIER, architecture)


def test_a_size_that_a_model_type_does_not_have_is_refused_with_the_nearest() -> None:
    with refused("architecture: bert has no 'hiden_size'. Did you mean 'hidden_size'?"):
        pretrained.build_model(CLASSIFIER, BERT | {"hiden_size": 32})


def test_an_unknown_model_type_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="^architecture: .*'brt'.*Did you mean 'bert'"):
        pretrained.build_model(CLASSIFIER, BERT | {"model_type": "brt"})


@pytest.mark.parametrize(
    ("changes", "wording"),
    [
        ({"hidden_size": "big"}, "hidden_size"),
        ({"hidden_size": -32}, "(hidden_size|-32)"),
        ({"num_attention_heads": 5}, "not a multiple of the number of attention heads"),
        ({"hidden_act": "gelo"}, "gelo"),
    ],
)
def test_sizes_that_make_no_model_are_told_as_the_architectures_fault(
    changes: dict[str, Any], wording: str
) -> None:
    with pytest.raises(ModelError, match=f"(?s)^architecture: .*{wording}"):
        pretrained.build_model(CLASSIFIER, BERT | changes, vocab_size=50)


def test_a_model_type_without_such_a_head_is_told_as_the_architectures_fault() -> None:
    with pytest.raises(
        ModelError,
        match="^architecture: vit is no kind that AutoModelForSequenceClassification builds",
    ):
        pretrained.build_model(CLASSIFIER, {"model_type": "vit"})


# a fitted tokenizer


def fit(
    *texts: str, key: str = "rows", vocab_size: int = 100, max_length: int = 32, **kept: Path
) -> Any:
    """Fit a tokenizer on these texts."""
    return fitted_tokenizers.fit(
        "wordpiece",
        lambda: iter(texts),
        vocab_size=vocab_size,
        max_length=max_length,
        key=key,
        **kept,
    )


def test_a_fitted_tokenizer_knows_the_words_of_its_texts() -> None:
    assert fit("the invoice is wrong").tokenize("wrong invoice") == ["wrong", "invoice"]


def test_a_fitted_tokenizer_does_not_tell_capitals() -> None:
    assert fit("the invoice").tokenize("THE Invoice") == ["the", "invoice"]


def test_a_fitted_tokenizer_takes_unknown_words_apart() -> None:
    assert "[UNK]" not in fit("the invoice is wrong").tokenize("winner")


def test_a_fitted_tokenizer_puts_berts_special_tokens_around_a_pair() -> None:
    tokenizer = fit("the invoice")
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("the", "invoice")["input_ids"])
    assert pieces == ["[CLS]", "the", "[SEP]", "invoice", "[SEP]"]


def test_a_fitted_tokenizer_tells_the_texts_of_a_pair_apart() -> None:
    assert fit("the invoice")("the", "invoice")["token_type_ids"] == [0, 0, 0, 1, 1]


def test_a_fitted_tokenizer_keeps_to_its_number_of_pieces() -> None:
    texts = [f"{first}{second}" for first in "abcdef" for second in "abcdef"]
    assert len(fit(*texts, vocab_size=25)) == 25


def test_a_fitted_tokenizer_names_the_longest_row() -> None:
    assert fit("the invoice", max_length=17).model_max_length == 17


def test_a_fitted_tokenizer_is_the_same_once_saved_and_loaded() -> None:
    fitted = fit("the invoice is wrong")
    loaded = tokenizers.load_tokenizer(save_tokenizer(fitted))
    assert loaded("The invoices", "wrong")["input_ids"] == fitted("The invoices", "wrong").input_ids


def test_a_fitted_tokenizer_is_the_same_wherever_it_is_fitted() -> None:
    letters = "abcdefgh"
    texts = [f"{a}{b}{c} {c}{a}{b}" for a in letters for b in letters for c in letters]
    vocabularies = [fit(*texts, key=str(number), vocab_size=150).get_vocab() for number in range(4)]
    assert vocabularies.count(vocabularies[0]) == 4  # of pairs alike frequent, the same are taken


def test_a_fitted_tokenizer_takes_no_piece_within_a_word_for_a_special_token() -> None:
    assert "##n" not in fit("the invoice # n").tokenize("invoice ##n")[-2:]


def unread() -> Iterator[str]:
    """Texts that fail the test once they are read."""
    raise AssertionError("the texts were read")
    yield


def test_a_tokenizer_is_fitted_once_for_a_key() -> None:
    first = fit("the invoice is wrong")
    second = fitted_tokenizers.fit("wordpiece", unread, vocab_size=100, max_length=32, key="rows")
    assert second.get_vocab() == first.get_vocab()


def test_a_tokenizer_from_the_cache_names_the_longest_row_of_this_call() -> None:
    fit("the invoice", max_length=32)
    assert fit("the invoice", max_length=17).model_max_length == 17


@pytest.mark.parametrize("changes", [{"key": "other rows"}, {"vocab_size": 99}])
def test_another_key_or_size_is_fitted_anew(changes: dict[str, Any]) -> None:
    fit("the invoice")
    assert fit("parcel", **changes).tokenize("parcel") == ["parcel"]


def test_the_cache_of_fitted_tokenizers_may_be_named_in_the_call() -> None:
    fit("the invoice", cache=Path("elsewhere"))
    assert not Path("cache").exists()


# keys


def test_tokenizers_that_encode_alike_have_one_key() -> None:
    first, second = bert_tokenizer(), bert_tokenizer()
    assert tokenizers.tokenizer_key(first) == tokenizers.tokenizer_key(second)


def test_using_a_tokenizer_does_not_change_its_key() -> None:
    tokenizer = bert_tokenizer()
    before = tokenizers.tokenizer_key(tokenizer)
    tokenizer("the invoice", truncation=True, max_length=3, padding="max_length")
    assert tokenizers.tokenizer_key(tokenizer) == before


def test_saving_and_loading_a_tokenizer_does_not_change_its_key() -> None:
    tokenizer = bert_tokenizer()
    loaded = tokenizers.load_tokenizer(save_tokenizer(tokenizer))
    assert tokenizers.tokenizer_key(loaded) == tokenizers.tokenizer_key(tokenizer)


@pytest.mark.parametrize(
    "settings",
    [{"words": ["the", "parcel"]}, {"do_lower_case": False}, {"truncation_side": "left"}],
    ids=["words", "capitals", "side that is cut"],
)
def test_tokenizers_that_encode_otherwise_have_another_key(settings: dict[str, Any]) -> None:
    other = bert_tokenizer(**settings)
    assert tokenizers.tokenizer_key(other) != tokenizers.tokenizer_key(bert_tokenizer())
