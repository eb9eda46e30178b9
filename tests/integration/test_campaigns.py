"""fit --seeds and --folds: sub-runs, their summary, interruption, and the average of all models."""

import contextlib
import shutil
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch

from plcli.config.contracts import module_contract
from plcli.runs.lock import RunLock
from plcli.tasks.causal_lm import CausalLM
from plcli.tasks.linear_regression import SimpleLinearModel
from plcli.tasks.masked_lm import MaskedLM
from plcli.tasks.seq2seq import Seq2SeqModel
from tests.conftest import Command, message_rows, write_rows
from tests.running import (
    CLASSIFIER,
    LINEAR,
    QUICK_BERT,
    TABLE,
    TEXTS,
    Result,
    adamw,
    predicted,
    read_json,
    read_rows,
    run_plcli,
    saved_state,
    stopped,
    try_fit,
)
from tests.tiny import save_bert

SEEDS = (3, 1)


def table(rows: int, seed: int) -> list[dict[str, float]]:
    """Rows of y = 2 a + noise, three of which have the same patient."""
    draws = np.random.default_rng(seed).normal(size=(rows, 2))
    return [
        {"a": float(a), "y": float(2 * a + noise / 4), "patient": row // 3}
        for row, (a, noise) in enumerate(draws)
    ]


def try_table(folder: Path, *words: object, **data: Any) -> Result:
    """Fit a table into FOLDER/run."""
    sources = {
        name: str(write_rows(folder / f"{name}.csv", table(rows, rows)))
        for name, rows in (("train", 30), ("test", 9))
    }
    return try_fit(
        folder,
        *words,
        model={"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1}}},
        data={**sources, "features": ["a"], "target": "y", **data},
        trainer={"max_epochs": 3},
        classes=(LINEAR, TABLE),
    )


def try_texts(folder: Path, *words: object, **data: Any) -> Result:
    """Fit a tiny classifier with a tokenizer of its own into FOLDER/run."""
    rows = [{**row, "author": number // 3} for number, row in enumerate(message_rows(3))]
    return try_fit(
        folder,
        *words,
        model={"architecture": QUICK_BERT, "optimizer": adamw(5e-3)},
        data={
            "train": str(write_rows(folder / "train.jsonl", rows)),
            "test": str(write_rows(folder / "test.jsonl", rows[:12])),
            "tokenizer": str(save_bert(folder / "named")),
            "text": "message",
            "label": "intent",
            **data,
        },
        classes=(CLASSIFIER, TEXTS),
    )


@contextlib.contextmanager
def without_bf16() -> Iterator[None]:
    """Do not measure the time of bf16, as conftest does for a single test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plcli.training.hardware.time_of_bf16", lambda: 1.0)
        yield


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign of two seeds of a table."""
    folder = tmp_path_factory.mktemp("seeds")
    with without_bf16():
        result = try_table(folder, "--seeds", "3,1")
    assert result.code == 0, result.err
    assert "best by val_rmse" in result.out
    assert "--ensemble" in result.out
    return folder / "run"


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign of two folds of texts, grouped by author."""
    folder = tmp_path_factory.mktemp("folds")
    with without_bf16():
        result = try_texts(folder, "--folds", "2", group="author")
    assert result.code == 0, result.err
    return folder / "run"


def test_later_sub_runs_do_not_repeat_the_opening(tmp_path: Path) -> None:
    with without_bf16():
        result = try_table(tmp_path, "--seeds", "3,1", "--slice", "patient")
    assert result.code == 0, result.err
    run = tmp_path / "run"
    lines = [line.partition(" ")[2] for line in result.err.splitlines()]
    first = lines.index(f"seed 3 (1 of 2): {run / 'seed-3'}")
    second = lines.index(f"seed 1 (2 of 2): {run / 'seed-1'}")
    for said in ("run folder: ", "checkpoints in ", "train: ", "training 2 parameters", "all: "):
        assert any(line.startswith(said) for line in lines[first:second])
        assert not any(line.startswith(said) for line in lines[second:])
        assert said in (run / "seed-1" / "train.log").read_text(encoding="utf-8")
    assert lines[second + 1].startswith("epoch 1 of 3, ")
    assert "of the best sub-run, seed-" in result.out
    assert "patient" in result.out


def test_a_sub_run_without_validation_has_no_best_epoch(tmp_path: Path) -> None:
    words = ("--trainer.limit_val_batches", "0", "--trainer.max_steps", "2")
    with without_bf16():
        result = try_table(tmp_path, "--seeds", "3,1", "--data.batch_size", "4", *words)
    assert result.code == 0, result.err
    run = tmp_path / "run"
    said = "last step, 2 (no metric of a validation has chosen an epoch)"
    assert f"seed 3 (1 of 2): {said}" in result.err
    assert "ended at max_steps, 2, in epoch 1" in result.err
    assert "none: last step, 2" in " ".join(result.out.replace("│", " ").split())
    fit = read_json(run / "seed-1" / "metrics.json")["fit"]
    assert (fit["best_epoch"], fit["epochs"], fit["steps"]) == (None, 1, 2)
    assert "best epoch: none: last step, 2" in run_plcli("runs", "show", run / "seed-1").out


def test_a_damaged_metrics_json_of_a_campaign_is_gathered_again(tmp_path: Path) -> None:
    with without_bf16():
        assert try_table(tmp_path, "--seeds", "3,1").code == 0
        run = tmp_path / "run"
        before = read_json(run / "metrics.json")
        (run / "metrics.json").write_text("")
        told = f"{run}/metrics.json: is damaged (it is empty). `plcli "
        trusted = ("--allow-import", "tests")
        for words in (
            ("test", "--run", run, "--ensemble", *trusted),
            ("compare", run, run / "seed-1"),
        ):
            result = run_plcli(*words)
            assert (result.code, told in result.err) == (4, True)
        result = run_plcli("test", "--run", run, *trusted)
        assert (result.code, f"warning: {told}" in result.err) == (0, True)
        assert (run / "metrics.json").read_text() == ""
        result = try_table(tmp_path, "--seeds", "3,1")
    assert result.code == 0, result.err
    assert "metrics.json is damaged (it is empty) and is written again" in result.err
    assert read_json(run / "metrics.json") == before


def test_sub_runs_are_ordinary_runs_of_their_seeds(seeds: Path, tmp_path: Path) -> None:
    result = try_table(tmp_path, "--seed", 1, "--data.split_seed", 42)
    assert result.code == 0, result.err
    alone, own = (saved_state(run) for run in (tmp_path / "run", seeds / "seed-1"))
    assert all(torch.equal(alone[name], own[name]) for name in alone)
    metrics = [read_json(run / "metrics.json") for run in (tmp_path / "run", seeds / "seed-1")]
    assert metrics[0]["test"] == metrics[1]["test"]
    log = (seeds / "seed-3" / "train.log").read_text(encoding="utf-8")
    assert "seed-3" in log
    assert "seed-1" not in log
    configs = [(run / "config.yaml").read_text() for run in (tmp_path / "run", seeds / "seed-1")]
    assert configs[0].replace(str(tmp_path), str(seeds.parent)) == configs[1]
    others = saved_state(seeds / "seed-3")
    assert not torch.equal(others["layer.weight"], own["layer.weight"])


def test_metrics_have_mean_deviation_and_each_sub_run(seeds: Path) -> None:
    metrics = read_json(seeds / "metrics.json")
    each = {f"seed-{seed}": read_json(seeds / f"seed-{seed}" / "metrics.json") for seed in SEEDS}
    for split in ("validation", "test"):
        values = [run[split]["rmse"] for run in each.values()]
        assert metrics[split]["rmse"] == pytest.approx(statistics.fmean(values))
        deviation = metrics["campaign"]["deviation"][split]["rmse"]
        assert deviation == pytest.approx(statistics.stdev(values))
        for name, run in each.items():
            assert metrics["campaign"]["runs"][name][split]["rmse"] == run[split]["rmse"]
    assert metrics["test"]["baselines"]["mean"]["rmse"] > 0
    best = min(each, key=lambda name: each[name]["validation"]["rmse"])
    assert metrics["campaign"]["best"] == best
    for name in ("model/model.safetensors", "config.yaml", "test_rows.parquet"):
        assert (seeds / name).read_bytes() == (seeds / best / name).read_bytes()


def test_all_seeds_are_validated_on_the_same_rows(seeds: Path) -> None:
    configs = [(seeds / f"seed-{seed}" / "config.yaml").read_text() for seed in SEEDS]
    assert all("split_seed: 42" in config for config in configs)
    counts = [read_json(seeds / f"seed-{seed}" / "environment.json")["data"] for seed in SEEDS]
    assert counts[0] == counts[1]


def test_a_campaign_is_used_as_its_best_run(seeds: Path) -> None:
    best = seeds / read_json(seeds / "metrics.json")["campaign"]["best"]
    source = seeds.parent / "test.csv"
    assert predicted(seeds, source) == predicted(best, source)


def test_the_card_of_a_campaign_names_it_and_that_of_its_best_run_does_not(seeds: Path) -> None:
    best = read_json(seeds / "metrics.json")["campaign"]["best"]
    card = (seeds / "model" / "README.md").read_text(encoding="utf-8")
    assert f"\n# {seeds.name}\n" in card
    assert f"plcli.load('{seeds / 'model'}')" in card
    assert f"of its models this is the best, {best}." in card
    assert f"\n# {best}\n" in (seeds / best / "model" / "README.md").read_text(encoding="utf-8")


def test_an_ensemble_of_numbers_is_their_mean(seeds: Path) -> None:
    source = seeds.parent / "test.csv"
    parts = [[row["y"] for row in predicted(seeds / f"seed-{seed}", source)] for seed in SEEDS]
    mean = [row["y"] for row in predicted(seeds, source, "--ensemble")]
    assert mean == pytest.approx(np.mean(parts, axis=0))
    assert not np.allclose(parts[0], parts[1])


def test_an_ensemble_of_classifiers_has_the_mean_probabilities(folds: Path) -> None:
    source = folds.parent / "test.jsonl"
    runs = [folds / f"fold-{fold}" for fold in (1, 2)]
    parts = [[list(row["probability"].values()) for row in predicted(run, source)] for run in runs]
    rows = predicted(folds, source, "--ensemble")
    means = [list(row["probability"].values()) for row in rows]
    assert np.array(means) == pytest.approx(np.mean(parts, axis=0), abs=1e-6)
    result = run_plcli("test", "--run", folds, "--ensemble", "--quiet")
    assert result.code == 0, result.err
    scores = read_json(folds / "ensemble" / "metrics.json")["test"]
    names = [row["intent"] for row in message_rows(1)]
    right = [row["label"] == name for row, name in zip(rows, names, strict=True)]
    assert scores["accuracy"] == pytest.approx(np.mean(right))


def test_every_row_is_scored_out_of_fold_and_no_author_leaks(folds: Path) -> None:
    table = pyarrow.parquet.read_table(folds / "out_of_fold.parquet").to_pydict()
    assert table["row"] == list(range(36))
    authors = []
    for fold in (1, 2):
        held = pyarrow.parquet.read_table(folds / f"fold-{fold}" / "validation_rows.parquet")
        own = held.to_pydict()
        authors.append({row // 3 for row in own["row"]})
        assert [table["prediction"][row] for row in own["row"]] == own["prediction"]
    rows = [message_rows(3)[row] for row in own["row"]]
    source = write_rows(folds.parent / "held.jsonl", rows)
    again = [row["label"] for row in predicted(folds / "fold-2", source)]
    assert own["prediction"] == again
    assert sum(map(len, authors)) == len(set.union(*authors)) == 12
    scores = read_json(folds / "metrics.json")["validation"]
    right = np.array(table["truth"]) == np.array(table["prediction"])
    assert scores["accuracy"] == pytest.approx(right.mean())
    assert scores["rows"] == 36
    assert scores["intervals"]["accuracy"]["n"] == 12  # authors


def test_folds_of_numbers_are_scored_in_their_unit_with_mean_weights_too(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "train.csv", table(30, 30))
    mean = "lightning.pytorch.callbacks.EMAWeightAveraging"
    result = try_fit(
        tmp_path,
        *("--folds", "2"),
        model={"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.99}}},
        data={"train": str(path), "features": ["a"], "target": "y", "batch_size": 4},
        trainer={
            "max_epochs": 7,
            "callbacks": [{"class_path": mean, "init_args": {"decay": 0.5}}],
        },
        classes=(LINEAR, TABLE),
    )
    assert result.code == 0, result.err
    assert "out of fold" in result.out
    run, best = tmp_path / "run", []
    for path in (run / "fold-1", run / "fold-2"):
        metrics = read_json(path / "metrics.json")
        best.append(metrics["fit"]["best_epoch"])
        rows = pyarrow.parquet.read_table(path / "validation_rows.parquet").to_pydict()
        assert metrics["validation"]["rmse"] == pytest.approx(root_mean_square(rows), rel=1e-5)
        lines = read_rows(path / "metrics.csv")
        assert sum(line["val_rmse"] != "" for line in lines) == 7
    assert min(best) < 7  # whose weights are others than those of the last epoch
    rows = pyarrow.parquet.read_table(run / "out_of_fold.parquet").to_pydict()
    assert np.ravel(rows["truth"]) == pytest.approx([row["y"] for row in table(30, 30)], abs=1e-5)
    rmse = read_json(run / "metrics.json")["validation"]["rmse"]
    assert rmse == pytest.approx(root_mean_square(rows), rel=1e-5)


def root_mean_square(rows: dict[str, Any]) -> float:
    error = np.ravel(rows["prediction"]) - np.ravel(rows["truth"])
    return float(np.sqrt((error**2).mean()))


def after(run: Path) -> Callable[[Any, int], bool]:
    return lambda module, step: (run / "model" / "plcli.json").exists()


def test_an_interrupted_campaign_continues_with_the_run_it_was_in(tmp_path: Path) -> None:
    first = tmp_path / "run" / "seed-42"
    with stopped(SimpleLinearModel, after(first)):
        result = try_table(tmp_path, "--seeds", "2")
    assert result.code == 130
    assert result.err.count("plcli: stopped") == 1
    assert "run the same command" in result.err
    assert "seed-43" not in result.err.splitlines()[-1]
    assert not (tmp_path / "run" / ".lock").exists()
    assert run_plcli("test", "--run", tmp_path / "run").err.count("that is not finished") == 1
    shown = run_plcli("runs", tmp_path)
    assert "1 of 2 seeds" in shown.out
    before = (first / "model" / "plcli.json").stat().st_mtime_ns
    result = try_table(tmp_path, "--seeds", "2")
    assert result.code == 0, result.err
    assert "seed 42 (1 of 2): done before" in result.err
    assert (first / "model" / "plcli.json").stat().st_mtime_ns == before
    assert run_plcli("runs", tmp_path).out.count("finished, 2") == 1

    result = try_table(tmp_path, "--seeds", "2")
    assert result.code == 2
    assert "this campaign is finished" in result.err
    assert try_table(tmp_path, "--seeds", "2", "--resume", "auto").code == 0
    result = try_table(tmp_path, "--seeds", "2", "--epochs", 4)
    assert "2 seeds with a different config" in result.err
    result = try_table(tmp_path, "--seeds", "3")  # more of them
    assert result.code == 0, result.err
    assert result.err.count("done before") == 2
    assert len(read_json(tmp_path / "run" / "metrics.json")["campaign"]["runs"]) == 3
    result = try_table(tmp_path, "--folds", "2")
    assert "a campaign of 3 seeds, of `--seeds 42,43,44`, not of `--folds 2`" in result.err
    assert "contains a campaign of 3 seeds. Continue it with" in try_table(tmp_path).err


def test_a_failed_run_ends_the_campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = SimpleLinearModel.training_step

    def fails(self: Any, batch: Any, batch_idx: int) -> Any:
        return step(self, batch, batch_idx) * float("nan")

    monkeypatch.setattr(SimpleLinearModel, "training_step", fails)
    result = try_table(tmp_path, "--seeds", "5,6")
    assert result.code not in (0, 70)
    assert "seed 5 (1 of 2) has ended; the same command continues with it" in result.err
    assert result.err.count("plcli: ") == 1
    assert not (tmp_path / "run" / ".lock").exists()
    assert not (tmp_path / "run" / "seed-6").exists()


def test_runs_lists_a_campaign_as_one_and_compare_reads_it(seeds: Path, plcli: Command) -> None:
    metrics = read_json(seeds / "metrics.json")
    mean, deviation = (
        metrics["validation"]["rmse"],
        metrics["campaign"]["deviation"]["validation"]["rmse"],
    )
    listed = " ".join(plcli("runs", seeds.parent).out.replace("│", " ").split())
    assert f"{mean:.4f} ±" in listed
    assert f"{deviation:.4f}" in listed
    assert plcli("runs", "best", seeds.parent).out.strip() == str(seeds)
    shown = plcli("runs", "show", seeds)
    assert "finished, 2 seeds" in shown.out
    assert "seed-3" in shown.out
    result = plcli("report", seeds, "--output", "report.html")
    assert result.code == 0, result.err
    page = Path("report.html").read_text(encoding="utf-8")
    assert "This is a campaign of 2 seeds." in page
    assert "mean ± standard deviation" in page


def words_of(text: str) -> str:
    """The words of a table or a line, joined by single spaces."""
    return " ".join(text.replace("│", " ").replace("┃", " ").split())


def test_a_campaign_is_compared_by_its_mean_and_its_ensemble(
    seeds: Path, plcli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never by a mixture: which of them is shown, and which is tested in pairs, is said."""
    monkeypatch.setenv("COLUMNS", "400")
    shutil.copytree(seeds, "x")
    metrics = read_json(Path("x/metrics.json"))
    own = metrics["campaign"]
    mean, deviation = (own[name]["test"]["rmse"] for name in ("mean", "deviation"))
    best, other = own["best"], next(name for name in own["runs"] if name != own["best"])
    result = plcli("compare", "x", f"x/{other}", "--metric", "rmse")
    assert result.code == 0, result.err
    assert (
        "x: a campaign of 2 seeds; its scores are means ± standard deviation; its ensemble was "
        "not tested on its test rows (plcli test --run x --ensemble"
    ) in result.out
    assert f"x (mean of 2 seeds) x/{other}" in words_of(result.out)
    row = f"rmse {mean:.4f} ± {deviation:.4f} {own['runs'][other]['test']['rmse']:.4f} ("
    assert row in words_of(result.out)
    assert "seed_everything 3, 1 " in words_of(result.out)
    assert f"rmse: x ({best}, its best) is better by " in result.out

    trusted = ("--allow-import", "tests")
    assert plcli("test", "--run", "x", "--ensemble", *trusted).code == 0
    averaged = read_json(Path("x/ensemble/metrics.json"))["test"]["rmse"]
    result = plcli("compare", "x", f"x/{other}", "--metric", "rmse", "--html", "c.html")
    assert "means ± standard deviation, and those of its ensemble" in result.out
    assert f"rmse {mean:.4f} ± {deviation:.4f} {averaged:.4f} (" in words_of(result.out)
    said = next(line for line in result.out.splitlines() if line.startswith("rmse: "))
    assert "x (ensemble of 2)" in said or "no difference can be seen" in said
    page = Path("c.html").read_text(encoding="utf-8")
    for shown in ("x (mean of 2 seeds)", "x (ensemble of 2)", f"x ({best}, its best)", "(sd)"):
        assert shown in page

    result = plcli("compare", "x/ensemble", f"x/{other}")
    assert result.code == 2
    assert "of all models of the campaign x. Name x instead." in result.err


def test_an_ensemble_that_was_tested_on_other_rows_is_not_shown(
    seeds: Path, plcli: Command
) -> None:
    shutil.copytree(seeds, "x")
    rows = write_rows(Path("other.csv"), table(5, 3))
    words = ("--ensemble", "--data.test", rows, "--allow-import", "tests")
    assert plcli("test", "--run", "x", *words).code == 0
    result = plcli("compare", "x", "x/seed-1")
    assert result.code == 0, result.err
    assert "its ensemble was not tested on its test rows" in words_of(result.out)
    assert "(ensemble of 2)" not in words_of(result.out)


def test_a_campaign_in_use_is_refused(tmp_path: Path) -> None:
    held = RunLock(tmp_path / "run", command="fit")
    try:
        result = try_table(tmp_path, "--seeds", "2")
    finally:
        held.release()
    assert result.code == 5
    assert "is in use by" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seeds", "1"), "A single run has --seed"),
        (("--seeds", "x"), "--seeds: got 'x', expected a number from 2 to 100"),
        (("--seeds", "1,x"), "--seeds: got '1,x', expected a number of seeds such as 5, or seeds"),
        (("--seeds", "1,1"), "--seeds: 1 is given twice"),
        (("--folds", "1"), "--folds: got '1', expected a number from 2"),
        (("--seeds", "2", "--folds", "2"), "--seeds and --folds: both are given"),
        (("--folds", "2", "--data.validation", "v.csv"), "--data.validation null"),
        (("--folds", "2", "--data.fold", "1"), "--folds: data.fold is given as well"),
        (("--seeds", "2", "--resume", "must"), "--resume must: there is no campaign"),
        (("--seeds", "2", "--resume", "allow-changes"), "--resume allow-changes: the sub-runs"),
        (("--seeds", "2", "--trainer.fast_dev_run", "true"), "fast_dev_run saves nothing"),
        (("--seeds", "2", "--trainer.devices", "2"), "would use 2 processes on 1 node"),
    ],
)
def test_what_makes_no_campaign_is_refused(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    result = try_table(tmp_path, *words)
    assert result.code == 2, result.err
    assert message in result.err


def test_a_launcher_of_several_processes_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"WORLD_SIZE": 2, "RANK": 0, "LOCAL_RANK": 0}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    result = try_table(tmp_path, "--seeds", "2")
    assert result.code == 2
    assert "torchrun has started 2 processes" in result.err
    assert "--seed_everything 42 --data.init_args.split_seed 42 --run RUN/seed-42" in result.err


def test_a_run_of_another_split_is_not_taken_for_a_sub_run(tmp_path: Path) -> None:
    run = tmp_path / "run" / "seed-42"
    (run / "model").mkdir(parents=True)
    (run / "model" / "plcli.json").write_text("{}", encoding="utf-8")
    (run / "config.yaml").write_text("seed_everything: 42\n", encoding="utf-8")
    result = try_table(tmp_path, "--seeds", "2")
    assert result.code == 2
    assert "was trained with data.init_args.split_seed null" in result.err


def test_an_ensemble_needs_a_campaign_of_models_that_can_be_averaged(
    seeds: Path, plcli: Command
) -> None:
    result = plcli("test", "--run", seeds / "seed-1", "--ensemble")
    assert result.code == 2
    assert "averages the models of a campaign, but" in result.err
    result = plcli("test", "--run", seeds, "--ensemble", "--ckpt_path", "best")
    assert "Remove --ckpt_path" in result.err
    explained = plcli("predict", "--run", seeds, "--ensemble", "--explain", "--input", "x.csv")
    assert "--explain and --ensemble: both are given" in explained.err
    assert "takes no value" in plcli("predict", "--ensemble=yes").err
    assert "is an option of plcli test and predict" in plcli("validate", "--ensemble").err
    for task in (CausalLM, MaskedLM, Seq2SeqModel):
        assert not module_contract(task).offers("averaged")
