"""The scores of a task as functions of what is kept of each row, and those of its baseline.

What is kept of a row are a few numbers, such as the class and the prediction. Intervals and
comparisons follow from them without the model, as from the file `test_rows.parquet` of a run.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from plcli.metrics import intervals, paired
from plcli.metrics.intervals import Array, Interval, Parts, Table, Value
from plcli.metrics.paired import Difference

Columns = Mapping[str, npt.NDArray[Any]]  # by name, [rows] or [rows, n]


class Baseline(NamedTuple):
    """A simple model to compare with.

    Attributes:
        name: what it does, such as `majority class`.
        columns: the columns that it would have given.
    """

    name: str
    columns: Columns


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How the scores of a task follow from the columns of its rows."""

    def tables(self, columns: Columns) -> list[Table]:
        """Return the statistics of the rows, and the scores of their sums."""
        raise NotImplementedError

    def baseline(self, columns: Columns) -> Baseline | None:
        """Return the baseline of the same rows; None if nothing is known of the training rows."""
        return None

    def readable(self, columns: Columns) -> dict[str, Any]:
        """Return the columns with names and units, as they are written to a file."""
        return dict(columns)

    def from_readable(self, columns: Mapping[str, list[Any]]) -> Columns:
        """Return the columns of a file."""
        return {name: np.array(values) for name, values in columns.items()}

    def plain(self) -> dict[str, Any]:
        """Return it as plain values, for `from_plain`."""
        return {"kind": type(self).__name__, **asdict(self)}

    def scores(self, columns: Columns) -> dict[str, float]:
        """Return every score by name."""
        found: dict[str, float] = {}
        for table in self.tables(columns):
            found |= table.scores()
        return found

    def intervals(
        self, columns: Columns, *, groups: npt.NDArray[Any] | None = None
    ) -> dict[str, Interval]:
        """Return the interval of every score.

        Args:
            columns: the columns of the rows.
            groups: [rows], equal for rows that belong together; None if each is by itself.
        """
        found: dict[str, Interval] = {}
        for table in self.tables(columns):
            found |= intervals.intervals(table if groups is None else table.grouped(groups))
        return found

    def difference(
        self,
        first: Columns,
        second: Columns,
        name: str,
        *,
        groups: npt.NDArray[Any] | None = None,
    ) -> Difference | None:
        """Return the difference of a score on the same rows, second minus first.

        Args:
            first: the columns of the first model.
            second: those of the second one, with the same rows in the same order.
            name: the score.
            groups: [rows], equal for rows that belong together; None if each is by itself.

        Returns:
            The difference; None if it is not known.
        """
        for one, two in zip(self.tables(first), self.tables(second), strict=True):
            if name in one.values and name in two.values:
                if groups is not None:
                    one, two = one.grouped(groups), two.grouped(groups)
                return paired.difference(one, two, name)
        return None


@dataclass(frozen=True, kw_only=True)
class Labelled(Scoring):
    """Labels of rows.

    Attributes:
        labels: the label names in order.
        frequencies: the fraction of the training rows with each label, if it is known.
        temperature: what the column logits, if there is one, is divided by; None for nothing.
    """

    labels: list[str]
    frequencies: list[float] | None = None
    temperature: float | None = None


