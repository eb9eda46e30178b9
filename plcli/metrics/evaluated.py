"""The rows of an evaluation: their intervals and baselines, and the file that keeps them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plcli.errors import ModelError
from plcli.metrics import decisions
from plcli.metrics.numeric import Numbers
from plcli.metrics.scoring import Baseline, Columns, Means, MultiLabel, Scoring, SingleLabel
from plcli.metrics.texts import GeneratedTexts, SpanCounts, TokenLosses

KINDS: dict[str, type[Scoring]] = {
    kind.__name__: kind
    for kind in (SingleLabel, MultiLabel, Means, Numbers, GeneratedTexts, SpanCounts, TokenLosses)
}
METADATA = b"plcli"  # the key of the file's metadata


@dataclass(frozen=True, eq=False)
class EvaluatedRows:
    """The rows of an evaluation.

    Attributes:
        index: int64 [rows], the number of each row in its source. Those of language models are
            blocks, of which a row may have several; empty for the queries of retrieval.
        columns: what was kept of them.
        scoring: how the scores follow from the columns.
        groups: int64 [rows], equal for rows that belong together (data.group); None if no column
            says it.
        outputs: what the model gave and what is true of each row as plain values, for tasks whose
            columns do not say it; only of a test.
    """

    index: npt.NDArray[np.int64]
    columns: Columns
    scoring: Scoring
    groups: npt.NDArray[np.int64] | None = None
    outputs: Mapping[str, list[Any]] = field(default_factory=dict)

    @property
    def units(self) -> npt.NDArray[np.int64] | None:
        """What is resampled: the group or, of blocks, the row of each; None for each by itself."""
        if self.groups is not None:
            return self.groups
        return self.index if len(np.unique(self.index)) < len(self.index) else None

    def intervals(self) -> dict[str, Any]:
        """Return the 95 % interval of every score as plain values."""
        found = self.scoring.intervals(self.columns, groups=self.units)
        return {name: each.plain() for name, each in found.items()}

    def baseline(self) -> Baseline | None:
        """Return the baseline on the same rows; None without one."""
        return self.scoring.baseline(self.columns)

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return the scores of the baseline by its name."""
        found = self.baseline()
        if found is None:
            return {}
        scores = self.scoring.scores(found.columns)
        return {
            found.name: {
                name: value
                for name, value in scores.items()
                if np.isfinite(value) and "." not in name
            }
        }

    def calibration(self) -> dict[str, Any]:
        """Return NLL, Brier score and calibration error before and after the temperature."""
        scoring = self.scoring
        if not isinstance(scoring, (SingleLabel, MultiLabel)) or "logits" not in self.columns:
            return {}
        if scoring.temperature is None:
            return {}
        truth = self.columns["truth"]
        truth = scoring.flags(truth) if isinstance(scoring, MultiLabel) else truth
        logits = self.columns["logits"].astype(np.float64)
        return decisions.calibration(logits, truth, scoring.temperature)

    def table(self, ids: Sequence[Any], *, fingerprint: str | None) -> pa.Table:
        """Return the rows as an Arrow table, for a file that `read` reads.

        It has the columns row, id and, with data.group, group, and those of the scoring: truth and
        prediction as names or in their units, the loss, or counts.

        Args:
            ids: the id of each row.
            fingerprint: that of the source of the rows.
        """
        readable = self.scoring.readable(self.columns)
        columns: dict[str, Any] = {"row": self.index, "id": [str(each) for each in ids]}
        if not len(self.index):  # queries, which are numbered
            count = len(next(iter(readable.values())))
            columns = {"row": np.arange(count), "id": [str(number) for number in range(count)]}
        elif self.groups is not None:
            columns["group"] = self.groups
        for name, values in readable.items():
            if name.startswith("baseline.") or len(values) != len(columns["row"]):
                continue
            if isinstance(values, np.ndarray) and values.ndim > 1:
                values = values.reshape(len(values), -1).tolist()
            columns[name] = values
        described = {"scoring": self.scoring.plain(), "fingerprint": fingerprint}
        table = pa.table(columns)
        return table.replace_schema_metadata({METADATA: json.dumps(described).encode()})


@dataclass(frozen=True, eq=False)
class KeptRows:
    """The rows of a file.

    Attributes:
        rows: the rows.
        ids: the id of each.
        fingerprint: that of their source; None if it is not known.
    """

    rows: EvaluatedRows
    ids: list[str]
    fingerprint: str | None


def read(table: pa.Table, *, where: str) -> KeptRows:
    """Return the rows of an Arrow table that `EvaluatedRows.table` made.

    Args:
        table: the table.
        where: the file, for messages.

    Raises:
        ModelError: if it is not one of plcli.
    """
    try:
        described = json.loads(table.schema.metadata[METADATA])
        given = dict(described["scoring"])
        scoring = KINDS[given.pop("kind")](**given)
        found = {
            name: table.column(name).to_pylist()
            for name in table.column_names
            if name not in ("row", "id", "group")
        }
        columns = scoring.from_readable(found)
        index = table.column("row").to_numpy()
        grouped = "group" in table.column_names
        groups = table.column("group").to_numpy() if grouped else None
        ids = table.column("id").to_pylist()
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{where}: is damaged, or of another version of plcli ({error}). Write it again with "
            "`plcli test --run RUN`."
        ) from None
    rows = EvaluatedRows(index, columns, scoring, groups=groups)
    return KeptRows(rows, ids, described.get("fingerprint"))
