"""Linear regression on tables: facts of the training split, training, metrics, artefact."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import linear_model
from sklearn import metrics as sk

import plcli
from plcli.errors import DataError, UsageError
from plcli.tasks.linear_regression import SimpleLinearModel, TableData
from tests.conftest import ROOT, Command, write_rows
from tests.running import (
    LINEAR,
    TABLE,
    card,
    fit,
    own_cache,
    predicted,
    read_json,
    read_rows,
    run_plcli,
)

PUBLIC = ("SimpleLinearModel", "TableData")  # configs and checkpoints name them
CONCRETE = Path(plcli.__file__).parent / "examples" / "concrete"
NEAR = 1.02  # times the closed-form solution's error
Array = np.ndarray[Any, Any]


def table(seed: int, *, rows: int = 60, shift: float = 0.0) -> list[dict[str, float]]:
    """Return rows of y = 3 a - 0.02 b + 400 and a little noise, the columns of unlike size."""
    generator = np.random.default_rng(seed)
    a, noise = generator.normal(5 + shift, 2, rows), generator.normal(0, 0.3, rows)
    b = generator.normal(900, 150, rows)
    return [
        {"a": float(x), "b": float(z), "y": float(3 * x - 0.02 * z + 400 + e)}
        for x, z, e in zip(a, b, noise, strict=True)
    ]


def columns(rows: list[dict[str, Any]], *names: str) -> Array:
    """Return columns as float64 [rows, columns]."""
    return np.array([[float(row[name]) for name in names] for row in rows])


def fit_table(folder: Path, *words: object, epochs: int = 40, **data: Any) -> Path:
    """Fit a table; its validation and test splits lie elsewhere than its training split."""
    for name, seed, shift in (("train", 0, 0.0), ("validation", 1, 9.0), ("test", 2, 4.0)):
        write_rows(folder / f"{name}.csv", table(seed, shift=shift))
    sources = {name: str(folder / f"{name}.csv") for name in ("train", "validation", "test")}
    return fit(
        folder,
        *words,
        model={"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.05}}},
        data={**sources, "features": ["a", "b"], "target": "y", **data},
        trainer={"max_epochs": epochs},
        classes=(LINEAR, TABLE),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table with validation and test splits."""
    return fit_table(tmp_path_factory.mktemp("linear"))


def test_the_training_rows_are_learnt_down_to_their_noise(run: Path) -> None:
    source = run.parent / "train.csv"
    got = [row["y"] for row in predicted(run, source)]
    assert sk.r2_score(columns(read_rows(source), "y").ravel(), got) > 0.99


def test_the_artefact_predicts_what_the_best_checkpoint_predicts(run: Path) -> None:
    source, best = run.parent / "test.csv", run / "checkpoints" / "best.ckpt"
    assert predicted(run, source) == predicted(run, source, "--ckpt_path", best)


def test_a_prediction_is_in_the_unit_of_the_target(run: Path) -> None:
    assert 300 < predicted(run, run.parent / "test.csv")[0]["y"] < 500


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("mse", sk.mean_squared_error),
        ("rmse", sk.root_mean_squared_error),
        ("mae", sk.mean_absolute_error),
        ("r2", sk.r2_score),
    ],
)
def test_a_metric_is_that_of_scikit_learn_in_the_unit_of_the_target(
    name: str, theirs: Callable[..., float], run: Path
) -> None:
    source = run.parent / "test.csv"
    true, got = (
        columns(read_rows(source), "y").ravel(),
        [row["y"] for row in predicted(run, source)],
    )
    ours = read_json(run / "metrics.json")["test"][name]
    assert ours == pytest.approx(theirs(true, got), rel=1e-3)


def test_a_loaded_model_gives_the_test_metrics_that_fit_gave(run: Path) -> None:
    with own_cache(run.parent):
        result = run_plcli("test", "--run", run)
    assert f"{read_json(run / 'metrics.json')['test']['rmse']:.4f}" in result.out


@pytest.mark.parametrize(
    ("fact", "names", "measure"),
    [
        ("feature_mean", ("a", "b"), np.mean),
        ("feature_std", ("a", "b"), np.std),
        ("target_mean", ("y",), np.mean),
        ("target_std", ("y",), np.std),
    ],
)
def test_a_column_is_standardised_by_the_training_split_alone(
    fact: str, names: tuple[str, ...], measure: Callable[..., Array], run: Path
) -> None:
    train = columns(read_rows(run.parent / "train.csv"), *names)
    assert card(run)["facts"][fact] == pytest.approx(measure(train, axis=0).tolist())


def test_rows_cut_off_for_validation_do_not_count_as_training_rows() -> None:
    source = write_rows(Path("rows.csv"), table(0))
    data = TableData(train=str(source), features=["a"], target="y", validation_fraction=0.5)
    kept = columns(read_rows(source), "a")[data.subset("train")]
    assert data.facts()["feature_mean"] == pytest.approx(kept.mean(axis=0).tolist())


def test_the_cut_shares_the_rows_out_without_loss_or_repetition() -> None:
    source = write_rows(Path("rows.csv"), table(0))
    data = TableData(train=str(source), features=["a"], target="y", validation_fraction=0.3)
    parts = [data.subset(split) for split in ("train", "validation")]
    assert sorted(np.concatenate([part for part in parts if part is not None])) == list(range(60))


def test_input_dim_is_the_number_of_features(run: Path) -> None:
    assert card(run)["facts"]["input_dim"] == 2


