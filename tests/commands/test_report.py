"""plcli report: one HTML file of a run, in which no text of the data can run."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from plcli.runs.folder import Run
from plcli.runs.reporting import contents, forms, report
from tests.conftest import Command, FinishedRun, message

EVIL = "<script>alert(1)</script>\"'</style></script><img src=x onerror=alert(1)>&lt;\0 $x"
ROWS = [
    {"row": 0, "id": EVIL, "text": EVIL, "truth": EVIL, "prediction": "billing", "loss": 3.5},
    {"row": 1, "id": "1", "text": "late " * 200_000, "truth": ["a", EVIL], "prediction": None},
    {"row": 2, "id": "2", "text": "a \ud800 b", "truth": "praise", "prediction": "delivery"},
]
ANALYSIS: dict[str, Any] = {
    "version": 1,
    "task": "text-classification",
    "problem": "single_label",
    "split": "test",
    "rows": 12,
    "main": "macro_f1",
    "labels": ["billing", EVIL],
    "classes": [
        {"label": label, "precision": 0.5, "recall": 0.4, "f1": 0.44, "support": 6, "intervals": {}}
        for label in ("billing", EVIL)
    ],
    "confusion_matrix": [[4, 2], [3, 3]],
    "confused": [{"true": EVIL, "predicted": "billing", "count": 3, "share": 0.5}],
    "thresholds": [
        {
            "label": EVIL,
            "chosen": 0.4,
            "curve": [
                {"threshold": at / 50, "precision": 0.5, "recall": 1 - at / 50, "f1": 0.4}
                for at in range(51)
            ],
        }
    ],
    "calibration": {
        "of": "prediction",
        "ece": 0.05,
        "temperature": None,
        "bins": [
            {"low": at / 10, "high": at / 10 + 0.1, "n": at, "confidence": at / 10, "accuracy": 0.5}
            for at in range(10)
        ],
    },
    "slices": [
        {
            "by": EVIL,
            "value": EVIL,
            "n": 12,
            "few": True,
            "scores": {"macro_f1": {"value": 0.4, "low": 0.2, "high": 0.6}},
        }
    ],
    "lengths": {
        "unit": "tokens",
        "edges": [0, 4, 8],
        "counts": [5, 7],
        "median": 5,
        "p95": 7,
        "max": 8,
        "limit": 8,
        "truncated": 3,
        "truncated_share": 0.25,
    },
    "suspected_labels": {
        "count": 1,
        "rows": [{"row": 3, "id": "3", "text": EVIL, "given": EVIL, "suggested": "praise"}],
    },
    "errors": {"count": 3, "by": "loss", "rows": ROWS},
}


class Page(HTMLParser):
    """The elements of a page with their attributes, and its texts by element."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._within = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._within = tag

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        self.texts.append((self._within, data))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]

    def content(self, name: str) -> list[str]:
        return [text for tag, text in self.texts if tag == name]

    @property
    def text(self) -> str:
        return "\n".join(text for tag, text in self.texts if tag not in ("script", "style"))

    @property
    def headings(self) -> list[str]:
        return self.content("h2")


def analysed(run: Path, values: Mapping[str, Any] = ANALYSIS) -> Path:
    (run / "analysis.json").write_text(json.dumps(values), encoding="utf-8")
    return run


def page_of(plcli: Command, run: Path, *words: str) -> Page:
    result = plcli("report", run, *words)
    assert result.code == 0, result.err
    return Page((run / "report.html").read_text(encoding="utf-8"))


def log_steps(run: Path) -> None:
    """Let metrics.csv have many lines."""
    lines = [f"{step},{3 / (step + 1)},{1 + step // 150},0.001," for step in range(300)]
    lines[149], lines[299] = lines[149] + "0.5", lines[299] + "0.7"
    head = "step,train_loss,epoch,lr,val_accuracy"
    (run / "metrics.csv").write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")


