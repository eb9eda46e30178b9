"""Runs of tiny models that several tests look at, and a callback that notes what a fit does."""

import contextlib
import csv
import functools
import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
import torch
from lightning.pytorch import Callback

from plcli.__main__ import main
from tests.conftest import TINY_BERT, Result, message_rows, write_config, write_rows

CLASSIFIER = "plcli.tasks.text_classification.TextClassifier"
TEXTS = "plcli.tasks.text_classification.TextClassificationData"
LINEAR = "plcli.tasks.linear_regression.SimpleLinearModel"
TABLE = "plcli.tasks.linear_regression.TableData"
QUICK_BERT = {**TINY_BERT, "initializer_range": 0.1}  # at BERT's 0.02 so small a model learns late
TWO_LAYERS = {**TINY_BERT, "num_hidden_layers": 2}
Trained = TypeVar("Trained")
RECORDER = {"class_path": "tests.running.Recorder"}


def adamw(lr: float) -> dict[str, Any]:
    """The optimizer section of a config."""
    return {"class_path": "torch.optim.AdamW", "init_args": {"lr": lr}}


def by_heart(lr: float = 5e-3, **settings: Any) -> dict[str, Any]:
    """The model section of a config that learns a few rows by heart."""
    learning = {"optimizer": adamw(lr), "schedule": "constant", "warmup": 0}
    return {"architecture": QUICK_BERT, **learning, **settings}


@dataclass
class TrainedRun:
    """A run below a folder that holds its data too."""

    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def analysis(self) -> dict[str, Any]:
        """Return what fit wrote of the rows of the test."""
        found: dict[str, Any] = read_json(self.run / "analysis.json")
        return found

    def test_metrics(self) -> dict[str, Any]:
        """Return what fit wrote of the test split."""
        metrics: dict[str, Any] = read_json(self.run / "metrics.json")["test"]
        return metrics


def each_once(
    train: Callable[[str, Path], Trained], folders: pytest.TempPathFactory
) -> Callable[[str], Trained]:
    """Give what is trained under a name; each is trained once, when it is first asked for."""
    return functools.cache(lambda name: train(name, folders.mktemp(name)))


def run_plcli(*words: object) -> Result:
    """Run `plcli WORDS...` in this process; for fixtures that outlive a test."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(word) for word in words])
        except SystemExit as error:
            code = int(error.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """Keep the cache inside a folder, as conftest does for a single test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLCLI_CACHE", str(folder / "cache"))
        yield


def try_fit(
    folder: Path,
    *words: object,
    model: Mapping[str, Any],
    data: Mapping[str, Any],
    trainer: Mapping[str, Any] | None = None,
    classes: tuple[str, str] = (CLASSIFIER, TEXTS),
    **sections: Any,
) -> Result:
    """Fit into FOLDER/run from a config that is written to FOLDER/fit.yaml."""
    config = write_config(
        folder / "fit.yaml",
        model={"class_path": classes[0], "init_args": dict(model)},
        data={"class_path": classes[1], "init_args": dict(data)},
        trainer={"max_epochs": 1, "accelerator": "cpu", **(trainer or {})},
        **sections,
    )
    with own_cache(folder):
        trusted = ("--allow-import", "tests")  # the recorder above, and callbacks of a test's own
        return run_plcli("fit", "-c", config, "--run", folder / "run", *trusted, *words)


def fit(folder: Path, *words: object, **sections: Any) -> Path:
    """Fit as `try_fit` does and return the run folder."""
    result = try_fit(folder, *words, **sections)
    assert result.code == 0, result.err
    return folder / "run"


def try_messages(
    folder: Path, *words: object, model: Any = None, data: Any = None, **trainer: Any
) -> Result:
    """Fit a tiny classifier of two layers on 24 messages in 6 batches an epoch."""
    folder.mkdir(exist_ok=True)
    rows = str(write_rows(folder / "rows.jsonl", message_rows(2)))
    return try_fit(
        folder,
        *words,
        model={"architecture": TWO_LAYERS, "optimizer": adamw(5e-3), **(model or {})},
        data={"train": rows, "validation": rows, "test": rows, "text": "message"}
        | {"label": "intent", "batch_size": 4, **(data or {})},
        trainer=trainer,
    )


def fit_messages(folder: Path, *words: object, **sections: Any) -> Path:
    """Fit as `try_messages` does and return the run folder."""
    result = try_messages(folder, *words, **sections)
    assert result.code == 0, result.err
    return folder / "run"


