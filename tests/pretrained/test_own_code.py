"""Settings that name code: what is refused, and what transformers' own classes stand in for."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import transformers

from plcli.errors import ModelError
from plcli.pretrained import tokenizers, weights
from tests.pretrained.conftest import refused

CLASSIFIER = transformers.AutoModelForSequenceClassification
ALIKE = {"AutoConfig": "mine.BertConfig", "AutoModelForSequenceClassification": "mine.Bert"}
OF_BERT = {**ALIKE, "AutoModelForSequenceClassification": "mine.BertForSequenceClassification"}


def change(folder: str, file: str = "config.json", **settings: Any) -> None:
    """Change a file of settings."""
    path = Path(folder, file)
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_a_model_with_the_code_of_a_class_of_transformers_is_loaded_with_that_class(
    folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    change(folder, auto_map=OF_BERT)
    change(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["m.BertTokenizer", None]})
    Path(folder, "mine.py").write_text("raise SystemExit('run')")
    with caplog.at_level(logging.WARNING):
        model = weights.load_model(CLASSIFIER, folder)
        tokenizers.load_tokenizer(folder)
    assert type(model) is transformers.BertForSequenceClassification
    told = [record.getMessage() for record in caplog.records if "auto_map" in record.getMessage()]
    assert told == [
        "pretrained: bert/config.json: brings its own code for BertConfig, "
        "BertForSequenceClassification (auto_map); it is not run: the classes of transformers are "
        "used",
        "pretrained: bert/tokenizer_config.json: brings its own code for BertTokenizer "
        "(auto_map); it is not run: the classes of transformers are used",
    ]


@pytest.mark.parametrize(
    ("settings", "foreign"),
    [
        ({"auto_map": ALIKE}, "Bert"),
        ({"auto_map": {"AutoModel": "mine.RobertaModel"}}, "RobertaModel"),  # of another type
        ({"auto_map": {"AutoModel": "mine.pipeline"}}, "pipeline"),
        ({"auto_map": OF_BERT, "architectures": ["JinaBertForMaskedLM"]}, "JinaBertForMaskedLM"),
        ({"auto_map": OF_BERT, "model_type": "mine"}, "BertConfig, BertForSequenceClassification"),
        ({"auto_map": {"AutoTokenizer": ["mine.MyTokenizer", None]}}, "MyTokenizer"),
        ({"auto_map": {}}, "what the key names"),
    ],
)
def test_a_model_whose_class_transformers_does_not_have_is_refused(
    folder: str, settings: dict[str, Any], foreign: str
) -> None:
    change(folder, **settings)
    with refused("bert/config.json: contains the key 'auto_map', with which transformers wou"):
        weights.load_model(CLASSIFIER, folder)
    with pytest.raises(ModelError, match=f"does not have {foreign}"):
        weights.load_config(folder)


def test_a_private_setting_that_a_model_type_has_is_read() -> None:
    sizes = {"hidden_size": 32, "ffn_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.OPTConfig(**sizes, word_embed_proj_dim=32, vocab_size=20)
    transformers.OPTForSequenceClassification(config).save_pretrained("opt")
    change("opt", _remove_final_layer_norm=True)
    assert weights.load_model(CLASSIFIER, "opt").model.decoder.final_layer_norm is None


def test_a_private_setting_of_another_model_type_is_refused(folder: str) -> None:
    change(folder, _remove_final_layer_norm=True)
    with refused("bert/config.json: contains the key '_remove_final_layer_norm'"):
        weights.load_config(folder)
