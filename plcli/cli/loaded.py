"""The Python API: `plcli.load` opens a run or a model, and predicts and evaluates in this process.

A model is opened as the commands open it: from the same plan, with the same checks, facts and
classes. It is set up once; after that, a prediction takes as long as the network does.
"""

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from plcli.cli import execution, fragments, logs, predict
from plcli.cli.arguments import parse
from plcli.cli.explaining import Explainer
from plcli.cli.lightning_cli import PlCLI
from plcli.config import allowlist, own_modules
from plcli.config.contracts import data_contract, module_contract
from plcli.data.split_data import SplitData
from plcli.errors import DataError, UsageError, listed
from plcli.runs import artefact, atomic_files, hub, results
from plcli.runs.folder import check_local
from plcli.runs.predictions import Sink
from plcli.training.inference import Inference

Row = str | Mapping[str, Any]


def load(
    name: str | os.PathLike[str],
    *,
    engine: str = "torch",
    options: Mapping[str, Any] | None = None,
    allow_import: Sequence[str] = (),
) -> "Model":
    """Open a run or a model to predict and evaluate with.

        model = plcli.load("runs/tickets-1")
        model.predict("where is my refund?")  # [{"id": 0, "label": "billing", ...}]

    The random state of the process does not change, and nothing is logged unless the process sets
    up logging of `plcli`.

    Args:
        name: a run folder, a model/ folder, a model that `plcli push` wrote to the Hub, as
            OWNER/NAME or OWNER/NAME@REVISION, or a public model to use as it is: a folder, a hub id
            or package:NAME/FOLDER.
        engine: what runs the network: torch, torch-bf16, onnx, openvino, openvino-int8 or a folder
            of `plcli export`, whose check must have passed; or auto for the fastest of them.
        options: config keys as on the command line of `plcli predict`, for example
            {"data.batch_size": 64, "trainer.accelerator": "cpu", "ckpt_path": "last"}.
        allow_import: packages outside of plcli, lightning, torch, torchmetrics and transformers
            whose classes the run's config may name.

    Raises:
        UsageError: if there is no such run, or an option is not valid.
        ModelError: if its weights are damaged, or are not trained for a task; if the export of an
            engine is absent, of other weights, or its check failed.
        MachineError: if the package of an engine is not installed.
    """
    given = {"trainer.enable_progress_bar": False, "engine": engine, **(options or {})}
    words = [*_named(str(name)), *(word for each in given.items() for word in _option(*each))]
    words += [word for package in allow_import for word in ("--allow-import", package)]
    arguments = parse("predict", words)
    allowlist.allow(arguments.allowed)
    own_modules.find(arguments.allowed, os.getcwd())
    plan = execution.planned(arguments, fragments.of_arguments(arguments))
    with seed_kept():
        return Model(Opened(plan), name=str(name))


