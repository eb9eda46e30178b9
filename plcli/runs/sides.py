"""What is compared of a run: of a campaign its mean and its ensemble, named and never mixed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plcli.config.files import load_yaml
from plcli.errors import ModelError
from plcli.runs import artefact, campaign, metrics_file
from plcli.runs.folder import ENSEMBLE, Run, flat


@dataclass(frozen=True)
class Scored:
    """The scores of a split.

    Attributes:
        name: the run, of a campaign with what the scores are of.
        scores: each score by its name, and their intervals.
        deviation: the standard deviation of each mean over the sub-runs of a campaign.
    """

    name: str
    scores: Mapping[str, Any]
    deviation: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Side:
    """A run that is compared.

    Attributes:
        name: the run as it was given.
        run: its folder.
        metrics: the content of its metrics.json.
    """

    name: str
    run: Run
    metrics: Mapping[str, Any]

    @property
    def campaign(self) -> campaign.Campaign | None:
        """The campaign that it is; None for a single run."""
        return campaign.read(self.run.folder) if campaign.exists(self.run.folder) else None

    @property
    def best(self) -> str:
        """The name, of a campaign with its best sub-run, whose model, config and rows it has."""
        if self.campaign is None:
            return self.name
        return f"{self.name} ({self.metrics[campaign.MARK]['best']}, its best)"

    @property
    def averaged(self) -> str:
        """The name of a campaign with its ensemble."""
        assert self.campaign is not None
        return f"{self.name} (ensemble of {len(self.campaign.numbers)})"

    def scored(self, split: str) -> list[Scored]:
        """Return the scores of a run, or the means of a campaign and the scores of its ensemble."""
        found = self.campaign
        if found is None:
            return [Scored(self.name, self.metrics.get(split) or {})]
        own = self.metrics[campaign.MARK]
        means = f"{self.name} (mean of {len(found.numbers)} {found.kind})"
        shown = [
            Scored(means, own["mean"].get(split) or {}, own["deviation"].get(split) or {}),
        ]
        if split == "validation" and own.get("out_of_fold"):
            shown = [Scored(f"{self.name} (out of fold)", own["out_of_fold"])]
        if split == "test" and (averaged := self._of_ensemble()):
            shown.append(Scored(self.averaged, averaged))
        return shown

    def _of_ensemble(self) -> dict[str, Any]:
        """Return the test scores of the ensemble; empty if it was not tested on the same rows."""
        path = self.run.folder / ENSEMBLE
        found: dict[str, Any] = metrics_file.read(Run(path)).get("test") or {}
        prints = {
            (each.get("test") or {}).get("fingerprint")
            for each in self.metrics[campaign.MARK]["runs"].values()
        }
        return found if {found.get("fingerprint")} == prints else {}

    @property
    def has_ensemble(self) -> bool:
        """Whether its ensemble was tested on the test rows of its sub-runs."""
        return self.campaign is not None and bool(self._of_ensemble())

    def rows(self, *, ensemble: bool) -> tuple[str, Path]:
        """Return the folder of the test rows, and whose predictions they have.

        Args:
            ensemble: whether they are to be those of the ensemble, if there is one.
        """
        if ensemble and self.has_ensemble:
            return self.averaged, self.run.folder / ENSEMBLE
        return self.best, self.run.folder

    def config(self) -> dict[str, Any]:
        """Return the config by dotted key, of a campaign with all its seeds or folds."""
        if not self.run.config.exists():
            return {}
        values = dict(flat(load_yaml(self.run.config)))
        if (found := self.campaign) is not None:
            values[campaign.OF_A_MEMBER[found.kind]] = ", ".join(map(str, found.numbers))
        return values

    @property
    def task(self) -> str | None:
        """The task of its model, with the problem if it has several; None if it is not known."""
        path = self.run.model / artefact.CARD
        if not path.is_file():
            return None
        try:
            card = dict(json.loads(path.read_text(encoding="utf-8")))
            task, problem = card.get("task"), (card.get("facts") or {}).get("problem")
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"{path}: is damaged ({error}). Train the run again.") from None
        return task if task is None or problem is None else f"{task} ({problem})"
