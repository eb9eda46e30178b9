"""Which words of a text moved the decision of a model: rows -> tokens -> scores -> words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule

from plcli.data.encoders import places
from plcli.data.encoders.places import SPECIAL, Places
from plcli.data.text_data import TextData
from plcli.errors import UsageError
from plcli.models import attribution
from plcli.models.attribution import Attribution


class Explainer:
    """Explains the decisions of a module on rows of a split, one at a time.

    Args:
        module: the module, whose weights are loaded.
        data: its data module.
        split: predict or test.

    Raises:
        UsageError: if the module or the data cannot be explained.
        ModelError: if the tokenizer does not tell where its tokens are.
    """

    def __init__(self, module: LightningModule, data: Any, *, split: str = "predict") -> None:
        attribution.check(module)
        if not isinstance(data, TextData):
            raise UsageError(
                f"--explain: {type(data).__name__} has no texts whose tokens are known. Remove the "
                "option."
            )
        self.module, self.data, self.split = module, data, split
        self._encoder: Any = data.encoder(split)

    def words(self, rows: Sequence[int]) -> list[list[dict[str, Any]]]:
        """Return the words of rows with their scores, given the numbers of the rows.

        A word has text, start and end (characters of its text), score and, if there are several
        texts, part, the number of the text. The sum of the scores is how much more the tokens speak
        for the decision than padding does.
        """
        return [places.words(*self._scores(row)[:2]) for row in rows]

    def texts(self, row: int) -> tuple[list[str], list[dict[str, Any]]]:
        """Return the texts of a row as the model reads them, and their words."""
        found, scores, _ = self._scores(row)
        return found.texts, places.words(found, scores)

    def _scores(self, row: int) -> tuple[Places, list[list[float]], Attribution]:
        data = self.data
        batch = data.split(self.split).make_batch(np.array([row]), None)
        table = data.rows(self.split).table
        columns = data.encoded_columns("predict")
        cells = [table.column(name).take([row]).to_pylist()[0] for name in columns]
        found: Places = self._encoder.places(cells)
        moved = move_data_to_device(batch, self.module.device)
        mask = batch["attention_mask"].bool()
        fixed = torch.ones_like(mask)
        for window, known in enumerate(found.windows):
            special = torch.tensor([place.text == SPECIAL for place in known], dtype=torch.bool)
            assert batch["input_ids"][window][mask[window]].tolist() == found.ids[window]
            fixed[window][mask[window]] = special
        pad_id = data.loaded_tokenizer.pad_token_id
        result = attribution.attribute(self.module, moved, fixed=fixed, pad_id=pad_id or 0)
        scores = [
            result.scores[window][mask[window]].tolist() for window in range(len(found.windows))
        ]
        return found, scores, result
