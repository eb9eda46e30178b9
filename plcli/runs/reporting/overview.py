"""The sections of a report that every run has: what it is, its metrics, curves, environment."""

import math
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import yaml

from plcli.runs import metric_names, metrics_file, results
from plcli.runs.environment import command_line
from plcli.runs.reporting import charts, page
from plcli.runs.reporting.charts import Line
from plcli.runs.reporting.contents import Contents
from plcli.runs.reporting.numbers import number, smoothed
from plcli.runs.reporting.page import Markup

MOST_CHARTS = 12  # of curves
MOST_TILES = 4
MANY_POINTS = 60  # of a curve of single steps, above which its mean is drawn, too
MOST_SHOWN = 300  # letters of a fact


def tiles(contents: Contents) -> Markup:
    """Return the most important numbers: the main score first, with its interval and baseline."""
    scores, fit = contents.scores, contents.metrics.get("fit") or {}
    plain = [name for name, value in scores.items() if isinstance(value, float)]
    first = [name for name in (contents.monitor,) if name in plain]
    others = [name for name in plain if name not in first and name != "loss"]
    shown = [*first, *others, *(name for name in plain if name == "loss" and name not in first)]
    boxes = [_tile(name, contents) for name in shown[: MOST_TILES - 1]]
    if epoch := metrics_file.chosen_epoch(fit):
        lines = [f"chosen by {fit['monitor']}" if fit.get("monitor") else ""]
        if fit.get("seconds") is not None:
            seconds = float(fit["seconds"])
            lines.append(f"{duration(seconds)} of training")
            if fit.get("steps"):
                lines.append(f"{number(seconds / fit['steps'], 3)} s per step in all")
        of = f" of {fit['epochs']}" if fit.get("epochs") and fit.get("monitor") else ""
        boxes.append(_box("best epoch", f"{epoch}{of}", lines))
    return page.element("div", page.join(boxes), "tiles") if boxes else Markup()


def _tile(name: str, contents: Contents) -> Markup:
    scores, lines = contents.scores, []
    if ends := (scores.get("intervals") or {}).get(name):
        lines.append(f"95 % {number(ends['low'], 3)} to {number(ends['high'], 3)}")
    for baseline, values in (scores.get("baselines") or {}).items():
        if name in values:
            lines.append(f"{baseline}: {number(values[name], 3)}")
    return _box(f"{contents.split} {name}", number(scores[name], 3), lines)


def _box(name: str, value: str, lines: Sequence[str]) -> Markup:
    below = [page.element("span", line) for line in lines if line]
    head = [page.element("span", name), page.element("b", value)]
    return page.element("div", page.join([*head, *below]), "tile")


def warnings(contents: Contents) -> Markup:
    """Return what a reader should know before believing the numbers."""
    found = list(contents.warnings)
    for split in ("validation", "test"):
        values = contents.metrics.get(split)
        for told in results.below_baseline(values, split) if values else []:
            head = told.partition(", ")[0]
            found = [each for each in found if not each.startswith(head)]
            found.append(told)
    if contents.split == "validation":
        found.append(
            "there are no test rows: the scores are of the validation rows, by which the "
            "best epoch was chosen"
        )
    if not contents.card and not contents.metrics:
        found.append("the run is not finished: it has no model and no metrics")
    boxes = page.join([page.element("li", each) for each in found])
    return page.element("ul", boxes, "warnings") if found else Markup()


def trained(contents: Contents) -> Markup:
    """Return what was trained on what."""
    config, card = contents.plain, contents.card
    model, data = (
        {
            key.removeprefix(f"{section}.init_args."): value
            for key, value in config.items()
            if key.startswith(f"{section}.init_args.")
        }
        for section in ("model", "data")
    )
    source = model.get("pretrained") or model.get("init_from")
    sizes = [
        f"{key.removeprefix('architecture.')} {value}"
        for key, value in model.items()
        if key.startswith("architecture.")
    ]
    labels = [str(label) for label in card.get("labels") or []]
    shown = {
        "task": card.get("task"),
        "model": source or (f"random weights: {', '.join(sizes)}" if sizes else None),
        "teacher": (card.get("teacher") or {}).get("name"),
        "class": str(config.get("model.class_path") or "").rpartition(".")[2],
        "training": contents.described.get("training", "").removeprefix("training "),
        "optimizer": _optimizer(model, (contents.metrics.get("fit") or {}).get("lr")),
        "batch size": model.get("batch_size") or data.get("batch_size"),
        "max length": card.get("max_length") or data.get("max_length"),
        "labels": f"{len(labels)}: {', '.join(labels)}" if labels else None,
    }
    rows = {}
    for split in ("train", "validation", "test"):
        told = [str(data[split])] if data.get(split) else []
        told += [contents.described[split]] if split in contents.described else []
        rows[split] = "\n".join(_cut(each) for each in told)
    lines = {name: page.join(told.split("\n"), "<br>") for name, told in rows.items() if told}
    cut = {name: _cut(str(value)) for name, value in shown.items() if value is not None}
    return page.grid(
        [
            page.card(page.facts(each), heading=name)
            for name, each in (("Model", cut), ("Data", lines))
            if each
        ]
    )


