"""Distillation: a network learns from the outputs of a trained one, its teacher, beside the labels.

The loss of a batch is

    (1 - weight) * mean hard loss over what is labelled + weight * mean soft loss over everything

so that rows without a label have the soft loss alone. That of classes is the Kullback-Leibler
divergence of both networks' probabilities at a temperature, times its square, so that its gradient
does not shrink with the temperature (Hinton et al. 2015, https://arxiv.org/abs/1503.02531).

The teacher is an artefact of the same task. It runs in evaluation mode without gradients, and is no
part of the module that learns: not of its parameters, its checkpoints or its artefact.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch.nn import functional

from plcli.config.marks import marked
from plcli.errors import ModelError, UsageError, listed
from plcli.models.ensemble import with_logits
from plcli.models.init_from import opened
from plcli.pretrained import tokenizers, weights
from plcli.pretrained.label_ids import IGNORED
from plcli.runs import artefact

logger = logging.getLogger(__name__)

TEMPERATURE = 2.0
Batch = Mapping[str, Any]


@dataclass(kw_only=True)
class Teacher:
    """Settings of a teacher; instead of them, the run alone may be given.

    Args:
        run: a finished run of plcli or its model/ folder, of the same task and labels.
        temperature: what the logits of both networks are divided by; by default 2.
        weight: the weight of the soft loss; that of the labels has the rest to 1.
        loss: of sentence embeddings: cosine, by default, or mse, the squared difference.
    """

    run: str
    temperature: float | None = None
    weight: float = 0.5
    loss: Literal["cosine", "mse"] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise UsageError(
                f"model.teacher.temperature: got {self.temperature}, expected more than 0."
            )
        if not 0 < self.weight <= 1:
            raise UsageError(f"model.teacher.weight: got {self.weight}, expected above 0, to 1.")


class Rows:
    """Soft labels of rows: of one label, of several labels, or of a number.

    Args:
        student: the module that learns.
        teacher: the module of the teacher.
        settings: its settings.

    Raises:
        UsageError: if the teacher is of other labels, or a setting does not apply.
    """

    kept: ClassVar[Sequence[str]] = ("pooling",)  # arguments of the teacher besides its facts

    def __init__(self, student: Any, teacher: Any, settings: Teacher) -> None:
        self.problem = getattr(student, "problem", "single_label")
        problem = getattr(teacher, "problem", "single_label")
        if problem != self.problem:
            raise UsageError(
                f"model.teacher: {settings.run} is of problem {problem}, but the data are of "
                f"{self.problem}. Name a run of the same problem."
            )
        _refuse(settings, "loss", type(student).__name__)
        if self.problem == "regression":
            _refuse(settings, "temperature", "a regression")
        else:
            self.order = torch.tensor(_order(student.names, teacher.names, settings.run))
        self.temperature = settings.temperature or TEMPERATURE

    def soft(self, teacher: Any, outputs: Any) -> torch.Tensor:
        """Return the teacher's logits in the order of the student's labels, or its numbers.

        Float32 [..., labels], or [rows] in the unit of the targets.
        """
        if self.problem == "regression":
            numbers: torch.Tensor = teacher.scaling.restored(teacher._standardized(outputs))
            return numbers
        logits: torch.Tensor = outputs.logits.float()
        return logits[..., self.order.to(logits.device)]

    def loss(self, student: Any, outputs: Any, soft: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the mean soft loss."""
        if self.problem == "regression":
            known = student.scaling.standardized(soft)
            return functional.mse_loss(student._standardized(outputs), known)
        of_logits = several_divergence if self.problem == "multi_label" else divergence
        return of_logits(outputs.logits, soft, temperature=self.temperature)

    def count(self, batch: Batch) -> float:
        """Return the number of terms of the soft loss: of rows."""
        return float(len(batch["labels"]))

    def labelled(self, outputs: Any, batch: Batch) -> tuple[Any, Batch]:
        """Return the outputs and the batch of the rows that have a label."""
        label_ids = batch["labels"]
        known = ~label_ids.isnan() if label_ids.is_floating_point() else label_ids != IGNORED
        known = known if known.ndim == 1 else known.all(-1)
        if outputs is not None:
            outputs = with_logits(outputs, outputs.logits[known])
        return outputs, {"labels": label_ids[known]}


