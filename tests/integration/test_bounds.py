"""Small files that ask for all time and memory: each is refused with one message, and soon."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from plcli.data.encoders import chat_templates
from plcli.errors import ModelError, UsageError
from plcli.models.build import label_settings
from tests.conftest import TINY_BERT, Command, message
from tests.tiny import save_bert


def test_inheritance_that_fans_out_is_bounded(plcli: Command, linear_config: Path) -> None:
    for level in range(13):
        base = [f"{level + 1}.yaml"] * 4 if level < 12 else str(linear_config)
        Path(f"{level}.yaml").write_text(json.dumps({"config": base}))
    start = time.monotonic()
    result = plcli("fit", "-c", "0.yaml", "--run", "run")
    assert time.monotonic() - start < 5
    assert (result.code, message(result)) == (
        2,
        "plcli: 0.yaml: inherits from more than 100 files, counting a file each time that it is "
        "inherited. Inherit from fewer.\n",
    )


SIZES = {
    "layers": ({"num_hidden_layers": 10**6}, "num_hidden_layers is 1,000,000"),
    "labels": ({"num_labels": 10**9}, "num_labels is 1,000,000,000"),
    "layers of another name": ({"n_layer": 10**6}, "n_layer is 1,000,000"),
    "layers of a decoder": ({"decoder_layers": 5000}, "decoder_layers is 5,000"),
    "layers of a part": ({"text_config": {"num_layers": 10**7}}, "num_layers is 10,000,000"),
    "depths": ({"depths": [2, 10**6]}, "depths is 1,000,000"),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_pretrained_model_of_absurd_sizes_is_refused(
    plcli: Command, text_config: Path, name: str
) -> None:
    sizes, said = SIZES[name]
    folder = save_bert(Path("bert"))
    values = json.loads((folder / "config.json").read_text()) | sizes
    (folder / "config.json").write_text(json.dumps(values))
    words = ("--model.architecture", "null", "--model.pretrained", "./bert")
    result = plcli("fit", "-c", text_config, "--run", "run", *words)
    assert (result.code, message(result).count("\n")) == (4, 1), result.err
    assert said in message(result)


def test_an_architecture_of_absurd_sizes_is_refused(plcli: Command, text_config: Path) -> None:
    sizes = json.dumps({**TINY_BERT, "num_hidden_layers": 10**6})
    result = plcli("fit", "-c", text_config, "--run", "run", "--model.architecture", sizes)
    assert (result.code, message(result)) == (
        4,
        "plcli: architecture: num_hidden_layers is 1,000,000, and plcli builds models of at most "
        "1,000 layers. Choose another size, or another model.\n",
    )


def test_a_million_labels_are_refused() -> None:
    with pytest.raises(UsageError, match="1,000,000 labels are more than"):
        label_settings([str(number) for number in range(10**6)])


TOKENS: dict[str, tuple[str, Any]] = {
    "a long one": ("tokenizer.json", [{"id": 9, "content": "x" * 1_000_000}]),
    "many": ("tokenizer.json", [{"id": n, "content": f"x{n}"} for n in range(250_000)]),
    "many in the config": (
        "tokenizer_config.json",
        {str(n): {"content": f"x{n}"} for n in range(250_000)},
    ),
    "many in a file of their own": ("added_tokens.json", {f"x{n}": n for n in range(250_000)}),
}


@pytest.mark.parametrize("name", TOKENS)
def test_huge_added_tokens_are_refused(plcli: Command, text_config: Path, name: str) -> None:
    file, added = TOKENS[name]
    folder = save_bert(Path("bert"))
    path = folder / file
    values = json.loads(path.read_text()) if path.exists() else {}
    if file == "tokenizer.json":
        values = {"added_tokens": added, **{k: v for k, v in values.items() if k != "added_tokens"}}
    elif file == "tokenizer_config.json":
        values["added_tokens_decoder"] = added
    else:
        values = added
    path.write_text(json.dumps(values))
    words = ("--model.architecture", "null", "--model.pretrained", "./bert")
    start = time.monotonic()
    result = plcli("fit", "-c", text_config, "--run", "run", *words)
    assert time.monotonic() - start < 10
    assert (result.code, message(result).count("\n")) == (4, 1), result.err
    assert f"{file} adds " in message(result)


class Tokenizer:
    """What a chat template is taken from."""

    special_tokens_map: dict[str, str] = {}

    def __init__(self, template: str) -> None:
        self.chat_template = template


TEMPLATES = {
    "a power": "{{ 10 ** 10 ** 10 }}",
    "a long text": "{{ 'a' * 10000000000 }}",
    "a long text in steps": "{{ 'a' * 100000 * 100000 }}",
    "a wide number": "{{ 'x'.ljust(10000000000) }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_template_that_fills_the_memory_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="which could take all time and memory. Do not trust"):
        chat_templates.of(Tokenizer(TEMPLATES[name]))


def test_an_endless_chat_template_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    from plcli.data.encoders.conversations import render

    monkeypatch.setattr(chat_templates, "SECONDS", 0.2)
    loops = "{% for a in range(90000) %}" * 3 + "{% endfor %}" * 3
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"row 1: the chat template .* more than 0.2 seconds"):
        render(Tokenizer(loops), [{"role": "user", "content": "x"}], "row 1")
    assert time.monotonic() - start < 5


def test_a_chat_template_that_writes_too_much_is_refused() -> None:
    from plcli.data.encoders.conversations import render

    loop = "{% for a in range(90000) %}{{ 'x' * 900 }}{% endfor %}"
    with pytest.raises(ModelError, match=r"takes 81,000,000 characters for one conversation"):
        render(Tokenizer(loop), [{"role": "user", "content": "x"}], "row 1")


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m['content'] }}{% endfor %}",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ '-' * 3 }}"
        "{% endfor %}",
    ],
)
def test_an_ordinary_chat_template_is_taken(template: str) -> None:
    assert chat_templates.of(Tokenizer(template)) == template


def test_a_word_of_a_megabyte_does_not_hold_up_the_fit_of_a_tokenizer(
    plcli: Command, text_config: Path
) -> None:
    lines = Path("train.jsonl").read_text().splitlines()
    blob = "".join(f"{number:x}g" for number in range(200_000))
    lines.append(json.dumps({"message": f"see {blob}", "intent": "praise"}))
    Path("train.jsonl").write_text("\n".join(lines) + "\n")
    start = time.monotonic()
    result = plcli("fit", "-c", text_config, "--run", "run")
    assert (result.code, time.monotonic() - start < 30) == (0, True), result.err
    assert "tokenizer: 1 words of more than 100 letters (the longest has " in result.err
