"""TransformerModule: building, optimizer groups, schedule, clipping, batches in pieces."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from plcli.errors import ModelError, UsageError
from plcli.tasks.text_classification import TextClassificationData, TextClassifier
from tests.conftest import TINY_BERT, Command, message_rows, write_rows
from tests.running import RECORDER, TWO_LAYERS, Recorder, adamw, changed, fit

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SIZES = {"vocab_size": 40, "pad_token_id": 0, "max_length": 16}


@pytest.fixture
def recorded() -> type[Recorder]:
    """The recorder, with nothing noted."""
    Recorder.clear()
    return Recorder


def classifier(**arguments: Any) -> TextClassifier:
    """Build a tiny classifier with no data."""
    return TextClassifier(
        **{"architecture": TINY_BERT, "labels": ["a", "b", "c"], **SIZES, **arguments}
    )


def optimizer_of(module: TextClassifier, *, steps: int = 100) -> torch.optim.Optimizer:
    """Return the optimizer that a trainer of so many steps would get."""
    module._trainer = SimpleNamespace(estimated_stepping_batches=steps)  # type: ignore[assignment]
    optimizer: torch.optim.Optimizer = module.configure_optimizers()["optimizer"]
    return optimizer


def fit_messages(
    folder: Path, *words: object, model: Any = None, data: Any = None, **trainer: Any
) -> Path:
    """Fit a tiny classifier on 24 messages in 6 batches an epoch, and let the recorder look on."""
    source = str(write_rows(folder / "rows.jsonl", message_rows(2)))
    return fit(
        folder,
        *words,
        model={"architecture": TINY_BERT, **(model or {})},
        data={"train": source, "validation": source, "test": source}
        | {"text": "message", "label": "intent", "batch_size": 4, **(data or {})},
        trainer={"callbacks": [RECORDER], **trainer},
    )


# building


def test_pretrained_and_architecture_together_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"model: give exactly one of pretrained .* and architecture"
    ):
        classifier(pretrained="some/model")


def test_neither_pretrained_nor_architecture_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"model: give exactly one of pretrained .* and architecture"
    ):
        classifier(architecture=None)


def test_a_config_without_pretrained_and_architecture_ends_with_2(
    plcli: Command, text_config: Path
) -> None:
    assert plcli("fit", "-c", text_config, "--model.architecture", "null").code == 2


def test_the_architecture_has_the_sizes_of_the_config_and_the_vocabulary_of_the_data() -> None:
    weight = classifier().model.get_input_embeddings().weight
    assert tuple(weight.shape) == (40, 32)


def test_an_unknown_model_type_is_refused() -> None:
    with pytest.raises(ModelError, match=r"bertt"):
        classifier(architecture={"model_type": "bertt"})


def test_an_unknown_size_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ModelError, match=r"bert has no 'hiden_size'\. Did you mean 'hidden_size'"):
        classifier(architecture={"model_type": "bert", "hiden_size": 32})


def test_an_architecture_without_a_model_type_is_refused() -> None:
    with pytest.raises(ModelError, match=r"architecture: needs a model_type, such as bert\."):
        classifier(architecture={"hidden_size": 32})


def test_more_tokens_than_the_model_has_positions_are_refused() -> None:
    short = {**TINY_BERT, "max_position_embeddings": 64}
    with pytest.raises(
        ModelError, match=r"data\.max_length: 65 tokens are more than the model's 64 positions\."
    ):
        classifier(architecture=short, max_length=65)


def test_as_many_tokens_as_the_model_has_positions_are_taken() -> None:
    short = {**TINY_BERT, "max_position_embeddings": 64}
    assert classifier(architecture=short, max_length=64).model.config.max_position_embeddings == 64


def test_a_max_length_beyond_the_pretrained_model_ends_with_4(
    plcli: Command, text_config: Path, tmp_path: Path
) -> None:
    pretrained = fit_messages(tmp_path) / "model"
    result = plcli(
        "fit", "-c", text_config, "--model.architecture", "null",
        "--model.pretrained", pretrained, "--data.max_length", 600,
    )  # fmt: skip
    assert (result.code, "data.max_length: 600 tokens are more than" in result.err) == (4, True)


def test_a_roberta_takes_fewer_tokens_than_it_has_positions() -> None:
    # RoBERTa's positions begin behind the padding's number, so that 34 of them hold 33 tokens
    sizes = {**TINY_BERT, "model_type": "roberta", "max_position_embeddings": 34}
    with pytest.raises(ModelError, match=r"data\.max_length: 34 tokens are more than"):
        classifier(architecture=sizes, max_length=34)


def test_a_pretrained_folder_that_is_not_there_ends_with_4(
    plcli: Command, text_config: Path
) -> None:
    result = plcli(
        "fit", "-c", text_config, "--model.architecture", "null",
        "--model.pretrained", "./nowhere", "--data.tokenizer", "./nowhere",
    )  # fmt: skip
    assert (result.code, "pretrained: no folder ./nowhere." in result.err) == (4, True)


def test_weights_stored_in_half_precision_are_trained_in_full(
    tmp_path: Path, recorded: type[Recorder]
) -> None:
    (tmp_path / "first").mkdir()
    model = fit_messages(tmp_path / "first") / "model"
    import transformers

    half = transformers.AutoModelForSequenceClassification.from_pretrained(model).half()
    half.save_pretrained(model)
    recorded.clear()
    fit_messages(tmp_path, model={"architecture": None, "pretrained": str(model)})
    assert recorded.dtypes == {torch.float32}


def test_what_the_data_class_refuses_ends_with_2(plcli: Command, text_config: Path) -> None:
    result = plcli("fit", "-c", text_config, "--data.pieces", 0)
    assert (result.code, "data.pieces: got 0, expected 1 or more." in result.err) == (2, True)


# dropout


@pytest.mark.parametrize("start", ["architecture", "pretrained"])
def test_dropout_is_on_in_training_and_off_in_evaluation(
    start: str, tmp_path: Path, recorded: type[Recorder]
) -> None:
    model: dict[str, Any] = {"architecture": TINY_BERT}
    if start == "pretrained":
        (tmp_path / "first").mkdir()
        model = {
            "architecture": None,
            "pretrained": str(fit_messages(tmp_path / "first") / "model"),
        }
    recorded.clear()
    fit_messages(tmp_path, model=model, max_epochs=2)
    assert recorded.dropouts == {"training": {True}, "validation": {False}, "test": {False}}


# optimizer


def names_by_decay(module: TextClassifier) -> dict[float, set[str]]:
    """Return the names of the parameters by the weight decay of their group."""
    optimizer = optimizer_of(module)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    decays: dict[float, set[str]] = {}
    for group in optimizer.param_groups:
        found = {names[id(parameter)] for parameter in group["params"]}
        decays.setdefault(group["weight_decay"], set()).update(found)
    return decays


def decaying(parameters: Any) -> torch.optim.Optimizer:
    """Make an optimizer with a weight decay of its own."""
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.3)


def test_biases_and_norms_do_not_decay() -> None:
    undecayed = names_by_decay(classifier(optimizer=decaying))[0.0]
    module = classifier()
    assert undecayed == {
        name for name, _ in module.named_parameters() if name.endswith("bias") or "Norm" in name
    }


def test_all_other_parameters_decay_as_the_optimizer_says() -> None:
    assert set(names_by_decay(classifier(optimizer=decaying))) == {0.0, 0.3}


def test_every_parameter_stands_in_exactly_one_group() -> None:
    module = classifier()
    grouped = [p for group in optimizer_of(module).param_groups for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, module.parameters()))


def test_a_frozen_parameter_is_not_optimized() -> None:
    module = classifier()
    frozen = module.model.get_input_embeddings().weight.requires_grad_(False)
    grouped = [p for group in optimizer_of(module).param_groups for p in group["params"]]
    assert not any(parameter is frozen for parameter in grouped)


def test_the_default_optimizer_is_adamw_at_the_rate_that_is_chosen() -> None:
    module = classifier()
    optimizer = optimizer_of(module)
    assert (type(optimizer), optimizer.defaults["lr"]) == (torch.optim.AdamW, module.chosen_rate)


def test_one_kernel_updates_all_parameters_where_the_optimizer_has_it() -> None:
    groups = optimizer_of(classifier()).param_groups
    assert [group["fused"] for group in groups] == [True, True]


def test_a_choice_of_kernels_is_left_as_it_is() -> None:
    chosen = classifier(optimizer=lambda parameters: torch.optim.AdamW(parameters, fused=False))
    assert [group["fused"] for group in optimizer_of(chosen).param_groups] == [False, False]


def test_attention_runs_in_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    module = classifier()
    attended: list[object] = []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def noted(*arguments: Any, **settings: Any) -> Any:
        attended.append(arguments)
        return kernel(*arguments, **settings)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
    module({"input_ids": torch.ones(2, 5, dtype=torch.int64)})
    assert len(attended) == TINY_BERT["num_hidden_layers"]


def test_an_optimizer_without_weight_decay_is_taken() -> None:
    optimizer = optimizer_of(classifier(optimizer=lambda p: torch.optim.Rprop(p, lr=0.1)))
    assert isinstance(optimizer, torch.optim.Rprop)


# learning rate


def test_the_rate_rises_to_its_height_and_falls_to_zero_step_by_step(
    tmp_path: Path, recorded: type[Recorder]
) -> None:
    fit_messages(tmp_path, model={"optimizer": adamw(1.0), "warmup": 0.5}, max_epochs=1)
    assert recorded.rates == pytest.approx([0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])


def test_the_rate_goes_by_optimizer_steps_where_batches_are_accumulated(
    tmp_path: Path, recorded: type[Recorder]
) -> None:
    fit_messages(
        tmp_path,
        model={"optimizer": adamw(1.0), "warmup": 2},
        accumulate_grad_batches=3,
        max_epochs=2,
    )
    assert recorded.rates == pytest.approx([0, 1 / 2, 1, 1 / 2])


def test_the_rate_stays_at_its_height_where_the_schedule_is_constant(
    tmp_path: Path, recorded: type[Recorder]
) -> None:
    fit_messages(tmp_path, model={"optimizer": adamw(1.0), "warmup": 2, "schedule": "constant"})
    assert recorded.rates == pytest.approx([0, 1 / 2, 1, 1, 1, 1])


def test_the_rate_falls_along_a_cosine_where_the_schedule_is_cosine(
    tmp_path: Path, recorded: type[Recorder]
) -> None:
    fit_messages(tmp_path, model={"optimizer": adamw(1.0), "warmup": 0, "schedule": "cosine"})
    assert recorded.rates == pytest.approx([(1 + np.cos(np.pi * k / 6)) / 2 for k in range(6)])


def test_an_unknown_schedule_is_refused(plcli: Command, text_config: Path) -> None:
    result = plcli("fit", "-c", text_config, "--model.schedule", "liner")
    assert (result.code, "model.schedule: got 'liner', expected" in result.err) == (2, True)


# clipping


def fit_steep(folder: Path, **trainer: Any) -> None:
    """Fit a network of weights so large that its gradients are long."""
    architecture = {**TWO_LAYERS, "initializer_range": 5.0}
    model = {"architecture": architecture, "optimizer": adamw(1e-6), "warmup": 0}
    fit_messages(folder, model=model, **trainer)


def test_the_norm_of_the_gradient_is_clipped_at_1(tmp_path: Path, recorded: type[Recorder]) -> None:
    fit_steep(tmp_path)
    assert recorded.norms == pytest.approx([1.0] * 6, rel=1e-3)


def test_the_trainer_may_clip_elsewhere(tmp_path: Path, recorded: type[Recorder]) -> None:
    fit_steep(tmp_path, gradient_clip_val=0.25)
    assert recorded.norms == pytest.approx([0.25] * 6, rel=1e-3)


def test_a_clip_value_of_0_turns_clipping_off(tmp_path: Path, recorded: type[Recorder]) -> None:
    fit_steep(tmp_path, gradient_clip_val=0)
    assert min(recorded.norms) > 10


def test_the_trainer_may_clip_by_value(tmp_path: Path, recorded: type[Recorder]) -> None:
    fit_steep(tmp_path, gradient_clip_val=0.5, gradient_clip_algorithm="value")
    assert min(recorded.norms) > 1


def test_a_short_gradient_is_left_as_it_is(tmp_path: Path, recorded: type[Recorder]) -> None:
    fit_messages(tmp_path, model={"optimizer": adamw(1e-6)}, gradient_clip_val=1e6)
    free = list(recorded.norms)
    assert max(free) != pytest.approx(min(free), rel=1e-3)


# batches in pieces


def gradient(problem: Any, pieces: int) -> torch.Tensor:
    """Return the gradient of a batch of ten rows of unlike length, run in so many pieces."""
    rows = message_rows()
    targets: dict[str, list[Any]] = {
        "single_label": [row["intent"] for row in rows],
        "multi_label": [[row["intent"]] for row in rows],
        "regression": [float(len(row["message"])) for row in rows],
    }
    source = write_rows(Path(f"{problem}.jsonl"), changed(rows, target=targets[problem]))
    data = TextClassificationData(
        train=str(source), validation=str(source), text="message", label="target",
        problem=problem, pieces=pieces, batch_size=10,
    )  # fmt: skip
    torch.manual_seed(0)
    facts = {name: value for name, value in data.facts().items() if name != "stride"}
    module = TextClassifier(architecture={**TINY_BERT, **NO_DROPOUT}, **facts)
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    batch = next(iter(data.train_dataloader()))
    assert len(batch["pieces"]) == pieces
    module.training_step(batch, 0).backward()
    parts = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
    return torch.cat(parts)


@pytest.mark.parametrize("problem", ["single_label", "multi_label", "regression"])
@pytest.mark.parametrize("pieces", [3, 4, 10])
def test_the_gradient_of_a_batch_in_pieces_is_that_of_the_whole_batch(
    problem: str, pieces: int
) -> None:
    whole = gradient(problem, 1)
    torch.testing.assert_close(gradient(problem, pieces), whole, rtol=1e-4, atol=1e-6)


def test_a_random_batch_on_a_cpu_comes_in_four_pieces() -> None:
    source = str(write_rows(Path("rows.jsonl"), message_rows()))
    data = TextClassificationData(
        train=source, validation=source, text="message", label="intent", batch_size=8
    )
    assert [len(batch["pieces"]) for batch in data.train_dataloader()] == [4, 4]


def test_pieces_save_padding() -> None:
    words = [1, 1, 1, 1, 1, 1, 30, 30]
    rows = [
        {"text": " ".join(["word"] * count), "label": "ab"[index % 2]}
        for index, count in enumerate(words)
    ]
    source = str(write_rows(Path("rows.jsonl"), rows))
    data = TextClassificationData(train=source, validation=source, batch_size=8)
    (batch,) = data.train_dataloader()
    assert [piece["input_ids"].shape[1] for piece in batch["pieces"]] == [3, 3, 3, 32]


def test_no_pieces_at_all_are_refused() -> None:
    with pytest.raises(UsageError, match=r"data\.pieces: got 0, expected 1 or more\."):
        TextClassificationData(train="rows.jsonl", pieces=0)


# order

Order = list[tuple[int, ...]]


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> list[Order]:
    """The order of the rows in three epochs of a fit, then that of their file."""
    from plcli.pretrained import tokenizers

    Recorder.clear()
    run = fit_messages(tmp_path_factory.mktemp("orders"), data={"pieces": 1}, max_epochs=3)
    tokenizer = tokenizers.load_tokenizer(str(run / "model"))
    in_file = [tuple(tokenizer(row["message"])["input_ids"]) for row in message_rows(2)]
    return [*(list(order) for order in Recorder.orders.values()), in_file]


def batches(order: Order) -> set[frozenset[tuple[int, ...]]]:
    """Return the batches of four rows, whatever the order inside them."""
    return {frozenset(order[start : start + 4]) for start in range(0, 24, 4)}


def test_no_two_epochs_have_the_same_batches(orders: list[Order]) -> None:
    first, second, third, _ = map(batches, orders)
    assert max(len(first & second), len(first & third), len(second & third)) < 3


def test_no_epoch_has_the_batches_of_the_file(orders: list[Order]) -> None:
    *epochs, in_file = map(batches, orders)
    assert max(len(epoch & in_file) for epoch in epochs) < 3


def test_every_epoch_has_every_row_once(orders: list[Order]) -> None:
    assert [sorted(order) == sorted(set(orders[-1])) for order in orders[:3]] == [True] * 3


def test_another_seed_gives_other_batches(
    tmp_path: Path, orders: list[Order], recorded: type[Recorder]
) -> None:
    fit_messages(tmp_path, "--seed_everything", 7, data={"pieces": 1})
    assert len(batches(recorded.orders[0]) & batches(orders[0])) < 3


# steps and results


def test_predicting_leaves_the_weights_in_evaluation_mode_and_gives_plain_rows() -> None:
    module = classifier().eval()
    batch = {
        "input_ids": torch.ones(2, 5, dtype=torch.int64),
        "attention_mask": torch.ones(2, 5, dtype=torch.int64),
        "id": ["x", "y"],
        "index": [0, 1],
    }
    with torch.no_grad():
        rows = module.predict_step(batch, 0)
    assert [(row["id"], row["label"] in "abc", type(row["score"])) for row in rows] == [
        ("x", True, float),
        ("y", True, float),
    ]


def test_padding_does_not_change_a_prediction() -> None:
    module = classifier().eval()
    ids = torch.tensor([[2, 7, 8, 3]])
    padded = torch.tensor([[2, 7, 8, 3, 0, 0, 0]])
    with torch.no_grad():
        short = module({"input_ids": ids, "attention_mask": torch.ones_like(ids)}).logits
        long = module({"input_ids": padded, "attention_mask": (padded != 0).long()}).logits
    torch.testing.assert_close(short, long)


def test_a_second_evaluation_starts_from_nothing() -> None:
    module = classifier().eval()
    module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    batch = {
        "input_ids": torch.tensor([[2, 7, 8, 3], [2, 9, 9, 3]]),
        "attention_mask": torch.ones(2, 4, dtype=torch.int64),
        "labels": torch.tensor([0, 1]),
    }
    supports = []
    for _ in range(2):
        module.validation_step(batch, 0)
        module.on_validation_epoch_end()
        table = module.results["val"]["classes"]
        supports.append([row["support"] for row in table.values()])
    assert supports == [[1, 1, 0], [1, 1, 0]]