def saved_state(run: Path, name: str = "last", key: str = "state_dict") -> dict[str, torch.Tensor]:
    """Return the weights, or another part, of a run's checkpoint."""
    path = run / "checkpoints" / f"{name}.ckpt"
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)[key]
    return found


@contextlib.contextmanager
def stopped(module: type, when: Callable[[Any, int], bool]) -> Iterator[None]:
    """Break fits off, as Ctrl-C does, at a step of which `when(module, batch_idx)` holds."""
    step = module.training_step  # type: ignore[attr-defined]

    def stopped_step(self: Any, batch: Any, batch_idx: int) -> Any:
        if when(self, batch_idx):
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "training_step", stopped_step)
        yield


def predicted(run: Path, source: Path, *words: object) -> list[dict[str, Any]]:
    """Predict a file with a run and return the rows; the same question is asked only once."""
    return _predicted(run.resolve(), source.resolve(), *words)


@functools.cache
def _predicted(run: Path, source: Path, *words: object) -> list[dict[str, Any]]:
    outputs = (run.parent / f"predicted-{number}.jsonl" for number in itertools.count())
    output = next(path for path in outputs if not path.exists())
    with own_cache(run.parent):
        words = ("--allow-import", "tests", *words)
        result = run_plcli("predict", "--run", run, "--input", source, "--output", output, *words)
    assert result.code == 0, result.err
    return read_rows(output)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a .jsonl or .csv file with nothing of plcli."""
    with open(path, encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in file]
        return list(csv.DictReader(file))


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_metrics(run: Path) -> Any:
    """Return a run's metrics.json without the seconds of its fit, which no other run has."""
    metrics = read_json(run / "metrics.json")
    del metrics["fit"]["seconds"]
    return metrics


def card(run: Path) -> dict[str, Any]:
    """Return the content of a run's plcli.json."""
    content: dict[str, Any] = read_json(run / "model" / "plcli.json")
    return content


def changed(rows: Sequence[Mapping[str, Any]], **columns: Sequence[Any]) -> list[dict[str, Any]]:
    """Return rows with other columns."""
    return [
        {**row, **{name: values[index] for name, values in columns.items()}}
        for index, row in enumerate(rows)
    ]


class Recorder(Callback):
    """Notes what a fit does; the notes outlive the fit on the class, `recorded` clears them."""

    orders: ClassVar[dict[int, list[tuple[int, ...]]]] = {}
    rates: ClassVar[list[float]] = []
    norms: ClassVar[list[float]] = []
    dropouts: ClassVar[dict[str, set[bool]]] = {}
    dtypes: ClassVar[set[torch.dtype]] = set()
    states: ClassVar[list[dict[str, torch.Tensor]]] = []

    @classmethod
    def clear(cls) -> None:
        """Forget everything."""
        for notes in (cls.orders, cls.rates, cls.norms, cls.dropouts, cls.dtypes, cls.states):
            notes.clear()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Note the parameters' types, and hang in after the optimizer's steps."""
        self.dtypes.update(parameter.dtype for parameter in pl_module.parameters())

        def note_norm(optimizer: Any, args: Any, kwargs: Any) -> None:
            gradients = [p.grad for g in optimizer.param_groups for p in g["params"]]
            parts = [gradient.norm() for gradient in gradients if gradient is not None]
            self.norms.append(float(torch.stack(parts).norm()))
            self.rates.append(optimizer.param_groups[0]["lr"])

        trainer.optimizers[0].register_step_post_hook(note_norm)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the rows of the batch."""
        self._note_dropout("training", pl_module)
        order = self.orders.setdefault(trainer.current_epoch, [])
        for piece in batch.get("pieces", []):
            for ids, mask in zip(piece["input_ids"], piece["attention_mask"], strict=True):
                order.append(tuple(ids[mask.bool()].tolist()))

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note whether dropout is on."""
        self._note_dropout("validation", pl_module)

    def on_test_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note whether dropout is on."""
        self._note_dropout("test", pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Keep a copy of the weights."""
        self.states.append(
            {name: value.detach().clone() for name, value in pl_module.state_dict().items()}
        )

    def _note_dropout(self, when: str, module: Any) -> None:
        states = {part.training for part in module.modules() if isinstance(part, torch.nn.Dropout)}
        self.dropouts.setdefault(when, set()).update(states)
