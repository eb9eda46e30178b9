"""The charts of a report as PNG files for papers and slides, drawn by matplotlib."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from plcli.packages import need
from plcli.runs import atomic_files
from plcli.runs.reporting import charts, evaluation, overview
from plcli.runs.reporting.contents import Contents
from plcli.runs.tables import shortened

INCHES = (5.0, 3.2)
DOTS = 160  # an inch
COLOURS = ("#2f5bd8", "#c8651b", "#0f8a6b")


def write(contents: Contents, folder: Path) -> list[Path]:
    """Write the charts of a run as PNG files, and return them; those of the same name are replaced.

    Args:
        contents: the files of the run.
        folder: the folder, which is made.

    Raises:
        MachineError: if matplotlib is not installed.
    """
    need("matplotlib", extra="figures", purpose="--figures")
    from matplotlib.figure import Figure  # without pyplot, which would look for a display

    drawings: dict[str, Callable[[Any, Any], None]] = {
        **_curves(contents),
        **_classes(contents),
        **_matrix(contents),
        **_calibration(contents),
        **_residuals(contents),
        **_lengths(contents),
    }
    folder.mkdir(exist_ok=True)
    written = []
    for name, draw in drawings.items():
        figure = Figure(figsize=INCHES, dpi=DOTS, layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        draw(figure, axes)
        path = folder / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', name)}.png"
        handle, temporary = atomic_files.new_file(folder)
        with open(handle, "wb") as file:
            figure.savefig(file, format="png")
        temporary.replace(path)
        written.append(path)
    return written


def _plain(names: Iterable[str]) -> dict[str, str]:
    """Return short forms of names that matplotlib does not read as a formula."""
    short = shortened(names, charts.LONGEST)
    return {name: text.replace("$", r"\$") for name, text in short.items()}


def _curves(contents: Contents) -> dict[str, Callable[[Any, Any], None]]:
    def drawn(name: str, stages: dict[str, list[tuple[float, float]]]) -> Callable[..., None]:
        def draw(figure: Any, axes: Any) -> None:
            short = _plain([name, *stages])
            for colour, (stage, points) in zip(COLOURS, sorted(stages.items()), strict=False):
                xs, ys = zip(*points, strict=True)
                marker = "o" if len(points) <= 20 else ""
                axes.plot(
                    xs, ys, color=colour, marker=marker, linewidth=1.2, label=short[stage or name]
                )
            axes.set_xlabel("step")
            axes.set_ylabel(short[name])
            if len(stages) > 1:
                axes.legend(frameon=False)

        return draw

    found = overview.series(contents)
    return {f"curve_{name}": drawn(name, stages) for name, stages in found.items()}


def _classes(contents: Contents) -> dict[str, Callable[[Any, Any], None]]:
    shown = evaluation.shown_classes(contents)
    if not shown:
        return {}

    def draw(figure: Any, axes: Any) -> None:
        figure.set_size_inches(INCHES[0], max(INCHES[1], 0.26 * len(shown) + 0.8))
        rows = shown[::-1]
        short = _plain(each["label"] for each in rows)
        names, values = [short[each["label"]] for each in rows], [each["f1"] for each in rows]
        axes.barh(names, values, color=COLOURS[0], alpha=0.45)
        for place, each in enumerate(rows):
            if ends := each["intervals"].get("f1"):
                axes.plot(ends, [place, place], color="black", linewidth=1)
        axes.set_xlim(0, 1)
        axes.set_xlabel("F1 with its 95 % interval")

    return {"classes": draw}


def _matrix(contents: Contents) -> dict[str, Callable[[Any, Any], None]]:
    found = evaluation.confusion(contents)
    if found is None:
        return {}
    counts, names = found[0], [*_plain(found[1]).values()]

    def draw(figure: Any, axes: Any) -> None:
        size = max(INCHES[1], 0.3 * len(names) + 1.6)
        figure.set_size_inches(size + 0.6, size)
        shares = [[count / (sum(row) or 1) for count in row] for row in counts]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        for row, values in enumerate(counts):
            for column, count in enumerate(values):
                if count:
                    colour = "white" if shares[row][column] > 0.5 else "black"
                    axes.text(
                        column, row, f"{count:g}", ha="center", va="center", color=colour, size=7
                    )

    return {"confusion_matrix": draw}


def _calibration(contents: Contents) -> dict[str, Callable[[Any, Any], None]]:
    found = contents.analysis.get("calibration")
    if not found:
        return {}

    def draw(figure: Any, axes: Any) -> None:
        known = [each for each in found["bins"] if each["n"]]
        axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=0.8)
        xs, ys = ([each[key] for each in known] for key in ("confidence", "accuracy"))
        axes.plot(xs, ys, color=COLOURS[0], marker="o", linewidth=1.2)
        axes.set_xlabel("probability that the model gives")
        axes.set_ylabel("share that is right")

    return {"calibration": draw}


def _residuals(contents: Contents) -> dict[str, Callable[[Any, Any], None]]:
    points = (contents.analysis.get("residuals") or {}).get("points")
    if not points:
        return {}

    def draw(figure: Any, axes: Any) -> None:
        truth, predicted = zip(*points, strict=True)
        ends = [min(*truth, *predicted), max(*truth, *predicted)]
        axes.plot(ends, ends, color="grey", linestyle="--", linewidth=0.8)
        axes.scatter(truth, predicted, color=COLOURS[0], alpha=0.4, s=10)
        axes.set_xlabel("true")
        axes.set_ylabel("predicted")

    return {"predicted_and_true": draw}


def _lengths(contents: Contents) -> dict[str, Callable[[Any, Any], None]]:
    found = contents.analysis.get("lengths")
    if not found:
        return {}

    def draw(figure: Any, axes: Any) -> None:
        axes.stairs(found["counts"], found["edges"], fill=True, color=COLOURS[0], alpha=0.45)
        axes.set_xlabel(f"{found.get('unit', 'tokens')} a row")
        axes.set_ylabel("rows")

    return {"lengths": draw}
