"""From logits to labels: the temperature and the thresholds of a classifier."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torchmetrics import MetricCollection

from plcli.errors import UsageError, did_you_mean, listed
from plcli.metrics import classification, decisions
from plcli.metrics.scoring import Columns, MultiLabel, Scoring, SingleLabel
from plcli.models import ensemble
from plcli.models.attribution import Support, log_odds

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Decider:
    """How a classifier decides.

    Attributes:
        names: the label names in order.
        several: whether a row can have several labels.
        temperature: what logits are divided by; None if it was not chosen.
        thresholds: the least probability with which a label is predicted: of each label if there
            can be several, of one of two classes otherwise; empty for the most likely class.
        abstain_below: the least probability with which a single label is predicted at all.
    """

    names: list[str]
    several: bool
    temperature: float | None
    thresholds: Mapping[str, float]
    abstain_below: float | None

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return probabilities, [rows, labels]."""
        scaled = logits.float() / (self.temperature or 1.0)
        return scaled.sigmoid() if self.several else scaled.softmax(-1)

    def predicted(self, logits: torch.Tensor) -> torch.Tensor:
        """Return label ids, int64 [rows], or whether each label is predicted, [rows, labels]."""
        chances = self.probabilities(logits)
        if self.several:
            least = [self.thresholds.get(name, decisions.PLAIN) for name in self.names]
            return chances >= torch.tensor(least, dtype=chances.dtype, device=chances.device)
        if not self.thresholds:
            return logits.argmax(-1)
        ((name, least_of_one),) = self.thresholds.items()
        place = self.names.index(name)
        chosen = chances[:, place] >= least_of_one
        return torch.where(chosen, place, 1 - place)

    def update(
        self,
        metrics: MetricCollection,
        logits: torch.Tensor,
        labels: torch.Tensor,
        *,
        with_loss: bool,
        with_logits: bool,
    ) -> dict[str, torch.Tensor]:
        """Add a batch to running metrics, and return what is kept of its rows.

        Args:
            metrics: those of plcli.metrics.classification.
            logits: float32 [rows, labels].
            labels: int64 [rows], or 0 and 1 [rows, labels].
            with_loss: whether the loss is the plain cross-entropy, so that it is kept.
            with_logits: whether the logits are kept, too, from which decisions are chosen.
        """
        predicted = self.predicted(logits)
        if self.several:
            labels = labels.long()
            for name, metric in metrics.items():
                is_ranking = name == "average_precision"
                given = self.probabilities(logits) if is_ranking else predicted.long()
                metric.update(given, labels)
            kept = classification.multi_label_rows(logits, labels, predicted, with_loss=with_loss)
        else:
            metrics.update(predicted, labels)
            kept = classification.single_label_rows(logits, labels, predicted, with_loss=with_loss)
        return kept | ({"logits": logits} if with_logits else {})

    def scoring(self, frequencies: list[float] | None) -> Scoring:
        """Return how the scores follow from what is kept of rows."""
        make = MultiLabel if self.several else SingleLabel
        return make(labels=self.names, frequencies=frequencies, temperature=self.temperature)

    def rows(self, ids: Sequence[Any], logits: torch.Tensor) -> list[dict[str, Any]]:
        """Return the prediction of each row."""
        chances, predicted = self.probabilities(logits).tolist(), self.predicted(logits).tolist()
        return [
            {
                "id": row_id,
                **self._chosen(row, chosen),
                "probability": dict(zip(self.names, row, strict=True)),
            }
            for row_id, row, chosen in zip(ids, chances, predicted, strict=True)
        ]

    def _chosen(self, chances: list[float], predicted: Any) -> dict[str, Any]:
        if self.several:
            chosen = zip(self.names, predicted, strict=True)
            return {"labels": [name for name, flag in chosen if flag]}
        score = chances[predicted]
        unsure = self.abstain_below is not None and score < self.abstain_below
        return {"label": None if unsure else self.names[predicted], "score": score}

    def facts(self) -> dict[str, Any]:
        """Return the thresholds and the temperature, for the artefact's plcli.json."""
        plain = dict.fromkeys(self.names, decisions.PLAIN) if self.several else {}
        return {
            "thresholds": {**plain, **self.thresholds},
            "temperature": self.temperature or 1.0,
        }

    # chosen on validation rows

    def chosen_on(
        self, columns: Columns, *, calibrate: bool, goal: Any, positive: str
    ) -> tuple["Decider", dict[str, Any]]:
        """Return it with the temperature and thresholds that suit some rows, and what they reach.

        Args:
            columns: what was kept of the rows, with their logits.
            calibrate: whether to choose a temperature.
            goal: what thresholds are chosen for; None leaves them.
            positive: the class that has the threshold, if there are two.
        """
        logits = columns["logits"].astype(np.float64)
        truth = columns["truth"]
        if self.several:
            truth = MultiLabel(labels=self.names).flags(truth)
        made, described = self, dict[str, Any]()
        if calibrate:
            value = decisions.temperature(logits, truth)
            made = replace(made, temperature=value)
            described["temperature"] = value
        if goal is not None:
            chances = decisions.probabilities(
                logits / (made.temperature or 1.0), several=self.several
            )
            labels = self.names if self.several else [positive]
            found: dict[str, float] = {}
            reached: dict[str, Any] = {}
            for name in labels:
                place = self.names.index(name)
                has = truth[:, place] > 0 if self.several else truth == place
                best = decisions.threshold(chances[:, place], has, decisions.aim(goal))
                found[name] = decisions.PLAIN if best is None else best.value
                if best is None:
                    logger.warning(
                        "warning: threshold of %s: stays %g, as the validation rows do not differ "
                        "in it",
                        name,
                        decisions.PLAIN,
                    )
                    continue
                reached[name] = {"precision": best.precision, "recall": best.recall}
                if not best.reached:
                    logger.warning(
                        "warning: threshold of %s: no threshold reaches %s on the validation "
                        "rows; the nearest one has a precision of %.3f and a recall of %.3f",
                        name,
                        goal,
                        best.precision,
                        best.recall,
                    )
            made = replace(made, thresholds=found)
            described |= {"goal": goal, "thresholds": found, "reached": reached}
        return made, described


