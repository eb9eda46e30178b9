"""fit, end to end: what it prints, what the run folder holds, and how it starts again."""

import json
from pathlib import Path

import yaml

from tests.conftest import Command
from tests.running import read_metrics


def test_the_run_folder_holds_config_metrics_checkpoints_and_model(
    plcli: Command, linear_config: Path
) -> None:
    assert plcli("fit", "-c", linear_config).code == 0
    names = {
        path.relative_to("runs/table-1").as_posix()
        for path in Path("runs/table-1").rglob("*")
        if path.is_file()
    }
    assert names == {
        "config.yaml",
        "environment.json",
        "metrics.csv",
        "metrics.json",
        "test_rows.parquet",
        "test_predictions.csv",
        "errors.csv",
        "analysis.json",
        "train.log",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "model/README.md",
        "model/model.safetensors",
        "model/plcli.json",
    }


def test_a_second_run_gets_the_next_folder(plcli: Command, linear_config: Path) -> None:
    plcli("fit", "-c", linear_config)
    plcli("fit", "-c", linear_config)
    assert Path("runs/table-2/model/plcli.json").exists()


def test_a_finished_run_is_refused_and_the_ways_out_are_named(
    plcli: Command, linear_config: Path
) -> None:
    plcli("fit", "-c", linear_config, "--run", "here")
    result = plcli("fit", "-c", linear_config, "--run", "here")
    assert result.code == 2
    assert "here: this run is finished. Score it with `plcli test --run here`" in result.err


def test_resume_auto_takes_a_finished_run_for_done(plcli: Command, linear_config: Path) -> None:
    plcli("fit", "-c", linear_config, "--run", "here")
    result = plcli("fit", "-c", linear_config, "--run", "here", "--resume", "auto")
    assert (result.code, result.out) == (0, "here: done.\n")


def test_the_saved_config_repeats_the_run(plcli: Command, linear_config: Path) -> None:
    plcli("fit", "-c", linear_config)
    plcli("fit", "-c", "runs/table-1/config.yaml", "--run", "again")
    assert read_metrics(Path("runs/table-1")) == read_metrics(Path("again"))
    assert yaml.safe_load(Path("again/config.yaml").read_text())["trainer"]["max_epochs"] == 2


def test_a_fit_by_tokens_a_batch_takes_more_steps_with_fewer_tokens(
    plcli: Command, text_config: Path
) -> None:
    said = [
        plcli("fit", "-c", text_config, "--data.tokens_per_batch", tokens).err
        for tokens in (20, 1000)
    ]
    assert "1 steps" in said[1]
    assert "1 steps" not in said[0]


def test_gradient_checkpointing_gives_the_same_weights(plcli: Command, text_config: Path) -> None:
    for run, switch in (("with", "true"), ("without", "false")):
        plcli(
            *("fit", "-c", text_config, "--run", run, "--model.gradient_checkpointing", switch),
            *("--model.architecture.hidden_dropout_prob", "0.0"),
            *("--model.architecture.attention_probs_dropout_prob", "0.0"),
        )
    first, second = (
        json.loads(Path(run, "metrics.json").read_text()) for run in ("with", "without")
    )
    assert abs(first["test"]["loss"] - second["test"]["loss"]) < 1e-5


def test_without_a_test_split_no_test_is_recommended(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config, "--data.test", "null")
    assert "plcli test" not in result.out


def test_a_module_in_the_folder_one_is_in_is_found(plcli: Command, tmp_path: Path) -> None:
    text = "import lightning.pytorch as pl\nclass Own(pl.LightningModule):\n    pass\n"
    (tmp_path / "own_module_here.py").write_text(text)
    result = plcli("fit", "--model", "own_module_here.Own", "--allow-import", "own_module_here")
    assert result.err.endswith(
        "no data given. Set a data class in a config, or with --data CLASS.\n"
    )