@pytest.fixture
def run(text_run: FinishedRun) -> Path:
    """A finished run with an analysis whose names and texts are markup, as are its warnings."""
    folder = analysed(text_run.copy("run"))
    log_steps(folder)
    with open(folder / "train.log", "a", encoding="utf-8") as log:
        log.write(f"2026-01-01 00:00:00,000 WARNING warning: {EVIL}\n")
    return folder


def test_a_report_shows_what_was_trained_and_how_good_it_is(plcli: Command, run: Path) -> None:
    page = page_of(plcli, run)
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["test"]
    wanted = ["Summary", "What was trained", "Metrics", "Training", "Classes", "Probabilities"]
    wanted += ["Slices", "Lengths", "Worst rows", "Doubtful labels", "Environment", "Config"]
    assert [name for name in page.headings if name in wanted] == wanted
    ends = metrics["intervals"]["accuracy"]
    for shown in (
        f"{metrics['accuracy']:.4f}",
        f"{ends['low']:.4f} to {ends['high']:.4f}",
        "majority class",
        "train.jsonl",
        "3 rows (25.0 %) are cut to 8",
        f"plcli test --run {run}",
    ):
        assert shown in page.text
    titles = {chart.get("aria-label") for chart in page.all("svg")}
    assert {"loss by step", "confusion matrix", "calibration", "tokens a row"} <= titles


def test_nothing_of_the_data_can_run(plcli: Command, run: Path) -> None:
    page = page_of(plcli, run)
    shown = EVIL.replace("\0", "�")
    assert page.text.count(shown) >= 10
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert page.all("img") == []
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    # texts that the script shows are in attributes, as they are
    told = [each["data-t"] or "" for _, each in page.elements if "data-t" in each]
    assert any(shown in text for text in told)


def test_a_page_runs_its_own_script_alone(plcli: Command, run: Path) -> None:
    page = page_of(plcli, run)
    (policy,) = (each["content"] or "" for each in page.all("meta") if "http-equiv" in each)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for element in ("script", "style"):
        content = "".join(page.content(element)).encode()
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        assert rules[f"{element}-src"] == f"'sha256-{digest}'"
    assert rules["base-uri"] == rules["form-action"] == "'none'"


def test_a_page_refers_to_nothing_outside(plcli: Command, run: Path) -> None:
    page = page_of(plcli, run)
    places = ("src", "href", "action", "data", "xlink:href")
    links = [each[name] or "" for _, each in page.elements for name in places if name in each]
    assert links
    assert all(link.startswith("#") for link in links)
    ids = {each["id"] for _, each in page.elements if "id" in each}
    assert {link[1:] for link in links} <= ids


def test_huge_texts_are_cut(plcli: Command, run: Path) -> None:
    page_of(plcli, run)
    assert (run / "report.html").stat().st_size < 300_000


def test_a_report_loads_no_torch(run: Path) -> None:
    code = "import sys; from plcli.__main__ import main; code = main(['report', 'run']); "
    code += "print(code, len(sys.modules), *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    end, count, *modules = done.stdout.splitlines()[-1].split()
    assert end == "0"
    heavy = {"torch", "lightning", "transformers", "datasets", "matplotlib", "pandas"}
    assert not heavy & {*modules}
    assert int(count) < 1000


def test_without_an_analysis_the_rest_is_shown(plcli: Command, text_run: FinishedRun) -> None:
    run = text_run.copy("plain")
    (run / "analysis.json").unlink(missing_ok=True)
    page = page_of(plcli, run)
    assert "Classes" in page.headings
    assert "Worst rows" not in page.headings
    assert "there is no analysis.json. Write it with plcli test --run plain" in page.text.replace(
        "`", ""
    )


