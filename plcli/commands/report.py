"""plcli report: one HTML file that shows a run."""

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from plcli.cli import logs, run_options
from plcli.errors import MachineError, UsageError
from plcli.runs import atomic_files
from plcli.runs.folder import open_run
from plcli.runs.reporting import contents, report
from plcli.runs.reporting.marked import Explanations

NAME = "report.html"
FIGURES = "figures"
USAGE = {"RUN": "write RUN/report.html, one file that needs no network"}
OPTIONS = {
    "output": "the file to write (default: RUN/report.html); an older report is replaced",
    "allow-import": "with --explain: a package whose classes the config of the run may name",
}
FLAGS = {
    "open": "show it in a browser",
    "explain": "mark the words that moved the decision in the worst rows; loads the model",
    "figures": "also write the charts as PNG files to RUN/figures; needs plcli[figures]",
}


def run(words: Sequence[str]) -> int:
    """Write the report of a run, and return the exit code."""
    given = run_options.parse("report", words, usage=USAGE, options=OPTIONS, flags=FLAGS)
    if given is None:
        return 0
    if len(given.words) != 1:
        raise UsageError(
            f"report: got {len(given.words)} runs, expected one, such as `plcli report "
            "runs/bert-1`. `plcli compare` shows several."
        )
    found = contents.read(open_run(given.words[0]))
    output = Path(given.options.get("output", found.run.folder / NAME))
    contents.check_output("--output", given.options.get("output", str(output)))
    explanations: Explanations = {}
    if "explain" in given.options:
        logs.set_up()
        from plcli.cli import explained

        explanations = explained.of_errors(found, allow_import=given.allowed)
    with atomic_files.disk_errors_explained():
        atomic_files.write_text(output, report.render(found, explanations))
        if "figures" in given.options:
            from plcli.runs.reporting import figures

            for path in figures.write(found, output.parent / FIGURES):
                _say(str(path))
    _say(str(output))
    if "open" in given.options and not webbrowser.open(output.resolve().as_uri()):
        raise MachineError(f"--open: no browser can be started here. Open {output} yourself.")
    return 0


def _say(text: str) -> None:
    Console().print(text, markup=False, highlight=False, soft_wrap=True)
