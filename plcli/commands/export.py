"""plcli export: writes a model for another engine, and proves that it predicts the same."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from plcli.cli import logs, own_options
from plcli.errors import DataError, ModelError, UsageError, did_you_mean, listed
from plcli.runs import artefact, atomic_files, environment, exports, parity
from plcli.runs.exports import FORMATS, PARITY, STAND_INS
from plcli.runs.folder import check_local, open_run

if TYPE_CHECKING:
    from plcli.cli.loaded import Model

logger = logging.getLogger(__name__)

MOST_ROWS = 1000  # compared, the first of the validation rows
SAMPLE = 16  # rows whose batch is traced and measured
NOT_ALONG = ("sha256", "files", "data_fingerprints", "model", "data", "facts")  # of plcli.json


def run(words: Sequence[str]) -> int:
    """Export, compare, and return the exit code."""
    given = own_options.parse("export", words)
    if given is None:
        return 0
    to = given.options.get("to", "")
    if to not in FORMATS:
        raise UsageError(
            f"--to: got '{to}', expected one of {listed(FORMATS)}.{did_you_mean(to, FORMATS)}"
        )
    allowed = given.share("max_disagreement", default=0.01)
    folder = _folder(given.options.get("output"), given.model, to)
    logs.set_up()
    from plcli.cli.loaded import load
    from plcli.models import exporting

    model = load(given.model, options=given.keys, allow_import=given.allowed)
    exporting.check(getattr(model.module, "model", None), name=given.model)
    rows = _rows(model, given.options.get("rows"))
    with atomic_files.disk_errors_explained():
        folder.mkdir(parents=True)
        try:
            found = _export(model, rows, to=to, folder=folder, allowed=allowed)
        except BaseException:  # Ctrl-C too must not leave an empty folder
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if nothing was written
            raise
        exports.write_parity(folder, found)
    _show(Console(), found, folder)
    if not found["passed"]:
        raise ModelError(
            f"{folder}: predicts {len(rows) - round(found['agreement'] * len(rows))} of "
            f"{len(rows)} rows differently, such as those with the ids "
            f"{listed(map(str, found['disagreeing']), most=8)}, which is more than "
            f"--max_disagreement {allowed:g}. Use another --to; {PARITY} has the details."
        )
    return 0


def _folder(output: str | None, name: str, to: str) -> Path:
    """Return the folder to write, which must not exist.

    Raises:
        UsageError: if it exists, or is not named for a model outside a run folder.
    """
    check_local("--output", output or "")
    if output:
        folder = Path(output)
    else:
        known = Path(name, "config.yaml").is_file() or artefact.exists(Path(name))
        run = open_run(name) if known else None
        if run is None or not run.config.is_file():
            raise UsageError(f"--output: is needed, as {name} is not in a run folder.")
        folder = exports.folder_of(run, to)
    if folder.exists():
        raise UsageError(f"--output {folder}: already exists. Remove it or name another folder.")
    return folder


def _rows(model: "Model", source: str | None) -> list[dict[str, Any]]:
    """Return the rows to compare: with labels if they are from the validation split.

    Raises:
        DataError: if there are fewer than two.
    """
    split = "validation" if source is None else "predict"
    rows = model.rows(split, source=source, most=MOST_ROWS)
    if len(rows) < 2:
        raise DataError(
            f"{source or 'the validation split'}: has {len(rows)} row, but two or more are needed "
            "to compare. Give a file with --rows FILE."
        )
    return rows


def _export(
    model: "Model", rows: list[dict[str, Any]], *, to: str, folder: Path, allowed: float
) -> dict[str, Any]:
    """Write the model, and return the content of parity.json."""
    from plcli.models import engines, exporting, padding

    original, has_labels = model.network, set(model.targets) <= rows[0].keys()
    with exporting.recorded(original) as calls:
        before = model.predict(rows[:SAMPLE])
    inputs = max(calls, key=lambda call: len(call["input_ids"]))
    rows_and_tokens = inputs["input_ids"].shape[0], inputs["input_ids"].shape[-1]
    if min(rows_and_tokens) < 2:
        raise DataError("the rows to compare are too few or too short. Give others with --rows.")
    if padding.matters(original, inputs):
        logger.warning(
            "warning: what it predicts depends on the padding of a batch; give the exported "
            "network rows of one length at a time"
        )
    with exporting.recorded(original) as calls:
        before = model.predict(rows)
    engines.save(engines.stand_ins(calls, special=model.special_ids), folder / STAND_INS)
    scores = {"before": model.evaluate(rows)} if has_labels and model.targets else {}
    logger.info("exporting to %s", to)
    exporting.write(original, to=to, folder=folder, inputs=inputs)
    model.save_tokenizer(folder)
    card = {key: value for key, value in model.card.items() if key not in NOT_ALONG}
    atomic_files.write_text(folder / "card.json", artefact.to_json(card))
    logger.info("comparing %d rows", len(rows))
    exact = exporting.opened(folder, to=to, original=original, exact=True)
    with model.with_network(exact):
        after = model.predict(rows)
        if scores:
            scores["after"] = model.evaluate(rows)
    compared = parity.compare(before, after)
    fast = exporting.opened(folder, to=to, original=original, exact=False)
    own = None  # of OpenVINO, where it takes another precision by itself
    if getattr(fast, "precision", None) != getattr(exact, "precision", None):
        with model.with_network(fast):
            own = parity.compare(before, model.predict(rows))
        own |= {"precision": fast.precision, "passed": _passed(own, allowed)}
    return {
        "to": to,
        "weights": model.card.get("sha256"),  # of the artefact; null for another model
        "passed": _passed(compared, allowed),
        "max_disagreement": allowed,
        **compared,
        "as_it_runs": own,
        "metrics": {name: _plain(values) for name, values in scores.items()},
        "milliseconds": {
            "torch": exporting.latency(original, inputs),
            to: exporting.latency(fast, inputs),
        },
        "tokens": int(inputs["input_ids"].shape[-1]),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        **environment.machine(),
    }


def _passed(compared: Mapping[str, Any], allowed: float) -> bool:
    return bool(compared["agreement"] >= 1 - allowed)


def _plain(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that are known; an exported network has no loss."""
    numbers = {name: value for name, value in values.items() if isinstance(value, float)}
    return {name: value for name, value in numbers.items() if name != "loss"}


def _show(console: Console, found: Mapping[str, Any], folder: Path) -> None:
    low, high = found["interval"]
    lines = [
        f"{folder}: {found['agreement']:.1%} of {found['rows']} rows agree (95 % interval "
        f"{low:.1%} to {high:.1%}), largest difference {found['largest_difference']:.2g}"
    ]
    if own := found["as_it_runs"]:
        lines.append(
            f"as it runs by itself, in {own['precision']}: {own['agreement']:.1%} agree, largest "
            f"difference {own['largest_difference']:.2g}"
            + ("" if own["passed"] else "; as an engine of plcli it runs in 32 bits")
        )
    times, before = found["milliseconds"][found["to"]], found["milliseconds"]["torch"]
    for rows in times:
        named = "1 row" if rows == "1" else f"{rows} rows"
        lines.append(
            f"{named}: {before[rows]['p50']} ms with torch, {times[rows]['p50']} ms exported"
        )
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