def checked_positive(positive: str | None, names: Sequence[str]) -> str:
    """Return the class of two that a threshold is of: by default the second one.

    Raises:
        UsageError: if there is no such class.
    """
    if positive is not None and positive not in names:
        raise UsageError(
            f"model.positive: got '{positive}', which is not one of {listed(names)}."
            f"{did_you_mean(positive, names)}"
        )
    return positive or names[-1]


def check(module: Any) -> None:
    """Check the keys of a classifier's decisions.

    Args:
        module: the classifier.

    Raises:
        UsageError: if one does not fit the problem, or another one.
    """
    chosen = {key for key in ("threshold", "goal") if getattr(module, key) is not None}
    if module.threshold == decisions.PLAIN:  # configs of earlier versions have it everywhere
        chosen.discard("threshold")
    several, names = module.problem == "multi_label", module.names
    if module.problem == "regression":
        keys = [*sorted(chosen), *(["calibrate"] if module.calibrate else [])]
        keys += ["abstain_below"] if module.abstain_below is not None else []
        if keys:
            raise UsageError(f"model.{keys[0]}: does not apply to regression. Remove it.")
        return
    if module.goal is not None:
        decisions.aim(module.goal)
    for key in ("threshold", "abstain_below"):
        value = getattr(module, key)
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"model.{key}: got {value}, expected a probability from 0 to 1.")
    if len(chosen) > 1 and module.thresholds is None:  # else the goal has done its work
        raise UsageError(
            "model.threshold and model.goal: both are given, but a goal chooses thresholds. Give "
            "one of them."
        )
    if chosen and not several and len(names) > 2:
        key = sorted(chosen)[0]
        raise UsageError(
            f"model.{key}: is for two classes or several labels a row, but there are "
            f"{len(names)} classes ({listed(names)}), of which the most likely one is predicted. "
            "Remove the key; model.abstain_below leaves unsure rows without a label."
        )
    if several and module.abstain_below is not None:
        raise UsageError(
            "model.abstain_below: is for a single label a row. Use model.threshold instead."
        )
    if not several:
        checked_positive(module.positive, names)


def explained(module: Any, outputs: Any, batch: Mapping[str, Any]) -> Support:
    """Return what a classifier decided on a row, for `plcli.models.attribution`.

    It is the log odds of the predicted label, of several the most likely one, before a temperature;
    for regression the number itself.

    Args:
        module: the classifier.
        outputs: its outputs for a batch of one row.
        batch: the batch.
    """
    if module.problem == "regression":
        return lambda copies: module.scaling.restored(module._standardized(copies))
    logits = outputs.logits.float()
    several = module.decider.several
    place = int(logits[0].argmax() if several else module.decider.predicted(logits)[0])
    if several:
        return lambda copies: copies.logits.float()[:, place]
    return lambda copies: log_odds(copies.logits.float(), torch.tensor(place))


def decider(module: Any) -> Decider:
    """Return how a classifier decides: a threshold that was given wins over chosen ones."""
    several, names = module.problem == "multi_label", module.names
    thresholds = dict(module.thresholds or {})
    two = several or len(names) == 2
    if module.threshold is not None and two:
        one = checked_positive(module.positive, names)
        thresholds = dict.fromkeys(names if several else [one], module.threshold)
    return Decider(
        names=names,
        several=several,
        temperature=module.temperature,
        thresholds=thresholds,
        abstain_below=module.abstain_below,
    )


def joint(deciders: Sequence[Decider]) -> Decider:
    """Return how an ensemble decides: by the mean threshold of each label, without temperature."""
    thresholds = ensemble.mean_thresholds([each.thresholds for each in deciders])
    return replace(deciders[0], temperature=None, thresholds=thresholds)
