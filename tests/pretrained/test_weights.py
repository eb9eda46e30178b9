"""Models are loaded or built ready to train; what goes wrong is told."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from plcli.errors import MachineError, ModelError
from plcli.pretrained import tokenizers
from plcli.pretrained import weights as pretrained
from tests.pretrained.conftest import refused
from tests.tiny import bert_classifier

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


# what goes wrong in loading


@LOADERS
def test_a_hub_id_that_cannot_be_had_is_the_environments_error(load: Callable[[str], Any]) -> None:
    message = (
        r"^pretrained: 'no-such/model' is not in the local cache and cannot be downloaded from "
        r"the hub .*Check the name and the connection, or give a folder\.$"
    )
    with pytest.raises(MachineError, match=message):
        load("no-such/model")


def test_a_folder_without_weights_is_told(folder: str) -> None:
    Path(folder, "model.safetensors").unlink()
    with refused("pretrained: bert cannot be loaded: Error no file named model.safetensors"):
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
    message = "remote/config.json: contains the key 'auto_map', .*does not have Config, Model, Tok"
    with pytest.raises(ModelError, match=message):
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


@pytest.mark.parametrize(
    ("model_type", "sizes", "most", "of_decoder"),
    [
        ("bert", {"max_position_embeddings": 64}, 64, 64),
        ("roberta", {"max_position_embeddings": 66, "pad_token_id": 1}, 64, 64),
        ("xlnet", {"d_model": 32, "n_head": 2, "n_layer": 1, "d_inner": 32}, None, None),
        (
            "led",
            {"max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 32},
            64,
            32,
        ),
    ],
)
def test_the_positions_of_a_model_are_found(
    model_type: str, sizes: dict[str, Any], most: int | None, of_decoder: int | None
) -> None:
    config = transformers.AutoConfig.for_model(model_type, vocab_size=20, **sizes)
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    found = pretrained.most_positions(model), pretrained.most_positions(model, decoder=True)
    assert found == (most, of_decoder)


def test_a_model_type_without_such_a_head_is_told_as_the_architectures_fault() -> None:
    with pytest.raises(
        ModelError,
        match="^architecture: vit is not a model type that AutoModelForSequenceClassification supp",
    ):
        pretrained.build_model(CLASSIFIER, {"model_type": "vit"})
