"""Distillation: soft losses, teachers that fit, rows without a label, what a student keeps."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from plcli.errors import UsageError
from plcli.models import distillation
from plcli.models.distillation import Teacher
from plcli.models.lora import Lora
from plcli.tasks.masked_lm import MaskedLM
from plcli.tasks.sentence_embedding import SentenceEmbedder
from plcli.tasks.text_classification import TextClassifier
from plcli.tasks.token_classification import TokenClassifier
from tests.callbacks.test_averaging import EMA
from tests.conftest import (
    TINY_BERT,
    Resolved,
    message,
    message_rows,
    number,
    signed,
    write_config,
    write_rows,
    write_text_config,
)
from tests.running import (
    QUICK_BERT,
    TWO_LAYERS,
    adamw,
    card,
    each_once,
    fit_messages,
    own_cache,
    predicted,
    read_json,
    run_plcli,
    saved_state,
    stopped,
    try_fit,
    try_messages,
)

TOKENS = (
    "plcli.tasks.token_classification.TokenClassifier",
    "plcli.tasks.token_classification.TokenClassificationData",
)
EMBEDDER = (
    "plcli.tasks.sentence_embedding.SentenceEmbedder",
    "plcli.tasks.sentence_embedding.SentenceData",
)
BERT = {**QUICK_BERT, "num_hidden_layers": 2}
TAGS = {"late": "B-time", "Paris": "B-place", "London": "B-place"}
WORDS = [
    {"words": text.split(), "tags": [TAGS.get(word, "O") for word in text.split()]}
    for text in ("it is late in Paris", "London is late", "Paris is here", "he is in London")
] * 3
NUMBERS = [
    {"text": row["message"], "n": 100.0 + 10 * (row["intent"] == "praise")}
    for row in message_rows(2)
]
SEVERAL = [
    {"text": row["message"], "tags": [row["intent"]] if row["intent"] != "praise" else []}
    for row in message_rows(2)
]
SCORED = [
    {"text": one["message"], "pair": other["message"], "s": float(one["intent"] == other["intent"])}
    for one in message_rows(1)[::3]
    for other in message_rows(1)[::3]
]
KINDS: dict[str, dict[str, Any]] = {
    "one label": {"rows": message_rows(2), "data": {"text": "message", "label": "intent"}},
    "several": {"rows": SEVERAL, "data": {"label": "tags", "problem": "multi_label"}},
    "number": {"rows": NUMBERS, "data": {"label": "n", "problem": "regression"}},
    "words": {"rows": WORDS, "data": {"words": "words", "tags": "tags"}, "classes": TOKENS},
    "vectors": {"rows": SCORED, "data": {"score": "s"}, "classes": EMBEDDER},
}
LABEL = {"one label": "intent", "several": "tags", "number": "n", "words": "tags", "vectors": "s"}


def train(kind: str, folder: Path, rows: Any = None, **sections: Any) -> Any:
    """Try a fit of one kind of data, with all rows for validation."""
    folder.mkdir(exist_ok=True)
    chosen = KINDS[kind]
    whole = str(write_rows(folder / "all.jsonl", chosen["rows"]))
    some = str(write_rows(folder / "train.jsonl", rows or chosen["rows"]))
    model = {"architecture": BERT, "optimizer": adamw(3e-3), **sections.pop("model", {})}
    data = {"train": some, "validation": whole, "test": whole, "batch_size": 8}
    data |= {"wordpieces": 120, **chosen["data"], **sections.pop("data", {})}
    classes = {"classes": chosen["classes"]} if "classes" in chosen else {}
    return try_fit(folder, model=model, data=data, trainer=sections, **classes)


def train_teacher(kind: str, folder: Path) -> Path:
    result = train(kind, folder, max_epochs=3, enable_progress_bar=False)
    assert result.code == 0, result.err
    return folder / "run"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the run folder of a teacher of a kind of data."""
    return each_once(train_teacher, tmp_path_factory)


# losses


def test_the_soft_loss_is_the_divergence_at_a_temperature_times_its_square() -> None:
    student, other = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[3.0, 0.0, 1.0]])
    p, q = (other / 4).softmax(-1), (student / 4).softmax(-1)
    expected = 16 * (p * (p / q).log()).sum()
    torch.testing.assert_close(distillation.divergence(student, other, temperature=4), expected)
    assert float(distillation.divergence(other, other, temperature=4)) == pytest.approx(0, abs=1e-6)


