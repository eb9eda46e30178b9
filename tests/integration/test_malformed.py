"""A table of malformed input over the four commands: each is refused in one message.

A message has five lines at most, names the file, the row or the key, and says what to do.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import (
    Command,
    FinishedRun,
    Result,
    message,
    write_linear_config,
    write_text_config,
)

REMEDY = (  # how a message says what to do
    r"Did you mean|There are: |Valid (keys )?are |takes [a-z]+, |expected |"
    r"is none of |is not one of |needs a value|"
    r"(Add|Change|Check|Choose|Close|Copy|Correct|Count|Fill|Give|Indent|Install|Is|Keep|Leave|"
    r"Lower|Make|Mend|Name|Put|Remove|Rename|Save|Separate|Set|Take|Use|Write|add|give|"
    r"name|needs two or more|CPU use) |"
    r"written twice|only takes options|`plcli \w+ --help` lists"
)
STOP = "{class_path: lightning.pytorch.callbacks.EarlyStopping"
NUL, LATIN = b"message,intent\na\0b,billing\nc,praise\n", "message,intent\ncafé,billing\n"
HEAD = "message,intent\n"
GOOD = f"{HEAD}where is it,delivery\nthank you,praise\n"


@dataclass(frozen=True)
class Case:
    """A malformed input: the words after the command, files beside it, and what is named."""

    words: tuple[str, ...]
    files: dict[str, bytes | str]
    code: int
    named: str  # a regular expression: the file, the row or the key


CASES: dict[str, Case] = {}


def case(
    name: str, *words: str, code: int, named: str = "", file: bytes | str | None = None
) -> None:
    """Add a case; `file` is written under the name that the last word gives."""
    files = {} if file is None else {words[-1]: file}
    assert name not in CASES, name
    CASES[name] = Case(words, files, code, named)


# rows of text, to train on, to score and to predict

BAD_TEXT: dict[str, tuple[str, bytes | str]] = {
    "empty": ("a.csv", ""),
    "header only": ("a.csv", HEAD),
    "blank lines": ("a.csv", "\n\n\n"),
    "semicolons": ("a.csv", GOOD.replace(",", ";")),
    "tabs": ("a.csv", GOOD.replace(",", "\t")),
    "commas in tsv": ("a.tsv", GOOD),
    "renamed column": ("a.csv", GOOD.replace("message", "mesage")),
    "other case": ("a.csv", GOOD.replace("message", "Message")),
    "no text column": ("a.csv", "intent\nbilling\npraise\n"),
    "double column": ("a.csv", "message,message,intent\na,b,billing\n"),
    "ragged row": ("a.csv", f"{GOOD}one,two,three\n"),
    "short row": ("a.csv", f"{GOOD}one\n"),
    "open quote": ("a.csv", f'{GOOD}"one,praise\ntwo,praise\n'),
    "stray quote": ("a.csv", f'{GOOD}"one" two,praise\n'),
    "latin-1": ("a.csv", LATIN.encode("latin-1")),
    "utf-16": ("a.csv", LATIN.encode("utf-16")),
    "utf-16 without a mark": ("a.csv", LATIN.encode("utf-16-le")),
    "binary": ("a.csv", bytes(range(256)) * 8),
    "NUL": ("a.csv", NUL),
    "bad json line": ("a.jsonl", '{"message": "a", "intent": "billing"}\n{message: b}\n'),
    "json line cut": ("a.jsonl", '{"message": "a", "intent": "billing"}\n{"message": "b'),
    "json list in jsonl": ("a.jsonl", '["a", "billing"]\n'),
    "json of one object": ("a.json", '{"message": "a"}'),
    "json lines in json, one of them torn": ("a.json", '{"message": "a"}\n{"message": "b"\n'),
    "deep json": ("a.jsonl", "[" * 50_000 + "\n"),
    "json with a long number": ("a.jsonl", '{"message": ' + "9" * 5000 + "}\n"),
    "text in a list": ("a.jsonl", '{"message": ["a"], "intent": "billing"}\n'),
    "text in an object": ("a.jsonl", '{"message": {"a": 1}, "intent": "billing"}\n'),
    "half a character": ("a.jsonl", '{"message": "\\ud800", "intent": "billing"}\n'),
    "a row without the column": ("a.jsonl", '{"message": "a", "intent": "praise"}\n{"text": 1}\n'),
    "torn parquet": ("a.parquet", b"PAR1" + b"\0" * 40),
    "csv as parquet": ("a.parquet", GOOD),
    "empty parquet": ("a.parquet", b""),
    "empty arrow": ("a.arrow", b""),
    "unknown ending": ("a.xlsx", b"PK\3\4"),
    "no ending": ("data", GOOD),
}
FOR = {
    "train": ("fit", "--data.train"),
    "validate": ("validate", "--data.validation"),
    "test": ("test", "--data.test"),
    "predict": ("predict", "--input"),
}
for _number, (_name, (_file, _content)) in enumerate(BAD_TEXT.items()):
    _use = list(FOR)[_number % 4]  # in turn, to save time
    _command, _key = FOR[_use]
    case(f"{_use}: {_name}", _command, _key, _file, code=3, named=rf"{_file}\b", file=_content)

BAD_LABELS = {
    "unseen": ("a.csv", f"{HEAD}a,refund\n"),
    "misspelt": ("a.csv", f"{HEAD}a,biling\n"),
    "empty": ("a.csv", f"{GOOD}a,\n"),
    "null": ("a.jsonl", '{"message": "a", "intent": null}\n'),
    "NaN": ("a.jsonl", '{"message": "a", "intent": NaN}\n'),
    "-100": ("a.csv", f"{HEAD}a,-100\n"),
    "a fraction": ("a.csv", f"{HEAD}a,0.5\n"),
    "a fraction of jsonl": ("a.jsonl", '{"message": "a", "intent": 0.5}\n'),
    "a list": ("a.jsonl", '{"message": "a", "intent": ["billing", "delivery"]}\n'),
    "words and numbers": (
        "a.jsonl",
        '{"message": "a", "intent": 1}\n{"message": "a", "intent": "billing"}\n',
    ),
    "absent": ("a.csv", "message\na\n"),
}
for _number, (_name, (_file, _content)) in enumerate(BAD_LABELS.items()):
    _use = ("validate", "test")[_number % 2]
    _command, _key = FOR[_use]
    named = rf"{_file}(, row \d)?: "
    case(f"{_use}: label {_name}", _command, _key, _file, code=3, named=named, file=_content)
for _name, _content in {
    "one row": f"{HEAD}a,billing\n",
    "one class": f"{HEAD}a,billing\nb,billing\nc,billing\n",
    "all texts empty": f"{HEAD},billing\n,praise\n,praise\n",
}.items():
    case(f"train: {_name}", "fit", "--data.train", "a.csv", code=3, named="a.csv", file=_content)

for _name, (_kind, _content) in {
    "semicolons": ("multi_label", f"{HEAD}a,billing;praise\n"),
    "a Python list": ("multi_label", f"{HEAD}a,\"['billing', 'praise']\"\n"),
    "words as numbers": ("regression", f"{HEAD}a,high\nb,low\n"),
    "decimal commas": ("regression", f'{HEAD}a,"1,5"\nb,"2,5"\n'),
    "infinite numbers": ("regression", f"{HEAD}a,inf\nb,1\n"),
    "no numbers": ("regression", f"{HEAD}a,\nb,1\n"),
}.items():
    words = ("--data.problem", _kind, "--data.test", "null", "--data.validation", "null")
    case(
        f"{_kind}: {_name}",
        *("fit", *words, "--data.train", "a.csv"),
        code=3,
        named="a.csv, row 1: ",
        file=_content,
    )

# what is named is not there, or is something else

for _number, (_name, _source) in enumerate(
    {
        "no such file": "none.csv",
        "a folder": "./",
        "an empty glob": "x/*.csv",
        "no such package": "package:none/a.csv",
        "no such file of a package": "package:plcli/none.csv",
        "no such address": "zz://a.csv",
        "no such address of a host": "file:///none/a.csv",
        "a list with a gap": "[text.yaml, none.csv]",
    }.items()
):
    _use = list(FOR)[_number % 4]
    _command, _key = FOR[_use]
    case(f"{_use}: {_name}", _command, _key, _source, code=3, named=re.escape(_source.strip("[]")))

# options and keys

for _name, (_words, _code, _named) in {
    "a key of the data": (("fit", "--data.txt", "x"), 2, "--data.txt"),
    "a key of the model": (("fit", "--model.optimiser", "x"), 2, "--model.optimiser"),
    "a key of the trainer": (("fit", "--trainer.max_epoch", "1"), 2, "--trainer.max_epoch"),
    "a section": (("fit", "--trainr.max_epochs", "1"), 2, "--trainr"),
    "an option": (("fit", "--rum", "x"), 2, "--rum"),
    "no for a number": (("fit", "--data.batch_size", "no"), 2, "data.batch_size"),
    "a fraction for a size": (("fit", "--data.batch_size", "1.5"), 2, "data.batch_size"),
    "a size below one": (("fit", "--data.batch_size", "0"), 2, "data.batch_size"),
    "on for a switch": (("fit", "--model.compile", "on"), 2, "model.compile"),
    "a word for a problem": (("fit", "--data.problem", "binary"), 2, "data.problem"),
    "three text columns": (("fit", "--data.text", "[a, b, c]"), 2, "data.text"),
    "a broken list": (("fit", "--data.text", "[message"), 3, r"\[message"),
    "no such encoding": (("fit", "--data.encoding", "utf-88"), 2, "data.encoding"),
    "another encoding": (("fit", "--data.encoding", "utf-16"), 3, "train.jsonl"),
    "a word for empty texts": (("fit", "--data.empty_text", "drop"), 2, "data.empty_text"),
    "more tokens than positions": (("fit", "--data.max_length", "9999"), 4, "data.max_length"),
    "too few tokens": (("fit", "--data.max_length", "1"), 2, "data.max_length"),
    "a size that does not fit": (
        ("fit", "--model.architecture.hidden_size", "31"),
        4,
        "architecture",
    ),
    "a misspelt size": (("fit", "--model.architecture.hidden_sise", "32"), 4, "hidden_sise"),
    "no such model type": (("fit", "--model.architecture.model_type", "brt"), 4, "brt"),
    "no such accelerator": (("fit", "--trainer.accelerator", "gpuu"), 2, "trainer.accelerator"),
    "no GPU": (("fit", "--trainer.accelerator", "gpu"), 5, "trainer.accelerator"),
    "half precision": (("fit", "--trainer.precision", "16-mixed"), 5, "trainer.precision"),
    "no such precision": (("fit", "--trainer.precision", "12"), 2, "trainer.precision"),
    "no such metric": (
        ("fit", "--checkpoint.monitor", "val_f1", "--checkpoint.mode", "max"),
        2,
        "checkpoint.monitor",
    ),
    "no direction": (("fit", "--checkpoint.monitor", "val_loss"), 2, "checkpoint"),
    "a metric that no callback finds": (
        (
            *("fit", "--trainer.callbacks"),
            f"{STOP}, init_args: {{monitor: val_los}}}}",
        ),
        2,
        "trainer.callbacks: the monitored metric 'val_los'",
    ),
    "a metric of the training that no callback finds": (
        (
            *("fit", "--trainer.callbacks"),
            f"{STOP}, init_args: {{monitor: trn}}}}",
        ),
        2,
        "trainer.callbacks: the monitored metric 'trn'",
    ),
    "a class elsewhere": (("fit", "--model", "os.system"), 2, "--model: 'os.system'"),
    "a misspelt package": (("fit", "--model", "trch.nn.Linear"), 2, "--model"),
    "a class of another kind": (("fit", "--model", "torch.nn.Linear"), 2, "model"),
    "an optimizer that is a function": (
        ("fit", "--model.optimizer", "{class_path: torch.manual_seed, init_args: {seed: 1}}"),
        2,
        "model.optimizer",
    ),
    "a package that is none": (("fit", "--allow-import", "a b"), 2, "--allow-import a b"),
    "weights that are not there": (
        ("fit", "--model.architecture", "null", "--model.pretrained", "./none"),
        4,
        "./none",
    ),
    "a folder without a model": (
        ("fit", "--model.architecture", "null", "--model.pretrained", "."),
        4,
        r"folder \. is not a model; it contains no config.json",
    ),
    "the hub, switched off": (
        ("fit", "--model.architecture", "null", "--model.pretrained", "a/b"),
        5,
        "a/b",
    ),
    "a way to resume": (("fit", "--resume", "perhaps"), 2, "--resume perhaps|--resume: got"),
    "a run in a file": (("fit", "--run", "text.yaml"), 5, "--run text.yaml"),
    "a run in a place that cannot be written": (("fit", "--run", "/proc/x"), 5, "/proc/x"),
    "other labels, test": (("test", "--data.labels", "[a, b]"), 2, "data.labels"),
    "other labels, predict": (("predict", "--data.labels", "[a, b]", "hi"), 2, "data.labels"),
    "another model": (("test", "--model", "SimpleLinearModel"), 2, "model.class_path"),
    "data of another task": (("validate", "--data", "TableData"), 2, "TableData"),
    "no such checkpoint": (("test", "--ckpt_path", "none.ckpt"), 4, "none.ckpt"),
    "a config as checkpoint": (("validate", "--ckpt_path", "text.yaml"), 4, "text.yaml"),
    "a key of a run's data": (("test", "--data.tests", "x"), 2, "--data.tests"),
    "a key of a run's trainer": (("predict", "--trainer.device", "1", "hi"), 2, "trainer.device"),
    "text for test": (("test", "hello"), 2, "'hello'"),
    "text and input": (("predict", "hi", "--input", "a.csv"), 2, "--input a.csv"),
    "an output that exists": (("predict", "hi", "--output", "text.yaml"), 2, "text.yaml"),
    "an output of no format": (("predict", "hi", "--output", "out.xlsx"), 2, "out.xlsx"),
    "an output in a file": (("predict", "hi", "--output", "text.yaml/a.csv"), 5, "a.csv"),
    "an output that cannot be written": (("predict", "hi", "--output", "/proc/a.csv"), 5, "/proc"),
}.items():
    case(_name, *_words, code=_code, named=_named)

# config files

for _name, (_content, _code, _named) in {
    "a misspelt key": ("trainer: {max_epoch: 1}", 2, "bad.yaml: .*max_epoch"),
    "a misspelt section": ("modell: {}", 2, "bad.yaml: .*modell"),
    "a key twice": ("seed_everything: 1\nseed_everything: 2\n", 2, "bad.yaml, line 2"),
    "a tab": ("trainer:\n\tmax_epochs: 1\n", 2, "bad.yaml, line 2"),
    "latin-1": ("# größe\n".encode("latin-1"), 2, "bad.yaml"),
    "an unclosed bracket": ("trainer: {max_epochs: 1\n", 2, "bad.yaml, line 2"),
    "a bad indent": ("trainer:\n  max_epochs: 1\n devices: 1\n", 2, "bad.yaml, line 3"),
    "a list": ("- 1\n", 2, "bad.yaml"),
    "a control character": ("trainer: \x07\n", 2, "bad.yaml"),
    "a Python tag": ("trainer: !!python/name:os.system\n", 2, "bad.yaml, line 1"),
    "a date tag": ("seed_everything: !!timestamp 2001-01-01\n", 2, "bad.yaml, line 1"),
    "an int tag on a word": ("seed_everything: !!int many\n", 2, "bad.yaml, line 1"),
    "a number of 5000 digits": (f"seed_everything: {'9' * 5000}\n", 2, "bad.yaml, line 1"),
    "a list as a key": ("? [a]\n: 1\n", 2, "bad.yaml, line 1"),
    "deep nesting": ("a: " + "[" * 300 + "]" * 300, 2, "bad.yaml"),
    "an alias of itself": ("trainer: &a {callbacks: [*a]}\n", 2, "bad.yaml"),
    "a huge file": ("# " + "x" * 1_100_000, 2, "bad.yaml"),
    "no as a number": ("trainer: {max_epochs: no}", 2, "trainer.max_epochs"),
    "on as a switch": ("model: {compile: on}", 2, "model.compile"),
    "a time as a number": ("trainer: {max_epochs: 12:30}", 2, "trainer.max_epochs"),
    "a word for a list": ("data: {labels: a}", 2, "data.labels"),
    "a section without keys": ("trainer: 3", 2, "bad.yaml: trainer"),
    "a base that is not there": ("config: none.yaml", 2, "none.yaml"),
    "itself as base": ("config: bad.yaml", 2, "bad.yaml"),
    "a class elsewhere": ("model: {class_path: evil.Model}", 2, "bad.yaml: model.class_path"),
    "a callback elsewhere": (
        "trainer: {callbacks: [{class_path: evil.Callback}]}",
        2,
        "bad.yaml: trainer.callbacks.class_path",
    ),
    "the allowlist itself": ("allow_import: [evil]", 2, "bad.yaml: .*allow_import"),
    "hidden secrets": ("data: {id: '***'}", 2, "data.init_args.id"),
}.items():
    CASES[f"config: {_name}"] = Case(
        ("fit", "-c", "bad.yaml"), {"bad.yaml": _content}, _code, _named
    )
_bomb = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)]
_merge = [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 9)]
for _name, _lines in (("an alias bomb", _bomb), ("a bomb of merges", _merge)):
    _first = "a0: &a0 [x]\n" if _lines is _bomb else "a0: &a0 {x: 1}\n"
    _content = _first + "".join(_lines)
    CASES[f"config: {_name}"] = Case(
        ("fit", "-c", "bad.yaml"), {"bad.yaml": _content}, 2, "bad.yaml: contains more than"
    )

# tables of numbers

TABLE = "a,b,y\n1,2,3\n4,7,6\n2,1,9\n"
for _name, (_content, _named) in {
    "a word": (TABLE + "x,1,2\n", "a.csv, row 4: column 'a'"),
    "an empty cell": (TABLE + ",1,2\n", "a.csv, row 4: column 'a'"),
    "NaN": (TABLE + "nan,1,2\n", "a.csv, row 4: column 'a'"),
    "a missing column": ("a,y\n1,2\n", "a.csv"),
    "a constant feature": ("a,b,y\n1,1,1\n2,1,2\n3,1,3\n", "a.csv: the feature 'b'"),
    "one row": ("a,b,y\n1,1,1\n", "a.csv"),
    "thousands": (TABLE + '"1,000",1,2\n', "a.csv, row 4: column 'a'"),
    "hexadecimal": (TABLE + "0x1f,1,2\n", "a.csv, row 4: column 'a'"),
}.items():
    CASES[f"table: {_name}"] = Case(
        ("fit", "--data.train", "a.csv"), {"a.csv": _content}, 3, _named
    )
CASES["table: a text to predict"] = Case(("predict", "some text"), {}, 3, "text 1")
CASES["table: half of the columns to predict"] = Case(
    ("predict", '{"a": 1}'), {}, 3, "the command line, row 1"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two configs with their data."""
    folder = tmp_path_factory.mktemp("malformed")
    write_text_config(folder)
    write_linear_config(folder)
    return folder