@dataclass(frozen=True, kw_only=True)
class SingleLabel(Labelled):
    """Classes: the columns truth and prediction, label ids, and loss."""

    def tables(self, columns: Columns) -> list[Table]:
        """Return the confusion matrix and, if it was kept, the loss."""
        classes, size = np.arange(len(self.labels)), len(self.labels)
        codes = columns["truth"].astype(np.int64) * size + columns["prediction"]
        cells, cell_of = np.unique(codes, return_inverse=True)
        if 3 * len(cells) * size > intervals.MOST_NUMBERS:  # a gigabyte for thousands of classes
            right = {"accuracy": columns["truth"] == columns["prediction"]}
            only = Means(names=["accuracy"], proportions=["accuracy"], only={})
            return [*only.tables(right), *_loss(columns)]
        true, predicted = (
            (each[:, None] == classes).astype(np.float64)
            for each in np.divmod(cells.astype(np.int64), size)
        )
        statistics = np.concatenate([true * predicted, predicted, true], axis=1)

        def split(sums: Array) -> tuple[Array, Array, Array]:
            return sums[..., :size], sums[..., size : 2 * size], sums[..., 2 * size :]

        def accuracy(sums: Array) -> tuple[Array, Array]:
            right, _, support = split(sums)
            return right.sum(-1), support.sum(-1)

        def macro(sums: Array) -> Array:
            right, given, support = split(sums)
            there = given + support > 0
            return np.asarray(_f1(right, given, support).sum(-1) / there.sum(-1))

        def of_there(sums: Array) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
            right, given, support = split(sums)
            return right, given + support - right, given + support > 0

        def weighted(sums: Array) -> Array:
            right, given, support = split(sums)
            return np.asarray((_f1(right, given, support) * support).sum(-1) / support.sum(-1))

        values: dict[str, Value] = {
            "accuracy": _ratio(accuracy),
            "macro_f1": macro,
            "weighted_f1": weighted,
        }
        proportions: dict[str, Parts] = {"accuracy": accuracy}
        of_class = _of_classes(self.labels, split)
        table = Table(
            statistics,
            cell_of.reshape(-1),
            values | {name: _value(name, parts) for name, parts in of_class.items()},
            proportions | of_class,
            f1=_f1_names(of_class),
            means_of_f1={"macro_f1": of_there},
            errors=accuracy,
        )
        return [table, *_loss(columns)]

    def readable(self, columns: Columns) -> dict[str, Any]:
        """Return the columns with the names of labels."""
        names = np.array(self.labels, dtype=object)
        return {
            name: values.tolist() if name == "loss" else names[values].tolist()
            for name, values in columns.items()
            if name != "logits"
        }

    def from_readable(self, columns: Mapping[str, list[Any]]) -> Columns:
        """Return the columns of a file."""
        ids = {label: number for number, label in enumerate(self.labels)}
        return {
            name: np.array(values if name == "loss" else [ids[value] for value in values])
            for name, values in columns.items()
        }

    def baseline(self, columns: Columns) -> Baseline | None:
        """Return the most frequent class of the training rows, for every row."""
        if self.frequencies is None:
            return None
        truth, known = columns["truth"], np.asarray(self.frequencies)
        found: dict[str, npt.NDArray[Any]] = {
            "truth": truth,
            "prediction": np.full_like(truth, int(known.argmax())),
        }
        if "loss" in columns and (known[truth] > 0).all():
            found["loss"] = -np.log(known[truth])
        return Baseline("majority class", found)