def test_each_of_several_labels_has_a_divergence_of_its_own() -> None:
    student, other = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 3.0]])
    p, q = (other / 2).sigmoid(), (student / 2).sigmoid()
    each = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    found = distillation.several_divergence(student, other, temperature=2)
    torch.testing.assert_close(found, 4 * each.mean())


def module(kind: str, run: Path | None, **arguments: Any) -> Any:
    """Make a student of a teacher's facts."""
    facts = dict(card(run)["facts"]) if run is not None else {}
    cls: Any = {"words": TokenClassifier, "vectors": SentenceEmbedder}.get(kind, TextClassifier)
    facts = {name: value for name, value in facts.items() if name in cls.__dataclass_fields__}
    return cls(architecture=TWO_LAYERS, **{**facts, **arguments})


def batch_of(labels: list[int], length: int = 5) -> dict[str, torch.Tensor]:
    ids = torch.arange(len(labels) * length).view(-1, length) % 40 + 5
    mask = torch.ones_like(ids)
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor(labels)}


def gradient(student: Any, *pieces: Any) -> torch.Tensor:
    student.zero_grad()
    student.log = lambda *args, **kwargs: None
    student.training_step({"pieces": pieces}, 0).backward()
    return student.model.classifier.weight.grad.clone()


def test_the_gradient_of_micro_batches_is_that_of_the_whole_batch(
    teacher: Callable[[str], Path],
) -> None:
    run = teacher("one label")
    student = module("one label", run, teacher=str(run)).eval()
    labels = [0, -100, 2, 1, -100, -100]
    whole = batch_of(labels)
    parts = [
        {name: value[rows] for name, value in whole.items()} for rows in ([0, 3], [1, 2], [4, 5])
    ]
    torch.testing.assert_close(gradient(student, *parts), gradient(student, whole))


def test_both_losses_are_means_of_their_own_rows(teacher: Callable[[str], Path]) -> None:
    run = teacher("one label")
    settings = Teacher(run=str(run), weight=0.3, temperature=3)
    student = module("one label", run, teacher=settings).eval()
    rows = batch_of([0, -100, 2])
    student.log = lambda *args, **kwargs: None
    found = student.training_step({"pieces": [rows]}, 0)
    logits = student(rows).logits
    soft = student.distillation.teacher(rows).logits
    hard = torch.nn.functional.cross_entropy(logits[[0, 2]], torch.tensor([0, 2]))
    expected = 0.7 * hard + 0.3 * distillation.divergence(logits, soft, temperature=3)
    torch.testing.assert_close(found, expected)


def test_labels_are_matched_by_name(teacher: Callable[[str], Path]) -> None:
    run = teacher("one label")
    names = list(card(run)["facts"]["labels"])
    student = module("one label", run, teacher=str(run), labels=names[::-1])
    prepared = student.distillation.prepared(student, [batch_of([0, 1])])
    expected = student.distillation.teacher(batch_of([0, 1])).logits.flip(-1)
    torch.testing.assert_close(prepared[0]["soft"], expected)


def test_the_teacher_is_no_part_of_the_module(teacher: Callable[[str], Path]) -> None:
    run = teacher("one label")
    torch.manual_seed(3)
    alone = module("one label", run)
    torch.manual_seed(3)
    student = module("one label", run, teacher=str(run))
    one, other = alone.state_dict(), student.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert sum(p.numel() for p in student.parameters()) == sum(
        p.numel() for p in alone.parameters()
    )
    student.train()
    inner = student.distillation.teacher
    assert not inner.training
    assert not any(parameter.requires_grad for parameter in inner.parameters())