def _optimizer(model: Mapping[str, Any], highest: float | None) -> str | None:
    named = str(model.get("optimizer.class_path", "")).rpartition(".")[2]
    given = model.get("optimizer.init_args.lr")
    rate = given if isinstance(given, float) else highest
    parts = [named, f"learning rate {rate:g}" if isinstance(rate, float) else ""]
    parts.append(f"{model['schedule']} schedule" if model.get("schedule") else "")
    return ", ".join(part for part in parts if part) or None


def metrics(contents: Contents) -> Markup:
    """Return the table of metrics, with intervals and baselines of the last split."""
    splits = [name for name in ("validation", "test") if contents.metrics.get(name)]
    if not splits:
        return Markup()
    last = contents.scores
    intervals, baselines = last.get("intervals") or {}, last.get("baselines") or {}
    names = dict.fromkeys(
        name
        for split in splits
        for name, value in contents.metrics[split].items()
        if isinstance(value, float)
    )
    heads = ["metric", *splits, *(["95 % interval", ""] if intervals else []), *baselines]
    rows = []
    for name in names:
        cells: list[Any] = [name]
        cells += [
            number(value) if isinstance(value := contents.metrics[split].get(name), float) else ""
            for split in splits
        ]
        if intervals:
            ends, value = intervals.get(name), last.get(name)
            told = f"{number(ends['low'])} to {number(ends['high'])}" if ends else ""
            cells.append(page.element("span", told, "keep"))
            marks = [(simple[name], each) for each, simple in baselines.items() if name in simple]
            known = ends is not None and isinstance(value, float) and math.isfinite(value)
            cells.append(_strip(float(value or 0.0), ends, marks) if ends and known else "")
        for simple in baselines.values():
            worse = name in simple and _is_worse(name, last.get(name), simple[name])
            shown = number(simple[name]) if name in simple else ""
            cells.append(page.element("span", shown, "worse") if worse else shown)
        rows.append(cells)
    main = list(names).index(contents.monitor) if contents.monitor in names else None
    count = 1 + len(splits)
    right = [*range(1, count), *range(count + 2 * bool(intervals), len(heads))]
    told = (
        "The interval says how much a score would vary with other rows of the same kind, not with "
        "another seed of the training; small ticks are baselines."
    )
    below = page.paragraph(told, "soft") if intervals else ""
    return page.join([page.table(heads, rows, numbers=right, main=main), below])


def _is_worse(name: str, own: Any, simple: float) -> bool:
    direction = metric_names.direction(name)
    if not isinstance(own, float) or direction is None or f"{own:.4g}" == f"{simple:.4g}":
        return False
    return own < simple if direction == "max" else own > simple


def _strip(value: float, ends: Mapping[str, float], marks: Sequence[tuple[float, str]]) -> Markup:
    every = [value, ends["low"], ends["high"], *(at for at, _ in marks)]
    low, high = min(every), max(every)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    else:
        room = (high - low) * 0.1 or 1.0
        low, high = low - room, high + room
    return Markup(charts.interval(value, ends["low"], ends["high"], span=(low, high), marks=marks))


# curves


def series(contents: Contents) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return (step, value) of each metric of metrics.csv without its stage, by stage.

    Steps count from 1. Columns without a stage, such as lr, have the stage "".
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for line in contents.steps:
        step = line.get("step")
        if step is None:
            continue
        for name, value in line.items():
            if name in ("step", "epoch") or not math.isfinite(value):
                continue
            stage, short = _stage(name)
            if stage != "test":
                found.setdefault(short, {}).setdefault(stage, []).append((step + 1, value))
    return found


def curves(contents: Contents) -> tuple[Markup, list[str]]:
    """Return the curves of metrics.csv, and why some are missing."""
    found = series(contents)
    if not found:
        return Markup(), ["curves: metrics.csv has no lines"]
    found = {name: each for name, each in found.items() if max(map(len, each.values())) > 1}
    if not found:
        return Markup(), ["curves: metrics.csv has one point of each metric"]
    order = sorted(found, key=lambda name: (name != "loss", name == "lr", "" in found[name]))
    best = _best_step(contents)
    every = (points for stages in found.values() for points in stages.values())
    last = max(points[-1][0] for points in every)
    cards = [_curve(name, found[name], contents, best, last) for name in order[:MOST_CHARTS]]
    why = []
    if len(order) > MOST_CHARTS:
        why.append(f"curves of {len(order) - MOST_CHARTS} further columns: metrics.csv has them")
    if not any("per_sec" in name or "throughput" in name for name in order):
        why.append(
            "throughput over time: metrics.csv has no such column, as its bits are those of a "
            "training that was not interrupted"
        )
    return page.grid([card for card in cards if card]), why


@cache
def _stage(name: str) -> tuple[str, str]:
    for stage in ("validation", "test", "train"):
        short = metric_names.without_stage(name, stage)
        if short != name:
            return stage, short
    return "", name


