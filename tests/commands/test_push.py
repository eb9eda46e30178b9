"""plcli push: what is written to a hub, what is not, and what is refused."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

import plcli as package
from plcli.errors import ModelError
from tests.conftest import Command, FinishedRun, message
from tests.hub import TOKEN, Hub, a_hub

pytestmark = pytest.mark.filterwarnings(  # huggingface_hub's upload of large files
    "ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning"
)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    with a_hub(monkeypatch) as served:
        yield served


NAMES = ["README.md", "config.json", "model.safetensors", "plcli.json"]
NAMES += ["tokenizer.json", "tokenizer_config.json"]


def test_a_model_is_written_in_one_commit_and_loads_by_the_code_of_its_card(
    plcli: Command,
    text_run: FinishedRun,
    hub: Hub,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = text_run.copy("mine")
    (run / "model" / "notes.pt.txt").write_text("not of the model")
    (run / "model" / ".env").write_text(TOKEN)
    result = plcli("push", run, "mary/mails", "--message", "first")
    assert result.code == 0, result.err
    assert result.out.endswith('/mary/mails/commit/1\nnext: plcli.load("mary/mails")\n')
    assert TOKEN not in result.out + result.err
    files = hub.repos["mary/mails"]["main"]
    assert (sorted(files), len(hub.commits), hub.messages) == (sorted(NAMES), 1, ["first"])
    card = files["README.md"].decode()
    assert str(text_run.folder) not in card
    assert "plcli serve mary/mails\n" in card
    for block in re.findall(r"```python\n(.*?)```", card, re.S)[:1]:
        capsys.readouterr()
        exec(block, {})
        assert capsys.readouterr().out.startswith("[{'id': 0, 'label'")
    expected = package.load(run).predict("where is it")
    assert package.load("mary/mails").predict("where is it") == expected
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # from the cache
    assert package.load("mary/mails").predict("where is it") == expected
    words = ("predict", "--model.pretrained", "mary/mails", "a text")
    assert "mary/mails: is a model of plcli, with thresholds" in message(plcli(*words))


def test_a_branch_is_made_and_named(plcli: Command, text_run: FinishedRun, hub: Hub) -> None:
    result = plcli("push", text_run.folder, "mary/mails", "--branch", "next", "--private")
    assert result.code == 0, result.err
    assert hub.repos["mary/mails"]["main"] == {}
    assert hub.private == {"mary/mails"}
    card = hub.repos["mary/mails"]["next"]["README.md"].decode()
    assert 'plcli.load("mary/mails@next")' in card
    assert 'model="mary/mails", revision="next")' in card
    assert package.load("mary/mails@next").inputs == ["message"]
    with pytest.raises(ModelError, match="no model of plcli at this revision"):
        package.load("mary/mails@nxet")


def test_what_an_earlier_push_wrote_is_removed_and_what_others_wrote_is_kept(
    plcli: Command, text_run: FinishedRun, linear_run: FinishedRun, hub: Hub
) -> None:
    assert plcli("push", text_run.folder, "mary/mails").code == 0
    hub.repos["mary/mails"]["main"]["picture.png"] = b"theirs"
    result = plcli("push", linear_run.folder, "mary/mails")
    assert result.code == 0, result.err
    there = {"README.md", "model.safetensors", "picture.png", "plcli.json"}
    assert set(hub.repos["mary/mails"]["main"]) == there


def test_a_dry_run_lists_the_files_and_asks_nobody(plcli: Command, text_run: FinishedRun) -> None:
    result = plcli("push", text_run.folder / "model", "mary/mails", "--dry-run")
    assert result.code == 0, result.err
    assert [line.split()[0] for line in result.out.splitlines()[:-1]] == NAMES
    assert re.search(r"6 files, .* kB, for mary/mails, branch main; nothing", result.out)


# what is refused


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "the Hub does not accept your token (401). Log in again with `hf auth login`"),
        (403, "your token may not write there (403)."),
        (429, "the Hub answered 429 (no). Try again later."),
    ],
)
def test_a_refusal_of_the_hub_is_told(
    plcli: Command, linear_run: FinishedRun, hub: Hub, status: int, said: str
) -> None:
    hub.refuses = status
    result = plcli("push", linear_run.folder, "mary/mails")
    assert result.code == 5
    assert f"plcli: mary/mails: {said}" in message(result)
    assert TOKEN not in result.err


def test_a_hub_that_is_out_of_reach_is_told(
    plcli: Command, linear_run: FinishedRun, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("push", linear_run.folder, "mary/mails")
    hub.shutdown()
    hub.server_close()
    assert f"the Hub at {hub.url} cannot be reached" in message(plcli(*words))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids to use the network. Unset it." in message(plcli(*words))
    monkeypatch.delenv("HF_TOKEN")
    result = plcli(*words)
    assert result.code == 5
    assert "you are not logged in to the Hub. Run `hf auth login`, or set" in message(result)


def test_a_public_repository_does_not_become_private(
    plcli: Command, linear_run: FinishedRun, hub: Hub
) -> None:
    hub.repos["mary/mails"] = {"main": {}}
    result = plcli("push", linear_run.folder, "mary/mails", "--private")
    assert (result.code, hub.commits) == (2, [])
    assert "--private: mary/mails exists already and is public." in message(result)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            [],
            "push: got nothing, expected a run and a repository: plcli push runs/NAME OWNER/NAME.",
        ),
        (["run", "mails"], "REPO: got 'mails', expected OWNER/NAME with at most"),
        (["run", "a/b--c..d"], "REPO: got 'a/b--c..d', expected OWNER/NAME"),
        (["absent", "a/b"], "absent: no such folder. Name a finished run or its model/ folder."),
        (["run", "a/b", "--token", "x"], "unknown option --token."),
        (["run", "a/b", "--message", ""], "--message: is empty."),
        (["s3://x/run", "a/b"], "RUN s3://x/run: is not a path on this machine."),
    ],
)
def test_a_mistake_is_told(plcli: Command, words: list[str], said: str) -> None:
    result = plcli("push", *words)
    assert result.code == 2
    assert said in message(result)


def test_a_folder_of_runs_names_them(plcli: Command, linear_run: FinishedRun) -> None:
    linear_run.copy("all/first")
    result = plcli("push", "all", "a/b")
    assert result.code == 2
    assert "all: is neither a run (config.yaml) nor a model/ folder" in message(result)
    assert "Name one of the runs in it: all/first." in message(result)
    shutil.rmtree("all/first/model")
    assert "all/first: is not finished" in message(plcli("push", "all/first", "a/b"))


def test_a_damaged_model_a_secret_and_a_file_that_runs_code_are_refused(
    plcli: Command, linear_run: FinishedRun
) -> None:
    model = linear_run.copy("run") / "model"
    page = model / "README.md"
    page.write_text(f"{page.read_text()}\nmy token is {TOKEN}\n")
    result = plcli("push", "run", "a/b", "--dry-run")
    assert (result.code, TOKEN in result.err) == (4, False)
    assert "README.md: contains what looks like a secret (hf_t...)." in message(result)
    page.write_text("nothing")
    (model / "optimizer.pt").write_bytes(b"")
    assert "contains optimizer.pt, a type of file" in message(plcli("push", "run", "a/b"))
    (model / "optimizer.pt").unlink()
    (model / "model.safetensors").write_bytes(b"")
    result = plcli("push", "run", "a/b")
    assert (result.code, "its sha256 differs" in message(result)) == (4, True)


def test_an_adapter_of_weights_that_others_do_not_have_is_refused(
    plcli: Command, linear_run: FinishedRun
) -> None:
    model = linear_run.copy("run") / "model"
    (model / "model.safetensors").rename(model / "adapter_model.safetensors")
    card = json.loads((model / "plcli.json").read_text())
    (model / "plcli.json").write_text(json.dumps({**card, "base": {"name": "package:x/model"}}))
    result = plcli("push", "run", "a/b")
    assert result.code == 4
    assert "is an adapter for the weights of package:x/model, which are not on" in message(result)
