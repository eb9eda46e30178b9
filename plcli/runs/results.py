"""What came out of a run: its numbers, the artefact's card, and the table on the screen."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

NOT_IN_CARD = (  # besides the sources
    *("pretrained", "architecture", "init_from", "tokenizer", "optimizer"),
    *("lora", "freeze"),
)
SOURCES = ("train", "validation", "test", "predict")


def results(model: Any, logged: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the numbers of an evaluation.

    Args:
        model: its `results[prefix]` are taken where it has them: plain numbers and tables.
        logged: the logged metrics, taken else.
        prefix: `val` or `test`.
    """
    own = getattr(model, "results", {}).get(prefix)
    return (
        dict(own)
        if own
        else {
            name.removeprefix(f"{prefix}_"): float(value)
            for name, value in logged.items()
            if name.startswith(f"{prefix}_")
        }
    )


def card(
    model: Any,
    data: Any,
    *,
    config: Mapping[str, Any],
    facts: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what plcli.json says of a model.

    Args:
        model: the LightningModule.
        data: the LightningDataModule, or None.
        config: the resolved config.
        facts: what the data told the model.
        metrics: the numbers of each split.
    """
    columns, fingerprints = {}, {}
    if hasattr(data, "columns"):
        inputs = list(data.columns("predict"))
        targets = [column for column in data.columns("train") if column not in inputs]
        columns = {"inputs": inputs, "targets": targets}
    if hasattr(data, "fingerprints"):
        fingerprints = dict(data.fingerprints())
    return {
        "task": getattr(model, "task", None),
        "model": _portable(config["model"]),
        "data": _portable(config["data"]) if config.get("data") else None,
        "columns": columns,
        "labels": facts.get("labels"),
        "max_length": facts.get("max_length"),
        **(model.artefact_facts() if hasattr(model, "artefact_facts") else {}),
        **({"base": base} if (base := getattr(model, "adapter_base", None)) else {}),
        "facts": dict(facts),
        "metrics": dict(metrics),
        "data_fingerprints": fingerprints,
    }


def _portable(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return class path and arguments without sources and weights: what holds anywhere."""
    arguments = {
        key: value
        for key, value in section.get("init_args", {}).items()
        if key not in (*SOURCES, *NOT_IN_CARD)
    }
    return {"class_path": section["class_path"], "init_args": arguments}


def show(console: Console, splits: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the plain numbers of each split."""
    plain = {
        split: {name: value for name, value in values.items() if isinstance(value, float)}
        for split, values in splits.items()
    }
    table = Table("metric", *plain)
    for name in dict.fromkeys(name for values in plain.values() for name in values):
        cells = (f"{values[name]:.4f}" if name in values else "" for values in plain.values())
        table.add_row(name, *cells)
    console.print(table)