def test_output_dim_is_the_number_of_targets() -> None:
    source = str(write_rows(Path("rows.csv"), table(0)))
    assert TableData(train=source, features=["a"], target=["y", "b"]).facts()["output_dim"] == 2


def test_an_input_dim_that_contradicts_the_data_is_refused(
    plcli: Command, linear_config: Path
) -> None:
    result = plcli("fit", "-c", linear_config, "--model.input_dim", 7)
    assert (result.code, "model.input_dim: got 7, but the data require 2" in result.err) == (
        2,
        True,
    )


def test_every_target_is_predicted_by_its_name(tmp_path: Path) -> None:
    run = fit_table(tmp_path, epochs=1, features=["a"], target=["y", "b"])
    assert set(predicted(run, tmp_path / "test.csv")[0]) == {"id", "y", "b"}


def test_r2_of_two_targets_is_not_lifted_by_their_unlike_means(tmp_path: Path) -> None:
    run = fit_table(tmp_path, epochs=1, features=["a"], target=["y", "b"])
    source = tmp_path / "test.csv"
    true = columns(read_rows(source), "y", "b")
    theirs = sk.r2_score(true, columns(predicted(run, source), "y", "b"))
    assert read_json(run / "metrics.json")["test"]["r2"] == pytest.approx(theirs, abs=1e-3)


def test_rows_to_predict_need_no_target_column(run: Path) -> None:
    rows = [{"b": row["b"], "a": row["a"]} for row in table(2, rows=5)]
    source = write_rows(Path("new.csv"), rows)
    assert len(predicted(run, source)) == 5


def test_the_order_of_the_columns_in_a_file_does_not_matter(run: Path) -> None:
    rows = [dict(reversed(row.items())) for row in table(2, shift=4.0)]
    source = write_rows(Path("turned.csv"), rows)
    assert predicted(run, source) == predicted(run, run.parent / "test.csv")


def test_a_typed_row_gets_what_its_row_in_a_file_gets(run: Path) -> None:
    first = read_rows(run.parent / "test.csv")[0]
    typed = f'{{"a": {first["a"]}, "b": {first["b"]}}}'
    with own_cache(run.parent):
        result = run_plcli("predict", "--run", run, typed)
    assert f'"y": {predicted(run, run.parent / "test.csv")[0]["y"]}'[:12] in result.out


def test_a_constant_feature_is_refused() -> None:
    rows = [{**row, "same": 1.0} for row in table(0)]
    source = str(write_rows(Path("rows.csv"), rows))
    with pytest.raises(
        DataError, match=r"rows\.csv: the feature 'same' has the same value in all training"
    ):
        TableData(train=source, features=["a", "same"], target="y").facts()


def test_a_cell_that_is_no_number_is_refused_with_its_row() -> None:
    rows = [*table(0, rows=3), {"a": "n/a", "b": 1.0, "y": 1.0}]
    source = str(write_rows(Path("rows.csv"), rows))
    with pytest.raises(
        DataError, match=r"rows\.csv, row 4: column 'a' contains 'n/a', which is not a number\."
    ):
        TableData(train=source, features=["a"], target="y").facts()


def test_no_feature_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match=r"data: features and target must each name at least one"):
        TableData(train="rows.csv", features=[], target="y")


def test_the_model_works_in_the_units_that_it_is_given() -> None:
    module = SimpleLinearModel(
        input_dim=1, feature_mean=[10.0], feature_std=[2.0], target_mean=[100.0], target_std=[5.0]
    )
    with torch.no_grad():
        module.layer.weight.fill_(3.0)
        module.layer.bias.fill_(1.0)
        assert module(torch.tensor([[14.0]])).item() == pytest.approx((3 * 2 + 1) * 5 + 100)


def test_the_training_loss_is_that_of_standardised_targets() -> None:
    module = SimpleLinearModel(input_dim=1, target_mean=[100.0], target_std=[50.0])
    torch.nn.init.zeros_(module.layer.weight)
    torch.nn.init.zeros_(module.layer.bias)
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    batch = {"features": torch.ones(2, 1), "targets": torch.tensor([[200.0], [100.0]])}
    assert module.training_step(batch, 0).item() == pytest.approx((2**2 + 0**2) / 2)


def test_the_default_optimizer_is_adam_at_a_hundredth() -> None:
    optimizer = SimpleLinearModel().configure_optimizers()
    assert (type(optimizer), optimizer.param_groups[0]["lr"]) == (torch.optim.Adam, 0.01)


def test_the_shipped_config_comes_within_2_percent_of_the_closed_form(
    plcli: Command, tmp_path: Path
) -> None:
    train, test = (read_rows(CONCRETE / f"{split}.csv") for split in ("train", "test"))
    *features, target = train[0]
    closed = linear_model.LinearRegression().fit(
        columns(train, *features), columns(train, target).ravel()
    )
    theirs = sk.root_mean_squared_error(
        columns(test, target).ravel(), closed.predict(columns(test, *features))
    )
    plcli("fit", "-c", ROOT / "configs" / "linear.yaml", "--run", "run")
    assert read_json(Path("run/metrics.json"))["test"]["rmse"] <= NEAR * theirs


# the analysis of the test


def test_the_largest_errors_are_the_worst(run: Path) -> None:
    found = read_json(run / "analysis.json")
    rows = found["errors"]["rows"]
    sizes = [abs(row["error"]) for row in rows]
    assert (found["problem"], sizes) == ("regression", sorted(sizes, reverse=True))
    assert all(row["prediction"] - row["truth"] == pytest.approx(row["error"]) for row in rows)
