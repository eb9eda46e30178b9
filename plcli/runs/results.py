"""The results of a run: its metrics, the artefact's card, and the table of metrics."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from plcli.config.contracts import data_contract, module_contract
from plcli.config.marks import class_of, marked
from plcli.errors import printable
from plcli.runs import metric_names, tables


def results(model: Any, logged: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """Return the results of an evaluation.

    Args:
        model: the module; its own `results`, numbers and tables, are used if it has them.
        logged: the metrics that the evaluation has logged, used otherwise.
        stage: validation or test.

    Returns:
        The results by name. A name loses its stage: `val_loss` and `valid/loss` are `loss`. Of a
        module that keeps its evaluated rows, they have `intervals`,
        `baselines` and, with a temperature, `calibration`, too.
    """
    split, contract = "val" if stage == "validation" else stage, module_contract(model)
    if own := contract.results.get(split):
        return {**own, **_of_rows(contract.evaluated_rows.get(split))}
    short = {name: metric_names.without_stage(name, stage) for name in logged}
    unique = {name for name in short.values() if list(short.values()).count(name) == 1}
    return {
        short[name] if short[name] in unique else name: float(value)
        for name, value in logged.items()
    }


def _of_rows(rows: Any) -> dict[str, Any]:
    """Return the 95 % intervals and the baselines of an evaluation."""
    if rows is None:
        return {}
    found = {
        "intervals": rows.intervals(),
        "baselines": rows.baselines(),
        "calibration": rows.calibration(),
    }
    return {name: value for name, value in found.items() if value}


def card(
    model: Any,
    data: Any,
    *,
    config: Mapping[str, Any],
    facts: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the content of plcli.json.

    Args:
        model: the LightningModule.
        data: the LightningDataModule, or None.
        config: the resolved config.
        facts: the facts of the data.
        metrics: the metrics of each split.
    """
    own, rows = module_contract(model), data_contract(data, model)
    columns = {}
    if rows.offers("columns"):
        inputs = list(rows.columns("predict"))
        targets = [column for column in rows.columns("train") if column not in inputs]
        columns = {"inputs": inputs, "targets": targets}
    return {
        "task": own.task,
        "model": _portable(config["model"]),
        "data": _portable(config["data"]) if config.get("data") else None,
        "columns": columns,
        "labels": facts.get("labels"),
        "max_length": facts.get("max_length"),
        **own.artefact_facts(),
        **({"base": base} if (base := own.adapter_base) else {}),
        "facts": dict(facts),
        "metrics": dict(metrics),
        "data_fingerprints": dict(rows.fingerprints()),
    }


def _portable(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return class path and arguments, without those that are specific to this machine."""
    local = marked(class_of(section), "local")
    arguments = {
        key: value for key, value in section.get("init_args", {}).items() if key not in local
    }
    return {"class_path": section["class_path"], "init_args": arguments}


def show(console: Console, splits: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a table with the scalar metrics of each split.

    The last split, which is the test if there is one, has its intervals and baselines beside it.
    """
    plain = {
        split: {name: value for name, value in values.items() if isinstance(value, float)}
        for split, values in splits.items()
    }
    if not any(plain.values()):
        return  # the module logs nothing
    last = list(splits)[-1]
    intervals, baselines = (splits[last].get(name) or {} for name in ("intervals", "baselines"))
    extra = [f"{last}: 95 % interval"] if intervals else []
    table = tables.table(
        "metric", *map(escape, plain), *extra, *(f"baseline: {escape(name)}" for name in baselines)
    )
    for name in dict.fromkeys(name for values in plain.values() for name in values):
        cells = [f"{values[name]:.4f}" if name in values else "" for values in plain.values()]
        if intervals:
            found = intervals.get(name)
            cells.append(f"{found['low']:.4f} to {found['high']:.4f}" if found else "")
        for scores in baselines.values():
            cells.append(f"{scores[name]:.4f}" if name in scores else "")
        table.add_row(escape(printable(name)), *cells)
    console.print(table)


def below_baseline(values: Mapping[str, Any], split: str) -> list[str]:
    """Return a warning for each baseline that is better than the model in some scores of a split.

    Scores that are the same with four digits count as equal.
    """
    found = []
    for baseline, scores in (values.get("baselines") or {}).items():
        worse = []
        for name, simple in scores.items():
            own, direction = values.get(name), metric_names.direction(name)
            if not isinstance(own, float) or f"{own:.4g}" == f"{simple:.4g}":
                continue
            if own < simple if direction == "max" else own > simple and direction == "min":
                worse.append(f"{name} {own:.4g} (baseline {simple:.4g})")
        if worse:
            found.append(f"{split}: worse than the baseline, {baseline}: {', '.join(worse)}")
    return found
