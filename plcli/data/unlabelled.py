"""Training rows without a label, which a network learns from the soft labels of a teacher alone."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from plcli.data.cells import OPTIONAL, Kind
from plcli.data.rows import Rows
from plcli.data.split_data import SplitData
from plcli.errors import DataError, UsageError


class UnlabelledData(SplitData):
    """A SplitData whose training rows may have no label, if `unlabelled` is true.

    A task that can be distilled names its `label_columns`, and reads them as `label_kind` says.
    Rows of other splits need their labels.
    """

    unlabelled: bool | None = None

    @property
    def label_columns(self) -> Sequence[str]:
        """The columns that are all empty in a training row without a label."""
        return ()

    def check_unlabelled(self) -> None:
        """Check that the task reads rows without a label.

        Raises:
            UsageError: if it does not, but the config has some.
        """
        if self.unlabelled and type(self).label_columns is UnlabelledData.label_columns:
            raise UsageError(
                f"data.unlabelled: {type(self).__name__} does not support it. Remove the key."
            )

    def label_kind(self, kind: Kind, split: str) -> Kind:
        """Return the kind of a label column, whose cells may be missing in training rows."""
        return OPTIONAL[kind] if self.unlabelled and split == "train" else kind

    @cached_property
    def without_label(self) -> npt.NDArray[np.bool_]:
        """Which rows of the training source have no label, bool [rows].

        Raises:
            DataError: if none has one.
        """
        rows = self.rows("train")
        if not self.unlabelled or not self.label_columns:
            return np.zeros(len(rows), bool)
        columns = [rows.table.column(name).combine_chunks() for name in self.label_columns]
        missing = [each.is_null().to_numpy(zero_copy_only=False) for each in columns]
        found: npt.NDArray[np.bool_] = np.logical_and.reduce(missing)
        if found.all():
            raise DataError(
                f"{rows.source}: column '{self.label_columns[0]}' is empty in all rows, but some "
                "need a label beside those that have only a teacher. Fill in some, or name another "
                "column."
            )
        return found

    def labelled(self, split: str) -> npt.NDArray[np.int64]:
        """Return the numbers of the rows of a split that have a label."""
        kept = self.subset(split)
        kept = np.arange(len(self.rows(split))) if kept is None else kept
        return kept[~self.without_label[kept]] if split == "train" else kept

    @property
    def num_unlabelled(self) -> int:
        """The number of rows of the training split without a label."""
        if not self.unlabelled:
            return 0
        return len(self.split("train").row_numbers) - len(self.labelled("train"))

    def subset(self, split: str) -> npt.NDArray[np.int64] | None:
        """Return the row numbers of a split; rows without a label are never split off.

        They stay in training, except those of groups that are split off, which are left out.
        """
        kept = super().subset(split)
        if kept is None or not self.unlabelled:
            return kept
        if split == "validation":
            return kept[~self.without_label[kept]]
        return np.union1d(kept, np.flatnonzero(self.without_label)) if self.group is None else kept

    def strata(self, rows: Rows) -> npt.NDArray[Any]:
        """Return the stratum of each row: by default whether it has a label."""
        return self.without_label.astype(np.int64)