def _best_step(contents: Contents) -> float | None:
    """Return the step after which the best epoch was validated."""
    epoch = (contents.metrics.get("fit") or {}).get("best_epoch")
    steps = [
        line["step"] + 1
        for line in contents.steps
        if line.get("epoch") == epoch and any(_stage(name)[0] == "validation" for name in line)
    ]
    return max(steps) if steps else None


def _curve(
    name: str,
    stages: Mapping[str, list[tuple[float, float]]],
    contents: Contents,
    best: float | None,
    last: float,
) -> Markup:
    drawn: list[Line] = []
    for stage in ("train", "validation", ""):
        points = stages.get(stage)
        if not points:
            continue
        label = stage or name
        if stage != "validation" and len(points) > MANY_POINTS and name != "lr":
            drawn += [
                Line(label, smoothed(points, min(300, len(points) // 30))),
                Line(label, points, faint=True),
            ]
        else:
            drawn.append(Line(label, points, dots=len(points) <= 20 and stage == "validation"))
    baselines = (contents.metrics.get("validation") or {}).get("baselines") or {}
    levels = [(values[name], each) for each, values in baselines.items() if name in values]
    rules = [(best, "best epoch")] if best is not None and "validation" in stages else []
    shown = [line for line in drawn if not line.faint]
    only = len(shown) == 1 and shown[0].name not in ("", name)
    heading = {"lr": "learning rate"}.get(name, name)
    chart = charts.lines(
        drawn,
        title=f"{heading} by step",
        x_name="step",
        x_range=(0.0, last),
        y_range=(0.0, None) if name == "lr" else (None, None),
        rules=rules,
        levels=levels[:2],
    )
    if not chart:
        return Markup()
    return page.figure(chart, heading=f"{shown[0].name} {heading}" if only else heading)


# environment and repeating


def environment(contents: Contents) -> Markup:
    """Return the machine, the versions and the state of the code."""
    found = contents.environment
    if not found:
        return Markup()
    machine, git = found.get("machine") or {}, found.get("git") or {}
    processes = found.get("processes") or {}
    commit = git.get("commit")
    shown = {
        "started": found.get("started"),
        "seed": found.get("seed"),
        "plcli": found.get("plcli"),
        "python": found.get("python"),
        "system": machine.get("system"),
        "processor": machine.get("processor"),
        "cores": machine.get("cores"),
        "threads": machine.get("threads"),
        "processes": processes.get("world_size"),
        "commit": f"{commit}{' with changes' if git.get('dirty') else ''}" if commit else None,
    }
    fit = contents.metrics.get("fit") or {}
    seconds, steps = fit.get("seconds"), fit.get("steps")
    if seconds and steps:
        shown |= {
            "training": f"{number(steps)} steps in {duration(float(seconds))}, "
            f"{number(steps / seconds, 3)} steps a second"
        }
    packages = page.facts(dict(found.get("packages") or {}))
    prints = page.facts(
        {
            f"{name} of {split}": digest
            for name, part in (("source", "data"), ("rows", "rows"))
            for split, digest in (found.get(part) or {}).items()
        }
    )
    boxes = [page.card(page.facts(shown), heading="Machine")]
    boxes += [page.card(packages, heading="Packages")] if packages else []
    more = page.card(page.folded("fingerprints of the data (sha256)", prints)) if prints else ""
    return page.join([page.grid(boxes), more])


def config(contents: Contents) -> Markup:
    """Return the resolved config, folded."""
    if not contents.config:
        return Markup()
    written = yaml.safe_dump(contents.config, sort_keys=False, allow_unicode=True)
    return page.card(page.folded("config.yaml, with all defaults", page.code(written)))


def repeat(contents: Contents) -> Markup:
    """Return the commands that repeat the run."""
    folder, found = contents.run.folder, contents.environment
    lines = []
    commit = (found.get("git") or {}).get("commit")
    if commit:
        lines.append(f"git checkout {commit}")
    versions = [f"{name}=={version}" for name, version in (found.get("packages") or {}).items()]
    if versions:
        lines.append(shlex.join(["pip", "install", *(each.partition("+")[0] for each in versions)]))
    if found.get("command"):
        lines.append(command_line(found["command"]))
    if contents.config:
        lines.append("# or from the config with all defaults")
        lines.append(
            shlex.join(
                ["plcli", "fit", "-c", str(folder / "config.yaml"), "--run", f"{folder}-again"]
            )
        )
    lines += [
        "# the same scores from the saved weights",
        shlex.join(["plcli", "test", "--run", str(folder)]),
    ]
    if contents.card:
        lines.append(shlex.join(["plcli", "predict", "--run", str(folder), "--input", "FILE"]))
    return page.card(page.code("\n".join(lines)))


def duration(seconds: float) -> str:
    """Return a duration for a reader."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _cut(told: str) -> str:
    return told if len(told) <= MOST_SHOWN else f"{told[:MOST_SHOWN]} …"
