"""results.json -> a Markdown table and a picture."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Runs = Mapping[str, Sequence[Mapping[str, Any]]]
RATES = {  # part: (title, key, unit)
    "training": ("Training", "samples_per_second", "samples/s"),
    "predicting": ("Predicting, file to file", "rows_per_second", "rows/s"),
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


def ratio(runs: Runs, name: str, key: str) -> float:
    """Return how many times as fast plcli was: the median over the turns."""
    pairs = zip(runs["plcli"], runs[name], strict=False)  # a slow one has fewer turns
    return statistics.median(ours[key] / theirs[key] for ours, theirs in pairs)


def markdown(results: Mapping[str, Any]) -> str:
    """Return all parts as Markdown tables."""
    lines: list[str] = []
    for part, (title, key, unit) in RATES.items():
        if part in results:
            found, runs = results[part], results[part]["runs"]
            with_accuracy = part == "training"
            lines += _head(title, found, f"{found['rows']:,} rows")
            lines += _row("", unit, "plcli is so many times as fast", *["accuracy"] * with_accuracy)
            lines += _row("---", *["---:"] * (2 + with_accuracy))
            for name in runs:
                accuracy = []
                if with_accuracy:
                    shown = name in found["accuracy_of"]
                    accuracy = [f"{median(runs[name], 'accuracy'):.3f}" if shown else ""]
                rate = median(runs[name], key)
                said = f"{name} ({len(runs[name])} runs)"
                lines += _row(said, f"{rate:,.0f}", f"{ratio(runs, name, key):.2f}", *accuracy)
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
        found = results["reaching"]
        lines += _head(
            f"Seconds to a validation accuracy of {found['target']}",
            found,
            f"{found['rows']:,} rows, {found['epochs']} epochs at most, 3 evaluations each",
        )
        lines += _row("", "seconds, a seed each") + _row("---", "---:")
        for name, runs in found["runs"].items():
            times = [reached(run["curve"], found["target"]) for run in runs]
            said = ", ".join("not reached" if time is None else f"{time:.0f}" for time in times)
            lines += _row(name, said)
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


def reached(curve: Sequence[Mapping[str, float]], target: float) -> float | None:
    """Return the seconds of the first evaluation at or above the target; None if there is none."""
    return next((point["seconds"] for point in curve if point["accuracy"] >= target), None)


def _head(title: str, found: Mapping[str, Any], about: str) -> list[str]:
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    where = [found["data"], about] if about else []
    said = [*where, f"{found['processor']}, {found['threads']} threads", versions, found["date"]]
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