class Model:
    """An opened run or model; see `plcli.load`.

    Several threads may use it. `predict` runs in all of them at the same time; `predict_file`,
    `evaluate` and `explain` wait until no other thread predicts, and keep others waiting.

    Attributes:
        name: the run or model that was opened.
        task: its task, such as text-classification; None for a module without one.
        inputs: the columns that a row must have.
        id: the column of row ids; None if rows are numbered.
        labels: the label names in order; None for a task without labels.
        module: the LightningModule.
        card: the content of plcli.json; empty for a public model and an unfinished run.
        targets: the label columns of rows to evaluate.
        engine: what runs the network, such as torch or onnx.
    """

    def __init__(self, opened: PlCLI, *, name: str) -> None:
        self.name, self._opened = name, opened
        self.module = opened.model
        self.task = module_contract(self.module).task
        self.labels: list[str] | None = getattr(self.module, "labels", None)
        self._data = opened.datamodule
        contract = data_contract(self._data, self.module)
        self._takes_rows = self._data is not None and contract.offers("with_rows")
        self.inputs = list(contract.columns("predict")) if self._takes_rows else []
        self.id: str | None = getattr(self._data, "id", None) if self._takes_rows else None
        self.inputs = [name for name in self.inputs if name != self.id]
        found = opened.plan.artefact
        self.card: dict[str, Any] = {} if found is None else dict(found.card)
        known = {*self.inputs, self.id}
        self.targets = [
            name
            for name in (contract.columns("test") if self._takes_rows else [])
            if name not in known
        ]
        self.engine = opened.plan.engine_name
        self._encoding = threading.Lock()
        self._inference = Inference(opened.trainer, self.module)

    def __repr__(self) -> str:
        return f"<plcli.Model {self.name}: {self.task or type(self.module).__name__}>"

    @property
    def parallel(self) -> bool:
        """Whether several threads predict at the same time; otherwise they take turns."""
        return self._inference.parallel

    def predict(
        self, rows: Row | Sequence[Row], *, max_tokens: int | None = None
    ) -> list[dict[str, Any]]:
        """Predict texts or rows, and return the rows that `plcli predict` gives, in their order.

        Args:
            rows: texts, for a model with one input column, or mappings with the input columns; or
                a single one. If each mapping has the id column of the config, its value is the id;
                otherwise rows are numbered from 0.
            max_tokens: the maximum number of tokens in all rows, after long texts are cut; None
                does not limit them.

        Returns:
            A dict of plain values for each row; none for no rows.

        Raises:
            DataError: if a column is missing, a cell is not of its kind, or there are too many
                tokens.
            UsageError: if the data class reads only its own files.
        """
        given = [rows] if isinstance(rows, (str, Mapping)) else list(rows)
        if not given:
            return []
        with self._encoding:  # a tokenizer has settings, so that it is used by one thread at a time
            data = self._with_rows("predict", given)
            data.setup("predict")
        if max_tokens is not None and isinstance(data, SplitData):
            count = int(data.split("predict").lengths.sum())
            if count > max_tokens:
                raise DataError(
                    f"rows: have {count} tokens, expected at most {max_tokens} at once. Give fewer "
                    "or shorter rows."
                )
        id_name = data_contract(data).id_name
        return [_named_id(row, id_name) for row in self._inference.rows(data.predict_dataloader())]

    def explain(self, rows: Row | Sequence[Row]) -> list[list[dict[str, Any]]]:
        """Return for each row which words moved the decision, as `plcli predict --explain` does.

        Args:
            rows: as in `predict`.

        Returns:
            For each row its words in order, with text, start and end (characters), score (above 0
            for the decision) and, if rows have several texts, part, the number of the text.

        Raises:
            DataError: if a row is not valid.
            UsageError: if the model's task has no decision that could be explained.
        """
        given = [rows] if isinstance(rows, (str, Mapping)) else list(rows)
        if not given:
            return []
        with self._encoding:
            explainer = Explainer(self.module, self._with_rows("predict", given))
            # alone, as other embeddings are put into the network meanwhile
            return self._inference.by_trainer(lambda _: self._words(explainer, len(given)))

    def _words(self, explainer: Explainer, count: int) -> list[list[dict[str, Any]]]:
        """Return the words of rows, by the network of torch, which has gradients."""
        with self.with_network(getattr(self.network, "original", self.network)):
            return explainer.words(range(count))

    def explainer(self, split: str) -> Explainer:
        """Return what explains the rows of a split of the run.

        Raises:
            UsageError: if the model's task has no decision that could be explained.
        """
        return Explainer(self.module, self._data, split=split)

    def predict_file(
        self, source: str | os.PathLike[str], *, output: str | os.PathLike[str]
    ) -> int:
        """Predict a file of any size as `plcli predict --input SOURCE --output OUTPUT` does.

        Args:
            source: a path, a glob, s3://... or any other source of rows.
            output: a .csv, .jsonl or .parquet file, which must not exist.

        Returns:
            The number of rows.

        Raises:
            DataError: if a row is not valid.
            UsageError: if the output exists, or the data class reads only its own files.
        """
        data = self._with_source("predict", os.fspath(source))
        check_local("output", os.fspath(output))
        key = predict.key_of(self._opened.plan, self._opened.resolved, data)
        sink = Sink(Path(output), key=key)
        logs.quiet_libraries()
        with atomic_files.disk_errors_explained():
            return self._inference.by_trainer(
                lambda trainer: predict.predict(trainer, self.module, data, sink=sink)
            )

    def evaluate(
        self, rows: Sequence[Mapping[str, Any]] | str | os.PathLike[str] | None = None
    ) -> dict[str, Any]:
        """Score rows, and return the numbers and tables that `plcli test` computes.

        Args:
            rows: mappings with the input and label columns, or a source of them; by default the
                test split of the run.

        Raises:
            DataError: if a row is not valid.
            UsageError: if there is no test split, or the data class reads only its own files.
        """
        if rows is None:
            data = self._data
        elif isinstance(rows, (str, os.PathLike)):
            data = self._with_source("test", os.fspath(rows))
        else:
            data = self._with_rows("test", list(rows))

        def test(trainer: Trainer) -> dict[str, Any]:
            trainer.test(self.module, datamodule=data, verbose=False)
            return results.results(self.module, trainer.callback_metrics, "test")

        logs.quiet_libraries()
        return self._inference.by_trainer(test)

    @property
    def network(self) -> Any:
        """The network inside of the module; None for a module that has none of transformers."""
        return getattr(self.module, "model", None)

    @contextmanager
    def with_network(self, network: torch.nn.Module) -> Iterator[None]:
        """Predict and evaluate with another form of the network, such as an exported one."""
        before = self.network
        self.module.model = network
        try:
            yield
        finally:
            self.module.model = before

    def rows(
        self, split: str, *, source: str | None = None, most: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the first rows of a split, with the input and label columns.

        Args:
            split: validation, test or predict.
            source: read instead of the config's source of the split.
            most: the maximum number of rows; None returns all.

        Raises:
            DataError: if a row is not valid.
            UsageError: if there is no such split, or the data class reads only its own files.
        """
        if not self._takes_rows or not isinstance(self._data, SplitData):
            raise self._reads_files(source or split)
        data = self._data if source is None else self._data.with_source(split, source)
        table, subset = data.rows(split).table, data.subset(split)
        table = table if subset is None else table.take(subset)
        found: list[dict[str, Any]] = table.slice(0, most).to_pylist()
        return found

    @property
    def special_ids(self) -> list[int]:
        """The ids of the tokenizer's special tokens; none without a tokenizer."""
        return list(getattr(data_contract(self._data).loaded_tokenizer, "all_special_ids", []))

    def save_tokenizer(self, folder: Path) -> None:
        """Write what a reader of the model needs of the data: the tokenizer."""
        data_contract(self._data).save_pretrained(folder)

    def _with_rows(self, split: str, rows: Sequence[Row]) -> Any:
        if not self._takes_rows:
            raise self._reads_files("rows in memory")
        values = [_row(row, self.inputs, number) for number, row in enumerate(rows, start=1)]
        return self._data.with_rows(split, values, source="rows")

    def _with_source(self, split: str, source: str) -> Any:
        if self._data is None or not data_contract(self._data).offers("with_source"):
            raise self._reads_files(source)
        return self._data.with_source(split, source)

    def _reads_files(self, what: str) -> UsageError:
        owner = self.module if self._data is None else self._data
        return UsageError(
            f"{what}: {type(owner).__name__} reads only the files of its config. Use `plcli "
            "predict` or `plcli test`, or derive it from plcli.SplitData or plcli.TextData."
        )


class Opened(PlCLI):
    """Opens the model of a plan, and runs nothing."""

    def take_input(self, data: Namespace) -> None:
        """Take no rows, as they are given later."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""


def _named(name: str) -> list[str]:
    """Return the option that names a run or a model; an artefact on the Hub is downloaded.

    Raises:
        UsageError: if it is a path and does not exist.
    """
    path = Path(name)
    if path.is_dir():
        inside = (path / "config.yaml", path / "model" / artefact.CARD)
        is_run = artefact.exists(path) or any(part.is_file() for part in inside)
        return ["--run" if is_run else "--model.pretrained", name]
    is_path = name.startswith((".", "/", "~")) or Path(*path.parts[:1]).is_dir()
    if not is_path and ":" not in name and (folder := hub.folder_of(name)) is not None:
        return ["--run", str(folder)]
    return ["--run" if is_path else "--model.pretrained", name]


def _option(key: str, value: Any) -> list[str]:
    return [f"--{key}", value if isinstance(value, str) else json.dumps(value)]


def _row(row: Row, inputs: Sequence[str], number: int) -> Mapping[str, Any]:
    """Return a row as a mapping; a text is the only input column.

    Raises:
        DataError: if it is a text, but the model reads several columns.
    """
    if isinstance(row, Mapping):
        return row
    if len(inputs) != 1 or not isinstance(row, str):
        raise DataError(
            f"rows, row {number}: got {row!r:.60}, but this model reads the "
            f"column{'s' if len(inputs) > 1 else ''} {listed(inputs)}. Give a mapping with "
            f"{'them' if len(inputs) > 1 else 'it'}."
        )
    return {inputs[0]: row}


def _named_id(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a row whose id has the name of its column, unless a predicted column has it."""
    if name in row:
        return dict(row)
    return {name if key == "id" else key: value for key, value in row.items()}


@contextmanager
def seed_kept() -> Iterator[None]:
    """Keep the random state of the process, and Lightning's global seed."""
    before = {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    with isolate_rng():
        yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