# through the command


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_learns_to_agree_with_its_teacher(
    teacher: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    run = teacher(kind)
    settings = {"run": str(run), "weight": 1.0}
    model = {"teacher": settings, "optimizer": adamw(5e-3)}
    result = train(kind, tmp_path / "s", model=model, max_epochs=12, enable_progress_bar=False)
    assert result.code == 0, result.err
    inputs = write_rows(tmp_path / "inputs.jsonl", KINDS[kind]["rows"])
    first, last = (predicted(each, inputs) for each in (run, tmp_path / "s" / "run"))
    if kind == "number":
        differences = [abs(a["score"] - b["score"]) for a, b in zip(first, last, strict=True)]
        assert sum(differences) / len(differences) < 3
    elif kind == "vectors":
        cosine = torch.nn.functional.cosine_similarity
        vectors = [torch.tensor([row["embedding"] for row in rows]) for rows in (first, last)]
        assert float(cosine(*vectors).mean()) > 0.9
    else:
        name = {"words": "tags", "several": "labels"}.get(kind, "label")
        agree = [a[name] == b[name] for a, b in zip(first, last, strict=True)]
        assert sum(agree) / len(agree) > 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_a_label_are_trained_on(
    teacher: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    rows = [dict(row) for row in KINDS[kind]["rows"]]
    for row in rows[1::3]:
        row[LABEL[kind]] = None
    refused = train(kind, tmp_path / "without", rows=rows)
    assert refused.code == 3
    assert f"row 2: column '{LABEL[kind]}'" in message(refused)
    model = {"teacher": str(teacher(kind))}
    done = train(kind, tmp_path / "with", rows=rows, model=model)
    assert done.code == 0, done.err
    missing = len(rows[1::3])
    assert f"train: {len(rows)} rows, {missing} without a label, for the teacher alone" in done.err


def test_the_artefact_and_its_card_name_the_teacher(
    teacher: Callable[[str], Path], tmp_path: Path
) -> None:
    run = teacher("one label")
    settings = {"run": str(run / "model"), "temperature": 3.0}
    done = train("one label", tmp_path / "s", model={"teacher": settings})
    assert done.code == 0, done.err
    student = card(tmp_path / "s" / "run")
    digest = card(run)["card_sha256"]
    told = f"teacher: name run, sha256 {digest[:16]}, weight 0.5, temperature 3.0"
    assert told in done.err
    assert student["teacher"] == {
        "name": "run",
        "sha256": digest,
        "weight": 0.5,
        "temperature": 3.0,
    }
    assert "teacher" not in student["model"]["init_args"]
    page = (tmp_path / "s" / "run" / "model" / "README.md").read_text()
    assert f"learned from the outputs of `run` (plcli.json `{digest[:16]}`)" in page
    state = torch.load(tmp_path / "s/run/checkpoints/last.ckpt", weights_only=True)
    assert state["teacher"] == digest
    assert state["hyper_parameters"]["teacher"] is None


def test_a_teacher_is_not_needed_any_more_once_its_student_is_trained(
    teacher: Callable[[str], Path], tmp_path: Path
) -> None:
    copied = teacher("one label").rename(tmp_path / "moved")
    try:
        done = train("one label", tmp_path / "s", model={"teacher": str(copied)})
        assert done.code == 0, done.err
    finally:
        copied.rename(teacher("one label"))
    with own_cache(tmp_path / "s"):
        for words in ([], ["--ckpt_path", "last"]):
            result = run_plcli("predict", "--run", tmp_path / "s" / "run", "late again", *words)
            assert result.code == 0, result.err
            assert json.loads(result.out)["label"] in ("billing", "delivery", "praise")


def test_a_split_off_of_rows_without_a_label_is_the_same_afterwards(
    teacher: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = [dict(row) for row in message_rows(4)]
    for row in rows[1::4]:
        row["intent"] = None
    own = {"validation": None, "validation_fraction": 0.3}
    done = train(
        "one label", tmp_path / "s", rows, model={"teacher": str(teacher("one label"))}, data=own
    )
    assert done.code == 0, done.err
    with own_cache(tmp_path / "s"):
        again = run_plcli("validate", "--run", tmp_path / "s" / "run")
    assert again.code == 0, again.err
    before = read_json(tmp_path / "s" / "run" / "metrics.json")["validation"]["loss"]
    assert number(again, "loss") == pytest.approx(before, abs=2e-4)


@pytest.mark.parametrize("short", ["config", "command line"])
def test_settings_may_be_given_beside_the_run_alone(
    teacher: Callable[[str], Path], resolved: Resolved, tmp_path: Path, short: str
) -> None:
    config = write_text_config(tmp_path)
    words = ["--model.teacher", teacher("one label")]
    if short == "config":
        values = yaml.safe_load(config.read_text())
        values["model"]["init_args"]["teacher"] = str(teacher("one label"))
        config, words = write_config(tmp_path / "taught.yaml", **values), []
    alone = resolved("-c", config, *words)["model"]["init_args"]["teacher"]
    assert alone == str(teacher("one label"))
    found = resolved("-c", config, *words, "--model.teacher.weight", "0.25")
    settings = found["model"]["init_args"]["teacher"]
    assert settings == {"run": str(teacher("one label")), "weight": 0.25} | {
        "temperature": None,
        "loss": None,
    }


@pytest.mark.parametrize("short", [True, False])
def test_a_student_is_found_by_its_config(
    teacher: Callable[[str], Path], tmp_path: Path, short: bool
) -> None:
    run = str(teacher("one label"))
    values = yaml.safe_load(write_text_config(tmp_path).read_text())
    values["model"]["init_args"]["teacher"] = run if short else {"run": run, "weight": 0.7}
    config = write_config(tmp_path / "taught.yaml", **values)
    assert run_plcli("fit", "-c", config).code == 0
    result = run_plcli("test", "-c", config)
    assert result.code == 0, result.err
    assert "using runs/taught-1, the newest finished run of this config" in result.err


def messages_teacher(folder: Path) -> str:
    return str(fit_messages(folder, max_epochs=1))


@pytest.mark.parametrize(
    ("model", "trainer"),
    [
        ({"unpadded": True}, {}),
        (
            {"gradient_checkpointing": True, "r_drop": 0.5, "class_weights": "auto"}
            | {"adversarial": {"kind": "fgm"}},
            {"precision": "bf16-mixed", "callbacks": [EMA]},
        ),
        ({"unpadded": False}, {"precision": "bf16-true", "accumulate_grad_batches": 2}),
    ],
    ids=["unpadded", "checkpointing-r_drop-fgm-weights-bf16-ema", "bf16-true-accumulation"],
)
def test_a_run_with_a_teacher_resumes_exactly(tmp_path: Path, model: Any, trainer: Any) -> None:
    settings = {"run": messages_teacher(tmp_path / "teacher"), "weight": 0.7}
    sections = {"model": {"teacher": settings, **model}, "max_epochs": 2, **trainer}
    rows = [dict(row) for row in message_rows(2)]
    rows[5]["intent"] = rows[11]["intent"] = None  # type: ignore[assignment]
    part = str(write_rows(tmp_path / "part.jsonl", rows))  # type: ignore[arg-type]
    sections["data"] = {"train": part}
    words = ("--confirm", "bf16-true")
    whole = fit_messages(tmp_path / "whole", *words, **sections)
    with stopped(TextClassifier, lambda module, index: module.current_epoch == 1 and index == 1):
        assert try_messages(tmp_path / "cut", *words, **sections).code == 130
    again = fit_messages(tmp_path / "cut", *words, **sections)
    one, other = saved_state(whole), saved_state(again)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_resumed_run_refuses_another_teacher(tmp_path: Path) -> None:
    run = Path(messages_teacher(tmp_path / "teacher"))
    sections: dict[str, Any] = {"model": {"teacher": str(run)}, "max_epochs": 2}
    with stopped(TextClassifier, lambda module, index: module.current_epoch == 1):
        assert try_messages(tmp_path / "cut", **sections).code == 130
    plain = json.loads((run / "model" / "plcli.json").read_text())
    (run / "model" / "plcli.json").write_text(json.dumps({**plain, "max_length": 77}))
    signed(run / "model")
    result = try_messages(tmp_path / "cut", **sections)
    assert result.code == 4
    assert "is not the model that this checkpoint has learned from" in message(result)


def test_low_rank_updates_learn_from_a_teacher(teacher: Callable[[str], Path]) -> None:
    run = teacher("one label")
    facts = {"labels": card(run)["facts"]["labels"]}
    base = str(run / "model")
    student = TextClassifier(pretrained=base, teacher=str(run), lora=Lora(), **facts)
    before = student.distillation.teacher.model.state_dict()
    kept = {name: tensor.clone() for name, tensor in before.items()}
    student.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    student.training_step({"pieces": [batch_of([0, 1])]}, 0).backward()
    trained = [name for name, each in student.model.named_parameters() if each.grad is not None]
    assert any("lora_" in name for name in trained)
    after = student.distillation.teacher.model.state_dict()
    assert all(torch.equal(kept[name], after[name]) for name in kept)


# what is refused


def test_other_labels_are_refused(teacher: Callable[[str], Path]) -> None:
    run = teacher("one label")
    expected = r"only the data have: refund; only the teacher has: praise"
    with pytest.raises(UsageError, match=expected):
        module("one label", run, teacher=str(run), labels=["billing", "delivery", "refund"])


def test_another_tokenizer_is_refused(teacher: Callable[[str], Path], tmp_path: Path) -> None:
    from tests.tiny import save_bert

    torch.manual_seed(0)
    base = save_bert(tmp_path / "base")
    model = {"architecture": None, "pretrained": str(base), "teacher": str(teacher("one label"))}
    result = train("one label", tmp_path / "s", model=model)
    assert result.code == 2
    assert "differs from that of the data, so that the teacher would read other words" in message(
        result
    )
    assert not (tmp_path / "s" / "run").exists()


def test_a_student_from_random_weights_has_the_tokenizer_of_its_teacher(
    teacher: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = message_rows(1)[:9]
    model = {"teacher": str(teacher("one label"))}
    done = train("one label", tmp_path / "s", rows=rows, model=model)
    assert done.code == 0, done.err
    assert (
        card(tmp_path / "s" / "run")["facts"]["vocab_size"]
        == (card(teacher("one label"))["facts"]["vocab_size"])
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"temperature": 0.0}, r"model\.teacher\.temperature: got 0\.0, expected more than 0"),
        ({"temperature": math.inf}, r"model\.teacher\.temperature: got inf, expected more than 0"),
        ({"weight": 0.0}, r"model\.teacher\.weight: got 0\.0, expected above 0, to 1"),
        ({"weight": 1.1}, r"model\.teacher\.weight: got 1\.1, expected above 0, to 1"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: Any, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        Teacher(run="x", **settings)


@pytest.mark.parametrize(
    ("kind", "settings", "arguments", "expected"),
    [
        ("one label", {"loss": "mse"}, {}, r"model\.teacher\.loss: TextClassifier has no use"),
        ("number", {"temperature": 2}, {}, r"model\.teacher\.temperature: a regression has no use"),
        ("vectors", {"temperature": 2}, {}, r"temperature: SentenceEmbedder has no use for it"),
        (
            "vectors",
            {},
            {"architecture": {**TINY_BERT, "hidden_size": 16}},
            r"the vectors of .* have 32 numbers, those of the student 16",
        ),
        (
            "one label",
            {},
            {"problem": "regression", "labels": None},
            r"is of problem single_label, but the data are of regression",
        ),
        ("one label", {}, {"max_length": 600}, r"data\.max_length: 600 tokens are more than the"),
    ],
)
def test_what_does_not_fit_is_refused(
    teacher: Callable[[str], Path], kind: str, settings: Any, arguments: Any, expected: str
) -> None:
    run = teacher(kind)
    arguments = {"architecture": {**TWO_LAYERS, "max_position_embeddings": 700}, **arguments}
    cls: Any = SentenceEmbedder if kind == "vectors" else TextClassifier
    facts = {name: card(run)["facts"].get(name) for name in ("labels", "problem")}
    facts = {} if kind == "vectors" else facts
    with pytest.raises(UsageError, match=expected):
        cls(**{**facts, **arguments, "teacher": Teacher(run=str(run), **settings)})


def test_a_teacher_of_another_task_is_refused(
    teacher: Callable[[str], Path], tmp_path: Path
) -> None:
    result = train("one label", tmp_path / "s", model={"teacher": str(teacher("words"))})
    assert result.code == 4
    assert "is a model for token-classification, but the student is for text-classification" in (
        message(result)
    )


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    result = train("one label", tmp_path / "s", model={"teacher": str(tmp_path / "nothing")})
    assert result.code == 4
    told = "nothing is neither a finished run nor the model/ folder of one (plcli.json). Name one."
    assert f"model.teacher: {tmp_path}/{told}" in message(result)


def test_a_task_without_soft_labels_refuses_a_teacher(teacher: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError, match="model.teacher: MaskedLM cannot be distilled; text and"):
        MaskedLM(architecture=TINY_BERT, vocab_size=40, teacher=str(teacher("one label")))


def test_rows_without_a_label_need_a_teacher(tmp_path: Path) -> None:
    result = train("one label", tmp_path / "s", data={"unlabelled": True})
    assert result.code == 2
    assert (
        "data.unlabelled: rows without a label are learned from a teacher, but there is none."
        in (message(result))
    )
