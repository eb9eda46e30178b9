"""Parses the command line into plcli's options, config files, dotted overrides and texts.

It imports no model library. Every dotted option takes exactly one value (`--a.b value` or
`--a.b=value`), so all remaining arguments are texts for predict.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from plcli.config.keys import PARSER_MODE, SECTIONS
from plcli.errors import UsageError, did_you_mean

STEPS = {  # of Lightning's Trainer
    "fit": "train a model; its checkpoints, metrics and the final model/ are saved in the run "
    "folder",
    "validate": "score the validation split with the best weights of a run",
    "test": "score the test split with the best weights of a run",
    "predict": "predict a file, texts or standard input with the best weights of a run",
}
COMMANDS = {  # each of those that are no steps is a module of plcli.commands
    **STEPS,
    "compare": "show how runs differ, and which is better on the same test rows",
    "report": "write one HTML file that shows a run: metrics, curves, errors",
    "runs": "list runs, show one, name the best, remove or prune them",
    "serve": "answer predictions of a run or a model over HTTP",
    "export": "write a model for ONNX, OpenVINO or bfloat16, and check that it predicts the same",
    "package": "write a folder that Docker, SageMaker or AWS Lambda runs a model from",
    "push": "write the model of a run to a repository on the Hugging Face Hub",
}
ALLOW_IMPORT = "allow-import"
ALLOW_WRITE = "allow-write"
SHORT_FORMS = {  # and the keys that they stand for; that of lr depends on the model
    "lr": None,
    "epochs": "trainer.max_epochs",
    "batch_size": "data.batch_size",
    "seed": "seed_everything",
}
ACCEPTED = ("weights_only", "verbose", "return_predictions")  # of LightningCLI; plcli decides
FLAGS = {  # options without a value, and their attributes
    "with-truth": "with_truth",
    "explain": "explain",
    "ensemble": "ensemble",
}
ENGINE = (
    "what runs the network: torch (default), an export of the run whose check passed (torch-bf16, "
    "onnx, openvino, openvino-int8, or its folder), or auto, the fastest (docs/export.md)"
)
OPTIONS = {
    "fit": {
        "run": "the run folder (default: the next free runs/<config name>-<n>)",
        "resume": "auto (a finished run is not an error), never, must, or allow-changes (of "
        "config or data); default: resume an unfinished run",
        "ckpt_path": "a checkpoint to start from, for example of plain Lightning",
        "grace": "seconds after SIGTERM or SIGHUP until a training that hangs is ended (default: "
        "30)",
        "confirm": "what plcli advises against: bf16-true",
        "seeds": "trains a run for each of 5 seeds, or for the seeds 1,7,42, and keeps the best "
        "(docs/campaigns.md)",
        "folds": "trains a run for each of 5 folds of the training rows, and scores every row "
        "out of fold (docs/campaigns.md)",
        "baseline": "tfidf: also score a linear model on TF-IDF (classification and regression)",
        "slice": "columns of the test rows, separated by commas, whose values have scores of their "
        "own; `length` is the length of rows",
        "escape-formulas": "true writes a ' before cells of csv files that a spreadsheet would "
        "compute, as =1+1 (default: false)",
    },
    "validate": {
        "run": "the run folder or model/ folder to load",
        "ckpt_path": "best (default), last or a checkpoint file",
    },
    "test": {
        "run": "the run folder or model/ folder to load",
        "ckpt_path": "best (default), last, a checkpoint file, or pretrained for weights as they "
        "are",
        "engine": ENGINE,
        "ensemble": "of a campaign (fit --seeds, --folds): averages all its models",
        "baseline": "tfidf: also score a linear model on TF-IDF (classification and regression)",
        "slice": "columns of the test rows, separated by commas, whose values have scores of their "
        "own; `length` is the length of rows",
        "escape-formulas": "true writes a ' before cells of csv files that a spreadsheet would "
        "compute, as =1+1 (default: false)",
    },
    "predict": {
        "run": "the run folder or model/ folder to load",
        "ckpt_path": "best (default), last or a checkpoint file",
        "engine": ENGINE,
        "ensemble": "of a campaign (fit --seeds, --folds): averages all its models",
        "input": "a file to predict, or - to read standard input",
        "input-format": "text (one per line), jsonl or csv: what standard input is; default: what "
        "its first line looks like",
        "output": "the file to write: .csv, .jsonl or .parquet",
        "escape-formulas": "true writes a ' before csv cells that a spreadsheet would compute, as "
        "=1+1 (default: false)",
        "keep": "columns of the input file to write beside the predictions, one or more, or all; "
        "repeatable",
        "explain": "also write how much each word of a text moved the decision, as explanation",
        "with-truth": "also write what the label column of the input file has, as truth",
        "part": "one part of the rows, such as 2/8, for one of several jobs",
        "processes": "number of processes that predict a part each, and whose rows are joined "
        "(default: 1)",
    },
    "serve": {
        "engine": ENGINE,
        "host": "the address to listen on (default: 127.0.0.1); others need a token",
        "port": "the port (default: 8080); 0 chooses a free one",
        "token": "what requests must present as `Authorization: Bearer TOKEN`; better given by the "
        "environment variable PLCLI_TOKEN, which other users of the machine do not see",
        "threads": "number of threads that predict (default: the number of cores; 1 with a GPU)",
        "batch_size": "number of rows of similar length in a pass (default: 8; 32 with a GPU)",
        "max_rows": "maximum number of rows in a request (default: 256)",
        "max_tokens": "maximum number of tokens that are predicted together (default: 100000)",
        "max_waiting": "maximum number of waiting rows, beyond which requests get 503 "
        "(default: 1024)",
    },
    "export": {
        "to": "onnx, openvino, openvino-int8 or torch-bf16",
        "output": "the folder to write (default: RUN/export/FORMAT)",
        "rows": "a file of rows to compare (default: the first 1000 validation rows of the run)",
        "max_disagreement": "share of rows that may be predicted differently (default: 0.01)",
    },
}


@dataclass
class Arguments:
    """A parsed command line.

    Attributes:
        command: fit, validate, test or predict.
        options: the command's own options by name (`run`, `resume`, ...), without dashes.
        configs: config files, in order.
        overrides: (dotted key, raw value) pairs in order: environment first, then the command line.
        texts: the positional arguments: texts to predict.
        keep: the columns to write beside predictions.
        with_truth: whether to write the label column beside predictions.
        explain: whether to write how much each word moved the decision.
        ensemble: whether to average all models of a campaign.
        allowed: more packages that a config may name; never taken from the environment.
        writable: folders and addresses outside the run folder that a config may write to; never
            taken from the environment.
        help: whether --help was given.
        quiet: whether --quiet was given.
        show_config: the value of --print_config, "" without a value; None if it was not given.
    """

    command: str
    options: dict[str, str] = field(default_factory=dict)
    configs: list[str] = field(default_factory=list)
    overrides: list[tuple[str, str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)
    with_truth: bool = False
    explain: bool = False
    ensemble: bool = False
    allowed: list[str] = field(default_factory=list)
    writable: list[str] = field(default_factory=list)
    help: bool = False
    show_config: str | None = None
    quiet: bool = False


def parse(
    command: str, arguments: Sequence[str], environment: Mapping[str, str] = os.environ
) -> Arguments:
    """Parse a command line.

    Raises:
        UsageError: for an unknown option, an option without a value, or an unexpected text.
    """
    given = _from_environment(command, environment)
    configs = [value for key, value in given if key == "config"]
    parsed = Arguments(
        command,
        configs=configs,
        overrides=[(key, value) for key, value in given if key != "config"],
    )
    remaining = list(reversed(arguments))
    while remaining:
        word = remaining.pop()
        if word in ("-h", "--help"):
            parsed.help = True
        elif word == "--quiet":
            parsed.quiet = True
        elif word == "--print_config" or word.startswith("--print_config="):
            parsed.show_config = word.partition("=")[2]
        elif word == "--":
            parsed.texts.extend(reversed(remaining))
            remaining = []
        elif word.startswith("-") and len(word) > 1 and not word[1].isspace():
            _take_option(parsed, word, remaining)
        elif word == "-" and command == "predict":
            parsed.options["input"] = "-"
        else:
            parsed.texts.append(word)
    if parsed.texts and command != "predict":
        raise UsageError(
            f"unexpected argument '{parsed.texts[0]}'. `plcli {command}` only takes options, "
            "such as --config FILE or --key value."
        )
    return parsed


def check_text(words: Sequence[str]) -> None:
    """Check that a command line is text.

    Raises:
        UsageError: for a word that is not UTF-8, which could be saved in no file of a run.
    """
    for word in words:
        if any("\ud800" <= char <= "\udfff" for char in word):
            shown = word.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            raise UsageError(f"'{shown}' is not UTF-8. Use a name that is, or rename the file.")


def _take_option(parsed: Arguments, word: str, remaining: list[str]) -> None:
    name, equals, value = word.partition("=")
    options = OPTIONS[parsed.command]
    key = {"-c": "config"}.get(name, name[2:] if name.startswith("--") else name)
    section = key.rstrip("+").split(".")[0]
    own = ("config", ALLOW_IMPORT, ALLOW_WRITE, PARSER_MODE, *ACCEPTED, *SHORT_FORMS, *options)
    if key not in own and section not in SECTIONS:
        known = [
            "--config",
            f"--{ALLOW_IMPORT}",
            f"--{ALLOW_WRITE}",
            *(f"--{option}" for option in ("quiet", *options, *SHORT_FORMS, *SECTIONS)),
        ]
        others = [command for command in STEPS if key in OPTIONS[command]]
        if others:
            raise UsageError(
                f"{name}: is an option of plcli {' and '.join(others)}, not of {parsed.command}. "
                "Remove it."
            )
        raise UsageError(
            f"unknown option {name}.{did_you_mean(f'--{section}', known)} "
            f"`plcli {parsed.command} --help` lists the options."
        )
    if key.endswith(".help"):
        _take_help(parsed, key, value or (remaining.pop() if remaining else ""))
        return
    if key in FLAGS:
        if equals:
            raise UsageError(f"--{key} takes no value; got '{value}'.")
        setattr(parsed, FLAGS[key], True)
        return
    if not equals:
        if not remaining:
            raise UsageError(f"{name} needs a value.")
        value = remaining.pop()
    if key == "config":
        parsed.configs.append(value)
    elif key == "keep":
        parsed.keep.append(value)
        while not equals and remaining and not remaining[-1].startswith("-"):
            parsed.keep.append(remaining.pop())
    elif key == ALLOW_IMPORT:
        parsed.allowed.append(value)
    elif key == ALLOW_WRITE:
        parsed.writable.append(value)
    elif key in (*options, *ACCEPTED, PARSER_MODE):
        if key in parsed.options:
            raise UsageError(f"--{key} is given twice, as {parsed.options[key]} and {value}.")
        parsed.options[key] = value
    else:
        parsed.overrides.append((key, value))


def _take_help(parsed: Arguments, key: str, value: str) -> None:
    """Take `--model.help CLASS`, which LightningCLI has for every class.

    Raises:
        UsageError: for other sections than model and data.
    """
    section = key.removesuffix(".help")
    if section not in ("model", "data"):
        name = value or "CLASS"
        raise UsageError(f"--{key}: is not supported. See `python -c 'help({name})'`.")
    parsed.help = True
    if value:
        parsed.overrides.append((section, value))


def _from_environment(command: str, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Turn PL_FIT__TRAINER__MAX_EPOCHS=3 into ("trainer.max_epochs", "3")."""
    prefix = f"PL_{command.upper()}__"
    return [
        (name[len(prefix) :].lower().replace("__", "."), value)
        for name, value in sorted(environment.items())
        if name.startswith(prefix)
    ]