@pytest.fixture
def refuse(
    plcli: Command, files: Path, text_run: FinishedRun, linear_run: FinishedRun
) -> Callable[[str], Result]:
    """Run a case."""

    def run(name: str) -> Result:
        given = CASES[name]
        shutil.copy(files / "text.yaml", "text.yaml")
        for path, content in given.files.items():
            Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
        command, *words = given.words
        table = name.startswith("table: ")
        config = files / ("table.yaml" if table else "text.yaml")
        finished = (linear_run if table else text_run).folder
        started = ("-c", str(config)) if command == "fit" else ("--run", str(finished))
        return plcli(command, *started, *words)

    return run


@pytest.mark.parametrize("name", CASES)
def test_malformed_input_is_refused_in_one_message(
    refuse: Callable[[str], Result], name: str
) -> None:
    result = refuse(name)
    said = message(result)
    assert result.code == CASES[name].code, result.err
    assert "Traceback" not in result.err
    assert said.count("\n") <= 5
    assert re.search(CASES[name].named, said), said
    assert re.search(REMEDY, said), said


def test_there_are_120_cases_of_all_four_commands() -> None:
    commands = {case.words[0] for case in CASES.values()}
    assert (len(CASES) >= 120, commands) == (True, {"fit", "validate", "test", "predict"})