def test_a_task_has_the_parts_that_suit_it(plcli: Command, linear_run: FinishedRun) -> None:
    points = [[1.0, 2.0], [3.0, 2.5]]
    residuals = {"mean": 0.1, "std": 1.0, "edges": [-1, 0, 1], "counts": [1, 1], "points": points}
    run = analysed(
        linear_run.copy("linear"),
        {"problem": "regression", "rows": 2, "residuals": residuals, "errors": {"rows": []}},
    )
    page = page_of(plcli, run)
    assert "Errors" in page.headings
    assert not {"Classes", "Probabilities", "Worst rows"} & {*page.headings}
    assert "worst rows: none is wrong" in page.text
    assert "calibration" not in page.text


def test_spans_have_their_kinds_of_errors(plcli: Command, text_run: FinishedRun) -> None:
    span = {"start": 0, "end": 3, "label": "person", "text": EVIL}
    counts = {"wrong type": 2, "missed": 4, "correct": 9}
    row = {"row": 4, "id": "4", "text": "x", "truth": [span], "prediction": [], "kinds": counts}
    run = analysed(
        text_run.copy("spans"),
        {
            "problem": "spans",
            "rows": 3,
            "classes": ANALYSIS["classes"],
            "spans": {"counts": counts, "types": {"person": counts}},
            "errors": {"count": 1, "by": "errors", "rows": [row]},
        },
    )
    page = page_of(plcli, run)
    assert {"Types", "Spans", "Worst rows"} <= {*page.headings}
    assert "9 spans are right." in page.text


def test_a_run_that_is_not_finished_says_so(plcli: Command, text_run: FinishedRun) -> None:
    run = text_run.copy("stopped")
    shutil.rmtree(run / "model")
    (run / "metrics.json").unlink()
    log_steps(run)
    page = page_of(plcli, run)
    assert "the run is not finished: it has no model and no metrics" in page.text
    assert "Training" in page.headings


def test_a_model_folder_has_a_report(plcli: Command, text_model: Path) -> None:
    page = page_of(plcli, text_model)
    assert {"Metrics", "Classes"} <= {*page.headings}


def test_a_report_is_replaced_and_can_be_elsewhere(plcli: Command, run: Path) -> None:
    assert plcli("report", run).out.strip() == f"{run}/report.html"
    (run / "report.html").write_text("old")
    assert plcli("report", run).code == 0
    assert (run / "report.html").read_text(encoding="utf-8") != "old"
    result = plcli("report", run, "--output", "other.html")
    assert result.out.strip() == "other.html"
    assert Path("other.html").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "report: got 0 runs, expected one, such as `plcli report runs/bert-1`"),
        (["run", "run"], "report: got 2 runs, expected one"),
        (["missing"], "--run missing: no such folder."),
        (["run", "--output", "x.pdf"], "--output x.pdf: expected a file that ends with .html."),
        (["run", "--output", "run"], "--output run: is a folder. Name a file, such as run/report"),
        (["run", "--output", "no/x.html"], "--output no/x.html: there is no folder no."),
        (["run", "--output", "s3://b/x.html"], "is not a path on this machine"),
        (["run", "--figure"], "unknown option --figure. Did you mean '--figures'?"),
    ],
)
def test_a_wrong_command_line_is_refused(
    plcli: Command, run: Path, words: list[str], said: str
) -> None:
    result = plcli("report", *words)
    assert result.code == 2
    assert said in message(result)


@pytest.mark.parametrize("name", ["analysis.json", "metrics.json", "environment.json"])
def test_a_damaged_file_is_named(plcli: Command, run: Path, name: str) -> None:
    (run / name).write_text("[1, 2]")
    result = plcli("report", run)
    assert result.code == 4
    assert f"{run / name}: is damaged" in message(result)