@dataclass(frozen=True, kw_only=True)
class MultiLabel(Labelled):
    """Several labels a row: the columns truth and prediction, bits [rows, labels / 8], and loss."""

    def flags(self, bits: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Return 0 or 1 for each label, [rows, labels], of bits."""
        return np.unpackbits(bits.astype(np.uint8), axis=1, bitorder="little")[
            :, : len(self.labels)
        ]

    def tables(self, columns: Columns) -> list[Table]:
        """Return the counts of each label and, if it was kept, the loss."""
        size = len(self.labels)
        bits = np.concatenate([columns["truth"], columns["prediction"]], axis=1)
        cells, cell_of = np.unique(bits, axis=0, return_inverse=True)
        width = columns["truth"].shape[1]
        true, predicted = self.flags(cells[:, :width]), self.flags(cells[:, width:])
        statistics = np.concatenate([true & predicted, predicted, true], axis=1)

        def split(sums: Array) -> tuple[Array, Array, Array]:
            return sums[..., :size], sums[..., size : 2 * size], sums[..., 2 * size :]

        def micro(sums: Array) -> Array:
            return _f1(*(part.sum(-1) for part in split(sums)))

        def either(sums: Array) -> tuple[Array, Array]:
            right, given, support = (part.sum(-1) for part in split(sums))
            return right, given + support - right

        def of_all(sums: Array) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
            right, given, support = split(sums)
            return right, given + support - right, np.ones(right.shape, bool)

        of_class = _of_classes(self.labels, split)
        values: dict[str, Value] = {
            "micro_f1": micro,
            "macro_f1": lambda sums: np.asarray(_f1(*split(sums)).mean(-1)),
        }
        table = Table(
            statistics.astype(np.float64),
            cell_of.reshape(-1),
            values | {name: _value(name, parts) for name, parts in of_class.items()},
            of_class,
            f1=_f1_names(of_class),
            means_of_f1={"macro_f1": of_all},
            errors=either,
        )
        return [table, *_loss(columns)]

    def readable(self, columns: Columns) -> dict[str, Any]:
        """Return the columns with lists of the names of labels."""
        return {
            name: values.tolist()
            if name == "loss"
            else [
                [label for label, flag in zip(self.labels, row, strict=True) if flag]
                for row in self.flags(values)
            ]
            for name, values in columns.items()
            if name != "logits"
        }

    def from_readable(self, columns: Mapping[str, list[Any]]) -> Columns:
        """Return the columns of a file."""
        found: dict[str, npt.NDArray[Any]] = {}
        for name, values in columns.items():
            if name == "loss":
                found[name] = np.array(values)
                continue
            flags = np.array([[label in row for label in self.labels] for row in values])
            found[name] = np.packbits(flags, axis=1, bitorder="little")
        return found

    def baseline(self, columns: Columns) -> Baseline | None:
        """Return the most frequent label of the training rows, for every row."""
        if self.frequencies is None:
            return None
        known = np.asarray(self.frequencies)
        flags = np.zeros((1, len(known)), np.uint8)
        flags[0, known.argmax()] = 1
        found: dict[str, npt.NDArray[Any]] = {
            "truth": columns["truth"],
            "prediction": np.repeat(
                np.packbits(flags, axis=1, bitorder="little"), len(columns["truth"]), axis=0
            ),
        }
        if "loss" in columns and ((known > 0) & (known < 1)).all():
            truth = self.flags(columns["truth"])
            terms = truth * np.log(known) + (1 - truth) * np.log1p(-known)
            found["loss"] = -terms.mean(1)
        return Baseline("most frequent label", found)


@dataclass(frozen=True, kw_only=True)
class Means(Scoring):
    """Scores that are means over rows: a column for each, with its name.

    Columns named `baseline.NAME` are those of the baseline.

    Attributes:
        names: the scores.
        proportions: those that are 0 or 1 in each row.
        bounded: those between 0 and 1.
        only: scores of a part of the rows: the column that is 1 for rows that count.
        baseline_name: what the baseline does.
    """

    names: list[str]
    proportions: list[str]
    only: dict[str, str]
    baseline_name: str | None = None

    def tables(self, columns: Columns) -> list[Table]:
        """Return a table for each score."""
        tables = []
        for name in self.names:
            if name not in columns:
                continue
            column = columns[name].astype(np.float64)
            counted = columns[self.only[name]] > 0 if name in self.only else np.ones(len(column))
            statistics = np.stack([counted, np.where(counted > 0, column, 0.0)], axis=1)
            parts: dict[str, Parts] = (
                {name: lambda sums: (sums[..., 1], sums[..., 0])}
                if name in self.proportions
                else {}
            )
            tables.append(
                intervals.of_rows(
                    statistics,
                    {name: intervals.mean_of(1)},
                    proportions=parts,
                    bounded=name != "loss",
                    errors=lambda sums: (sums[..., 1], sums[..., 0]),
                )
            )
        return tables

    def baseline(self, columns: Columns) -> Baseline | None:
        """Return the columns that the task computed of its baseline."""
        found = {
            name.removeprefix("baseline."): column
            for name, column in columns.items()
            if name.startswith("baseline.")
        }
        if not found or self.baseline_name is None:
            return None
        return Baseline(self.baseline_name, {**columns, **found})


def _ratio(parts: Parts) -> Value:
    def value(sums: Array) -> Array:
        successes, trials = parts(sums)
        return np.asarray(np.where(trials > 0, successes / np.maximum(trials, 1e-300), 0.0))

    return value


def _value(name: str, parts: Parts) -> Value:
    ratio = _ratio(parts)
    if not name.endswith(".f1"):
        return ratio

    def f1(sums: Array) -> Array:
        p = ratio(sums)
        return np.asarray(2 * p / (1 + p))

    return f1


def _f1(right: Array, given: Array, support: Array) -> Array:
    both = given + support
    return np.asarray(np.where(both > 0, 2 * right / np.maximum(both, 1e-300), 0.0))


def _of_classes(labels: list[str], split: Any) -> dict[str, Parts]:
    """Return precision, recall and F1 of each class as proportions."""

    def parts(number: int, which: str) -> Parts:
        def of(sums: Array) -> tuple[Array, Array]:
            right, given, support = (part[..., number] for part in split(sums))
            trials = {"precision": given, "recall": support, "f1": given + support - right}
            return right, trials[which]

        return of

    return {
        f"classes.{label}.{which}": parts(number, which)
        for number, label in enumerate(labels)
        for which in ("precision", "recall", "f1")
    }


def _f1_names(names: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(name for name in names if name.endswith(".f1"))


def _loss(columns: Columns) -> list[Table]:
    """Return the table of the mean loss, if it was kept."""
    if "loss" not in columns:
        return []
    return [intervals.means({"loss": columns["loss"]}, bounded=False)]