class Words(Rows):
    """Soft labels of words, on the word pieces that are trained on."""

    kept = ()

    def loss(self, student: Any, outputs: Any, soft: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the mean soft loss over words."""
        counted = self._counted(batch)
        logits, soft = outputs.logits[counted], soft[counted]
        return divergence(logits, soft, temperature=self.temperature)

    def count(self, batch: Batch) -> float:
        """Return the number of words, also of those without a label."""
        return float(self._counted(batch).sum())

    def labelled(self, outputs: Any, batch: Batch) -> tuple[Any, Batch]:
        """Return both as they are: the loss ignores words without a label."""
        return outputs, batch

    def _counted(self, batch: Batch) -> torch.Tensor:
        """Return which tokens are the first one of a word, bool [windows, tokens]."""
        found: torch.Tensor = batch.get("start", batch["labels"]) != IGNORED
        return found


class Vectors:
    """The teacher's vectors as targets of sentence embeddings; see `Rows`."""

    kept: ClassVar[Sequence[str]] = ()

    def __init__(self, student: Any, teacher: Any, settings: Teacher) -> None:
        _refuse(settings, "temperature", type(student).__name__)
        own, other = student.model.config.hidden_size, teacher.model.config.hidden_size
        if own != other:
            raise UsageError(
                f"model.teacher: the vectors of {settings.run} have {other} numbers, those of the "
                f"student {own}, so that they cannot be compared. Train a student of the same "
                "hidden size, such as with model.keep_layers, or a teacher of the student's size."
            )
        self.by_cosine = settings.loss != "mse"

    def soft(self, teacher: Any, outputs: torch.Tensor) -> torch.Tensor:
        """Return the teacher's vectors, float32 [rows, texts per row, dimension]."""
        return outputs.float()

    def loss(
        self, student: Any, outputs: torch.Tensor, soft: torch.Tensor, batch: Batch
    ) -> torch.Tensor:
        """Return the mean over texts of 1 - cosine, or of the squared difference."""
        if self.by_cosine:
            return 1 - functional.cosine_similarity(outputs.float(), soft, dim=-1).mean()
        return functional.mse_loss(outputs.float(), soft)

    def count(self, batch: Batch) -> float:
        """Return the number of rows."""
        return float(len(batch["order"]))

    def labelled(self, outputs: torch.Tensor | None, batch: Batch) -> tuple[Any, Batch]:
        """Return the vectors and the batch of the rows that have a score, if rows have scores."""
        if "labels" not in batch:
            return outputs, batch
        known = ~batch["labels"].isnan()
        part = {name: batch[name][known] for name in ("labels", "order", "keys")}
        return None if outputs is None else outputs[known], part


class Distillation:
    """The teacher of a module.

    It is an ordinary object, so that torch does not find the teacher among the module's parts.

    Args:
        student: the TransformerModule that learns.

    Raises:
        UsageError, ModelError: if there is no such teacher, or it does not fit the student.
    """

    def __init__(self, student: Any) -> None:
        settings: Teacher = student.teacher
        if student.distils is None:
            raise UsageError(
                f"model.teacher: {type(student).__name__} cannot be distilled; text and token "
                "classification and sentence embeddings can. Remove the key."
            )
        self.settings = settings
        found = opened(settings.run, "teacher")
        self.folder, self.card = found.folder, found.card
        if self.card.get("task") != student.task:
            raise ModelError(
                f"model.teacher: {settings.run} is a model for {self.card.get('task')}, but the "
                f"student is for {student.task}. Name a run of the same task."
            )
        with torch.random.fork_rng(devices=[]):  # the student starts as without a teacher
            self.teacher = _module(type(student), found)
        self.kind = student.distils(student, self.teacher, settings)
        self._check_length(student)
        told = {**self.facts(), "sha256": self.digest[:16]}
        logger.info("teacher: %s", ", ".join(f"{name} {value}" for name, value in told.items()))

    def __deepcopy__(self, memo: Any) -> "Distillation":
        """Return itself: callbacks that copy a module to average its weights need no other."""
        return self

    @property
    def digest(self) -> str:
        """The sha256 of the teacher's plcli.json, which has those of its other files."""
        return str(self.card.get(artefact.CARD_SUM) or self.card["sha256"])

    def facts(self) -> dict[str, Any]:
        """Return what the artefact says of the teacher."""
        named = self.folder.parent if self.folder.name == "model" else self.folder
        found = {
            "name": named.absolute().name,
            "sha256": self.digest,
            "weight": self.settings.weight,
            "temperature": getattr(self.kind, "temperature", None),
            "loss": self.settings.loss,
        }
        return {name: value for name, value in found.items() if value is not None}

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Check that the tokenizer of the data gives the ids that the teacher was trained on.

        Raises:
            UsageError: if it does not.
        """
        own = tokenizers.load_tokenizer(str(self.folder))
        if tokenizers.tokenizer_key(own) != tokenizers.tokenizer_key(tokenizer):
            raise UsageError(
                f"model.teacher: the tokenizer of {self.settings.run} differs from that of the "
                "data, so that the teacher would read other words. Train the student from weights "
                "with the same tokenizer (model.keep_layers makes a smaller one of them), or with "
                f"model.architecture and data.tokenizer {self.folder}, or train a teacher with "
                "this tokenizer."
            )
        types = "token_type_ids"
        if types in own.model_input_names and types not in tokenizer.model_input_names:
            logger.warning(
                "model.teacher: %s reads which text of a pair a token is of, but the tokenizer of "
                "the data does not say it. For pairs, set data.tokenizer: %s",
                *(self.settings.run, self.folder),
            )

    def check_resumed(self, digest: Any) -> None:
        """Check that a resumed run has the teacher that it began with.

        Raises:
            ModelError: if it has another one.
        """
        if digest not in (None, self.digest):
            raise ModelError(
                f"model.teacher: {self.settings.run} is not the model that this checkpoint has "
                "learned from: it is another one, or its plcli.json has changed. Give that model, "
                "or start from the weights alone, with model.init_from."
            )

    def _check_length(self, student: Any) -> None:
        limit, longest = weights.most_positions(self.teacher.model), student.max_length
        if limit is not None and longest is not None and longest > limit:
            raise UsageError(
                f"data.max_length: {longest} tokens are more than the {limit} positions of the "
                f"teacher {self.settings.run}. Set it to {limit} or less."
            )

    def prepared(self, student: Any, micro_batches: Sequence[Batch]) -> list[dict[str, Any]]:
        """Return micro-batches with the outputs of the teacher.

        Each also has the number of terms of its soft loss, `terms`, and `hard_weight`, the factor
        of its hard loss with which the sum of the micro-batches by their terms is the mean over
        what is labelled.
        """
        teacher, dtype = self.teacher, student.model.dtype
        if teacher.device != student.device:
            teacher.to(student.device)
        if teacher.model.dtype != dtype:
            teacher.model.to(dtype)  # the network alone: the unit of its targets stays in float32
        counts = [self.kind.count(each) for each in micro_batches]
        hard = [student.count(self.kind.labelled(None, each)[1]) for each in micro_batches]
        shares = [_share(part, sum(hard)) for part in hard]
        found = []
        for batch, count, share in zip(micro_batches, counts, shares, strict=True):
            inputs = {name: value for name, value in batch.items() if name != "labels"}
            with torch.no_grad():
                soft = self.kind.soft(teacher, teacher(inputs))
            factor = share / _share(count, sum(counts)) if count else 0.0
            found.append({**batch, "soft": soft, "terms": count, "hard_weight": factor})
        return found

    def loss(self, student: Any, outputs: Any, batch: Batch) -> torch.Tensor:
        """Return the mean soft loss of a micro-batch, and the part of its hard loss."""
        weight = self.settings.weight
        loss: torch.Tensor = weight * self.kind.loss(student, outputs, batch["soft"], batch)
        if batch["hard_weight"] and weight < 1:
            hard = student.loss(*self.kind.labelled(outputs, batch))
            loss = loss + (1 - weight) * batch["hard_weight"] * hard
        return loss

    def divergence(self, student: Any, first: Any, second: Any, batch: Batch) -> torch.Tensor:
        """Return the divergence of two passes (R-Drop) where there are labels."""
        soft: torch.Tensor = batch["soft"]
        if not batch["hard_weight"]:
            return soft.new_zeros(())
        one, labelled = self.kind.labelled(first, batch)
        other, _ = self.kind.labelled(second, batch)
        found: torch.Tensor = student.divergence(one, other, labelled) * batch["hard_weight"]
        return found


def divergence(logits: torch.Tensor, soft: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """Return the mean divergence of classes from those of a teacher, times the temperature squared.

    Args:
        logits: float [terms, classes].
        soft: the logits of the teacher, float [terms, classes].
        temperature: what both are divided by.
    """
    student, teacher = (each.float() / temperature for each in (logits, soft))
    found: torch.Tensor = functional.kl_div(
        student.log_softmax(-1), teacher.log_softmax(-1), reduction="batchmean", log_target=True
    )
    return found * temperature**2


def several_divergence(
    logits: torch.Tensor, soft: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    """Return the mean divergence of each label by itself; see `divergence`."""
    student, teacher = (each.float() / temperature for each in (logits, soft))
    cross = functional.binary_cross_entropy_with_logits
    chances = teacher.sigmoid()
    found: torch.Tensor = cross(student, chances) - cross(teacher, chances)
    return found * temperature**2


def _refuse(settings: Teacher, name: str, what: str) -> None:
    if getattr(settings, name) is not None:
        raise UsageError(f"model.teacher.{name}: {what} has no use for it. Remove the key.")


def _order(names: Sequence[str], others: Sequence[str], run: str) -> list[int]:
    """Return the place of each label among those of the teacher.

    Raises:
        UsageError: if they have not the same labels.
    """
    own, known = set(names), set(others)
    if own != known:
        details = [
            f"{what}: {listed(sorted(found))}"
            for what, found in (
                ("only the data have", own - known),
                ("only the teacher has", known - own),
            )
            if found
        ]
        raise UsageError(
            f"model.teacher: the labels of {run} are not those of the data ({'; '.join(details)}). "
            "Name a run with the same labels, or train one on these data."
        )
    return [list(others).index(name) for name in names]


def _module(kind: Any, found: artefact.Artefact) -> Any:
    """Make the module of an artefact, in evaluation mode."""
    facts = {name: found.facts[name] for name in marked(kind, "fact") & found.facts.keys()}
    given = ((found.card.get("model") or {}).get("init_args")) or {}
    kept = {name: given[name] for name in kind.distils.kept if name in given}
    try:
        made = kind(pretrained=str(found.folder), **facts, **kept)
    except ModelError as error:
        raise ModelError(f"model.teacher: {str(error).removeprefix('pretrained: ')}") from error
    return made.eval().requires_grad_(False)


def _share(part: float, total: float) -> float:
    return part / total if total else 0.0