@pytest.mark.parametrize(
    ("name", "key", "value", "reason"),
    [
        ("analysis.json", "classes", [{"label": 3}], "classes[0].label: a number instead of a te"),
        ("analysis.json", "lengths", {"edges": [0, 1]}, "lengths.counts: is missing"),
        ("analysis.json", "slices", {}, "slices: a mapping instead of a list"),
        ("metrics.json", "test", {"intervals": {"f1": [0, 1]}}, "test.intervals.f1: a list inst"),
        ("environment.json", "packages", ["torch"], "packages: a list instead of a mapping"),
    ],
)
def test_a_file_of_another_form_is_named_with_the_place(
    plcli: Command, run: Path, name: str, key: str, value: Any, reason: str
) -> None:
    found = json.loads((run / name).read_text(encoding="utf-8"))
    (run / name).write_text(json.dumps({**found, key: value}), encoding="utf-8")
    result = plcli("report", run)
    assert result.code == 4
    assert f"{run / name}: is damaged ({reason}" in message(result)


def test_an_error_of_the_drawing_is_not_told_as_a_damaged_file(
    plcli: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plcli.runs.reporting.report.overview", None)
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute"):  # a bug
        plcli("report", run)


def changed(value: Any, to: Any) -> Iterator[Any]:
    """Yield a value with one of its parts changed at a time; of lists only the first item."""
    yield to
    if isinstance(value, dict):
        for key, inner in value.items():
            yield {name: each for name, each in value.items() if name != key}
            yield from ({**value, key: each} for each in changed(inner, to))
    elif isinstance(value, list) and value:
        yield from ([each, *value[1:]] for each in changed(value[0], to))


@pytest.mark.parametrize("to", [None, "a text", 7, [], {}, [[]], {"a": 1}])
def test_what_is_read_without_a_complaint_can_be_drawn(run: Path, to: Any) -> None:
    """A part of analysis.json of another kind is refused when it is read, or can be drawn."""
    whole = contents.read(Run(run))
    for values in changed(ANALYSIS, to):
        if forms.wrong(values, forms.ANALYSIS) is None:
            report.render(replace(whole, analysis=values), {})


def test_a_report_is_opened(plcli: Command, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    assert plcli("report", run, "--open").code == 0
    assert opened == [(run / "report.html").resolve().as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    result = plcli("report", run, "--open")
    assert result.code == 5
    assert f"--open: no browser can be started here. Open {run}/report.html" in message(result)


def test_figures_are_written(plcli: Command, run: Path) -> None:
    pytest.importorskip("matplotlib")
    result = plcli("report", run, "--figures")
    assert result.code == 0, result.err
    written = {path.name for path in (run / "figures").iterdir()}
    assert {"curve_loss.png", "classes.png", "confusion_matrix.png", "calibration.png"} <= written
    assert (run / "figures/classes.png").read_bytes().startswith(b"\x89PNG")


def test_figures_say_what_to_install(
    plcli: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = plcli("report", run, "--figures")
    assert result.code == 5
    assert "--figures: needs the package matplotlib" in message(result)
    assert "pip install 'plcli[figures]'" in message(result)


def test_the_worst_rows_are_explained(plcli: Command, run: Path) -> None:
    page = page_of(plcli, run, "--explain")
    words = {"the", "invoice", "is", "wrong"}  # row 0 of the test split
    marked = [text for tag, text in page.texts if tag == "mark"]
    assert words & {*marked}
    assert "integrated gradients" in page.text
    (run / "analysis.json").unlink()
    result = plcli("report", run, "--explain")
    assert result.code == 2
    assert "run has no analysis.json with worst rows. Write it with `plcli test" in message(result)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium")
def test_no_text_runs_in_a_browser(plcli: Command, run: Path) -> None:
    values = json.dumps(ANALYSIS).replace("alert(1)", "document.title=9")
    (run / "analysis.json").write_text(values, encoding="utf-8")
    page_of(plcli, run)
    where = (run / "report.html").resolve().as_uri()
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=500"]
    done = subprocess.run(
        ["chromium", *flags, f"--user-data-dir={Path.cwd()}/profile", "--dump-dom", where],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert f"<title>{run.name}</title>" in done.stdout
    button = re.search(r'<button id="theme"([^>]*)>(Dark|Light)</button>', done.stdout)
    assert button is not None  # the script of the page itself did run
    assert "hidden" not in button[1]
