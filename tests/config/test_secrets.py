"""Secrets: hidden in the files of a run, in its lines and messages, and asked for again."""

import json
from pathlib import Path
from typing import Any

import pytest

from plcli.config import secrets
from tests.conftest import Command, message

SECRETS: dict[str, Any] = {
    "api_key": "hunter-a",
    "password": 4711471147,
    "passphrase": "hunter-b",
    "pwd": "hunter-c",
    "bearer": "hunter-d",
    "auth": "hunter-e",
    "access_key_id": "hunter-f",
    "apiToken": "hunter-g",
    "headers": {"Authorization": "Bearer hunter-h", "X-Api-Key": "hunter-i"},
    "tokens": ["hunter-j-1234567890", "hunter-k-1234567890"],
    "address": "https://host/x?password=hunter-l&rows=3&X-Amz-Signature=hunter-m",
    "container": "https://host/x?sv=2020&sig=hunter-n",
    "database": "postgres://me:hunter-o@host/db",
}


@pytest.fixture
def net_with_secrets() -> tuple[str, ...]:
    """Write a module that takes secrets; the words that use it."""
    arguments = ", ".join(f"{name}: Any = None" for name in SECRETS)
    Path("own_secrets.py").write_text(
        "import logging\nfrom typing import Any\n"
        "from plcli.tasks.linear_regression import SimpleLinearModel\n"
        "class Net(SimpleLinearModel):\n"
        f"    def __init__(self, input_dim: int = 2, output_dim: int = 1, {arguments}):\n"
        "        super().__init__(input_dim=input_dim, output_dim=output_dim)\n"
        "        logging.getLogger('plcli').info('reading %s', address)\n"
    )
    return ("--model", "own_secrets.Net", "--allow-import", "own_secrets", "--run", "here")


def test_secrets_are_hidden_in_every_file_and_line_of_a_run(
    plcli: Command, linear_config: Path, net_with_secrets: tuple[str, ...]
) -> None:
    loggers = "{class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: x, name: n}}"
    words = [f"--model.{name}={json.dumps(value)}" for name, value in SECRETS.items()]
    result = plcli(
        "fit", "-c", linear_config, *net_with_secrets, *words, "--trainer.logger", loggers
    )
    assert result.code == 0, result.err
    texts = {str(path): path.read_bytes() for path in Path("here").rglob("*") if path.is_file()}
    texts |= {"what is printed": (result.out + result.err).encode()}
    found = [
        (name, secret)
        for name, text in texts.items()
        for secret in (b"hunter", b"4711471147")
        if secret in text
    ]
    assert found == []
    assert "rows=3" in Path("here/config.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (
            ["--data.train", "https://me:hunter2@127.0.0.1:9/x.csv?sig=hunter3"],
            "https://***@127.0.0.1:9/x.csv?sig=***",
        ),
        (["--trainer.max_epochs", "Bearer hunter2hunter2"], "trainer.max_epochs: got '***'"),
        (["--data.password", "hunter2"], "unknown key '--data.password'"),
    ],
)
def test_secrets_are_hidden_in_messages(
    plcli: Command, linear_config: Path, words: list[str], shown: str
) -> None:
    result = plcli("fit", "-c", linear_config, *words)
    assert result.code != 0
    assert "hunter" not in result.err
    assert shown in result.err


@pytest.mark.parametrize(
    "name",
    ["pad_token", "max_tokens", "tokens_per_batch", "tokenizer", "token_column", "key", "author"],
)
def test_a_key_that_only_looks_like_a_secret_is_kept(name: str) -> None:
    assert secrets.hide({name: "words"}) == {name: "words"}


def test_words_after_token_are_kept_and_tokens_are_hidden() -> None:
    told = "token classification, worse than token frequencies: Token abcDEFgh12, token sk_live9x"
    shown = "token classification, worse than token frequencies: ***, ***"
    assert secrets.hide_message(told) == shown


def test_a_column_called_tokens_is_kept() -> None:
    assert secrets.hide({"tokens": "words"}) == {"tokens": "words"}


def test_a_hidden_secret_has_to_be_given_again(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config, "--data.id", secrets.HIDDEN)
    assert (result.code, message(result)) == (
        2,
        "plcli: data.init_args.id: is a secret that was hidden when its config was saved. "
        "Give it again with --data.init_args.id VALUE.\n",
    )


@pytest.mark.parametrize(
    ("words", "hidden"),
    [
        (["--a.token", "x", "--b", "y"], ["--a.token", "***", "--b", "y"]),
        (["--a.api_key=x"], ["--a.api_key=***"]),
        (["--a={password: x, b: 1}"], ['--a={"password": "***", "b": 1}']),
        (["--a", "s3://me:pass@host/x"], ["--a", "s3://***@host/x"]),
        (
            ["--a.tokenizer", "x", "--a.pad_token", "y"],
            ["--a.tokenizer", "x", "--a.pad_token", "y"],
        ),
        (["--a.tokens_per_batch=3"], ["--a.tokens_per_batch=3"]),
    ],
)
def test_secrets_of_a_command_line_are_hidden(words: list[str], hidden: list[str]) -> None:
    assert secrets.hide_words(words) == hidden
