"""results.json -> a Markdown table and a picture."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Runs = Mapping[str, Sequence[Mapping[str, Any]]]
RATES = {  # part: (title, key, unit)
    "training": ("Training, a long epoch", "samples_per_second", "samples/s"),
    "short": ("Training, short epochs", "samples_per_second", "samples/s"),
    "predicting": ("Predicting, file to file", "rows_per_second", "rows/s"),
    "engines": ("Predicting with engines, file to file", "rows_per_second", "rows/s"),
    "encoding": ("Encoding", "rows_per_second", "rows/s"),
}
TOOLS = {
    "encode": "reading and encoding",
    "second": "the second start",
    "loader": "an epoch of batches, no model",
    "predict": "predict, a tiny model",
}


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Write results.md and results.png."""
    (folder / "results.md").write_text(markdown(results), encoding="utf-8")
    picture(results, folder / "results.png")


def median(runs: Iterable[Mapping[str, Any]], key: str) -> float:
    """Return the median of a figure."""
    return statistics.median(run[key] for run in runs)


def ratio(runs: Runs, name: str, key: str) -> float | None:
    """Return how many times as fast plcli was in that precision: the median over the turns."""
    ours = runs.get("plcli, bf16" if name.endswith(", bf16") else "plcli")
    if ours is None:
        return None
    pairs = zip(ours, runs[name], strict=False)  # a slow one has fewer turns
    return statistics.median(one[key] / other[key] for one, other in pairs)


def markdown(results: Mapping[str, Any]) -> str:
    """Return all parts as Markdown tables."""
    lines: list[str] = []
    for part, (title, key, unit) in RATES.items():
        if part in results:
            found, runs = results[part], results[part]["runs"]
            trained = key == "samples_per_second"
            more = ["CPU seconds per 1,000", "accuracy"] if trained else []
            about = f"{found['rows']:,} rows"
            about += f", {found['epochs']} epochs" if "epochs" in found else ""
            lines += _head(title, found, about)
            lines += _row("", unit, "plcli is so many times as fast", *more)
            lines += _row("---", *["---:"] * (2 + len(more)))
            for name in runs:
                cells = [f"{median(runs[name], key):,.0f}", _number(ratio(runs, name, key))]
                if trained:
                    measured = "cpu_seconds_per_1000" in runs[name][0]
                    cpu = median(runs[name], "cpu_seconds_per_1000") if measured else None
                    shown = name in found.get("accuracy_of", runs)
                    accuracy = median(runs[name], "accuracy") if shown else None
                    cells += [_number(cpu, 1), _number(accuracy, 3)]
                lines += _row(f"{name} ({len(runs[name])} runs)", *cells)
    if "accuracy" in results:
        found = results["accuracy"]
        about = f"{found['rows']:,} rows, {found['epochs']} epochs"
        lines += _head("Test accuracy over seeds", found, about)
        lines += _row("", "mean", "lowest to highest", "standard deviation") + _row(
            "---", *["---:"] * 3
        )
        for name, runs in found["runs"].items():
            values = [run["accuracy"] for run in runs]
            spread = f"{min(values):.3f} to {max(values):.3f}"
            mean, deviation = statistics.mean(values), statistics.stdev(values)
            lines += _row(f"{name}, {len(values)} seeds", f"{mean:.4f}", spread, f"{deviation:.4f}")
    if "reaching" in results:
        lines += _reaching(results["reaching"])
    if "start" in results:
        lines += _head("Start-up", results["start"], "")
        lines += _row("", "CPU seconds") + _row("---", "---:")
        for name, runs in results["start"]["runs"].items():
            lines += _row(f"`{name}`", f"{median(runs, 'cpu_seconds'):.2f}")
    if "growth" in results:
        found = results["growth"]
        lines += _head("Growth: seconds, peak memory", found, "")
        lines += _row("", *(f"{rows:,} rows" for rows in found["rows"]))
        lines += _row("---", *["---:"] * len(found["rows"]))
        for tool, runs in found["runs"].items():
            cells = (f"{run['seconds']:.1f} s, {run['peak_mb']} MB" for run in runs)
            lines += _row(TOOLS[tool], *cells)
    return "\n".join(lines).lstrip() + "\n"


def _reaching(found: Mapping[str, Any]) -> list[str]:
    """Return what each contestant needed until the target, for each number of rows."""
    about = f"{found['epochs']} epochs at most, {found['evaluations']} evaluations each"
    lines = _head(f"Training until a validation accuracy of {found['target']}", found, about)
    columns = (
        "seconds, a seed each",
        "median",
        "CPU seconds",
        "steps",
        "plcli is so many times as fast",
    )
    lines += _row("rows", "", *columns) + _row("---:", "---", *["---:"] * len(columns))
    for rows, runs in found["sizes"].items():
        for name, each in runs.items():
            points = [reached(run["curve"], found["target"]) for run in each]
            seconds = [
                "not reached" if point is None else f"{point['seconds']:.0f}" for point in points
            ]
            medians = [middle(points, key) for key in ("seconds", "cpu_seconds", "step")]
            ours = runs.get("plcli, bf16" if name.endswith(", bf16") else "plcli", [])
            base = middle([reached(run["curve"], found["target"]) for run in ours], "seconds")
            times = medians[0] / base if medians[0] and base else None
            shown = [_number(value, 0) for value in medians]
            lines += _row(f"{int(rows):,}", name, ", ".join(seconds), *shown, _number(times))
    return lines


def reached(curve: Sequence[Mapping[str, float]], target: float) -> Mapping[str, float] | None:
    """Return the first evaluation at or above the target; None if there is none."""
    return next((point for point in curve if point["accuracy"] >= target), None)


def middle(points: Sequence[Mapping[str, float] | None], key: str) -> float | None:
    """Return the median of a figure over seeds; None if half of them did not get there."""
    values = [point.get(key, 0.0) if point else float("inf") for point in points]
    found = statistics.median(values) if values else 0.0
    return found if 0 < found < float("inf") else None


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _head(title: str, found: Mapping[str, Any], about: str) -> list[str]:
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    where = [found["data"], about, f"batches of {found.get('batch', 32)}"] if about else []
    has = f" with {', '.join(found['has'])}" if "has" in found else ""
    processor = f"{found['processor']}{has}, {found['threads']} threads"
    said = [*where, processor, versions, found["date"]]
    return ["", f"**{title}** ({'; '.join(said)})", ""]


def _row(*cells: str) -> list[str]:
    return ["| " + " | ".join(cells) + " |"]


def picture(results: Mapping[str, Any], path: Path) -> None:
    """Draw the rates as bars, each part beside the others."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    parts = [part for part in RATES if part in results]
    if not parts:
        return
    figure, panels = pyplot.subplots(
        1, len(parts), figsize=(5.5 * len(parts), 3.6), squeeze=False, layout="constrained"
    )
    for panel, part in zip(panels[0], parts, strict=True):
        title, key, unit = RATES[part]
        runs = results[part]["runs"]
        names = list(runs)[::-1]
        values = [median(runs[name], key) for name in names]
        colours = ["#1f6feb" if name.startswith("plcli") else "#b8bec6" for name in names]
        bars = panel.barh(names, values, color=colours)
        panel.bar_label(bars, labels=[f"{value:,.0f}" for value in values], padding=3)
        panel.set_xlim(0, max(values) * 1.18)
        panel.set_title(f"{title}, {unit}", loc="left")
        panel.spines[["top", "right", "bottom"]].set_visible(False)
        panel.tick_params(bottom=False, labelbottom=False, left=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
