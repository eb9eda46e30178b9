"""The model card: README.md of an artefact, in the format of the Hugging Face Hub.

It says what the model was trained on, how well it does with which certainty, and how it is used, in
code that runs as it stands. What only its authors know is left for them to fill in, so that plcli
never checks whether the file has changed.

Source of the format: https://huggingface.co/docs/hub/model-cards
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FILE = "README.md"
EXAMPLES: dict[str, Any] = {  # a cell of each kind of column
    "number": 0.0,
    "words": ["Anna", "lives", "in", "Paris"],
    "object": ["the first choice", "the second choice"],
    "messages": [{"role": "user", "content": "Hello!"}],
}
TEXT = "Write a text here."
TEXTS = {"fill-mask": "Write a {mask} here."}
PIPELINES = {  # tasks whose model transformers.pipeline runs on one text, as it is saved
    "text-classification",
    "token-classification",
    "text-generation",
}
TO_FILL = "*To be filled in by the authors:* "
HUB_TASKS = {  # the Hub's names of tasks that are called otherwise here
    "seq2seq": "text2text-generation",
    "linear-regression": "tabular-regression",
}
MOST_CLASSES = 30


def example(
    kinds: Mapping[str, str],
    *,
    task: str | None = None,
    messages: str | None = None,
    mask: str | None = None,
) -> dict[str, Any]:
    """Return a row to predict.

    Args:
        kinds: the kind of each input column, such as text.
        task: the task, as transformers calls it.
        messages: the column of conversations, if there is one.
        mask: the token that stands for a missing word; None without a tokenizer.
    """
    text = TEXTS.get(str(task), TEXT).format(mask=mask)
    return {
        name: EXAMPLES["messages"] if name == messages else EXAMPLES.get(kind, text)
        for name, kind in kinds.items()
    }


def page(
    card: Mapping[str, Any],
    *,
    where: Path,
    fit: Mapping[str, Any],
    example: Mapping[str, Any],
    pretrained: str | None,
    sources: Mapping[str, str],
) -> str:
    """Return the text of README.md.

    Args:
        card: the content of plcli.json.
        where: the folder of the artefact.
        fit: the entry `fit` of metrics.json.
        example: a row to predict; empty if the model has its own data.
        pretrained: the weights that training began from; None for random ones.
        sources: the file name of each split that was read.
    """
    name = where.parent.name if where.name == "model" else where.name
    parts = [
        _head(card, name=name, pretrained=pretrained, sources=sources),
        f"# {name}\n",
        _what(card, pretrained),
        "## Use\n",
        _use(card, where, example),
        "## Intended use\n",
        f"{TO_FILL}whom the model is for, for what it was not made, and what its errors cost.\n",
        "## Training\n",
        _training(card, fit, sources),
        "## Evaluation\n",
        *_evaluation(
            card.get("metrics") or {},
            unit="groups of rows" if _data(card).get("group") else "rows",
        ),
        "## Limitations\n",
        f"{TO_FILL}what is known to go wrong, and for whom.\n",
    ]
    return "\n".join(parts)


def of_repository(text: str, repo: str, *, revision: str | None) -> str:
    """Return a model card whose code names a repository of the Hub instead of a local folder.

    Args:
        text: the card, as `page` wrote it and its authors changed it.
        repo: OWNER/NAME.
        revision: the branch; None for the main one.
    """
    named, download = (repo, repo) if revision is None else (f"{repo}@{revision}", "")
    download = download or f"{repo} --revision {revision}"
    chosen = "" if revision is None else f', revision="{revision}"'
    text_of = r"(?:'[^'\n]*'|\"[^\"\n]*\")"
    for pattern, instead in (
        (rf"plcli\.load\({text_of}\)", f'plcli.load("{named}")'),
        (
            r"^plcli predict --run .+ --input FILE",
            f"hf download {download} --local-dir model\nplcli predict --run model --input FILE",
        ),
        (r"^plcli serve .+$", f"plcli serve {named}"),
        (rf"(pipeline\({text_of}, )model={text_of}\)", rf'\g<1>model="{repo}"{chosen})'),
    ):
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return text


def _head(
    card: Mapping[str, Any], *, name: str, pretrained: str | None, sources: Mapping[str, str]
) -> str:
    """Return the metadata that the Hub reads: the task, the base and the scores of the test."""
    from huggingface_hub import EvalResult, ModelCardData

    task = card.get("task")
    scores = (card.get("metrics") or {}).get("test") or {}
    intervals = scores.get("intervals") or {}
    results = [
        EvalResult(
            task_type=str(task),
            dataset_type="custom",
            dataset_name=sources.get("test", "test"),
            dataset_split="test",
            dataset_revision=scores.get("fingerprint"),
            metric_type=metric,
            metric_value=round(value, 6),
            metric_args=_interval_args(intervals.get(metric)),
        )
        for metric, value in scores.items()
        if isinstance(value, float) and task is not None
    ]
    is_hub_id = pretrained is not None and pretrained.count("/") <= 1 and not _is_local(pretrained)
    data = ModelCardData(
        model_name=name,
        library_name="transformers" if task in PIPELINES else "plcli",
        pipeline_tag=HUB_TASKS.get(str(task), task),
        tags=["plcli"],
        base_model=pretrained if is_hub_id else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _data(card: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of the data."""
    found: Mapping[str, Any] = (card.get("data") or {}).get("init_args") or {}
    return found


def _is_local(pretrained: str) -> bool:
    return pretrained.startswith(("/", ".", "~", "package:")) or Path(pretrained).exists()


def _interval_args(interval: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    return {
        "confidence_interval": [round(interval["low"], 6), round(interval["high"], 6)],
        "confidence_level": 0.95,
        "method": interval["method"],
        "n": interval["n"],
    }


def _what(card: Mapping[str, Any], pretrained: str | None) -> str:
    task = (card.get("task") or card["model"]["class_path"].rpartition(".")[2]).replace("-", " ")
    columns = card.get("columns") or {}
    lines = [f"A model for {task}, trained with plcli {card.get('plcli', '')}".rstrip() + "."]
    if columns.get("inputs"):
        predicted = columns.get("targets")
        told = f" and predicts {_listed(predicted)}" if predicted else ""
        lines.append(f"It reads {_listed(columns['inputs'])}{told}.")
    if labels := card.get("labels"):
        shown = [f"`{' '.join(str(label).split())[:80]}`" for label in labels[:MOST_CLASSES]]
        more = f" and {len(labels) - MOST_CLASSES} more" if len(labels) > MOST_CLASSES else ""
        lines.append(f"Labels: {', '.join(shown)}{more}.")
    if card.get("max_length"):
        lines.append(f"Texts are cut to {card['max_length']} tokens.")
    if pretrained is not None:
        shown_base = Path(pretrained).name if _is_local(pretrained) else pretrained
        lines.append(f"Training began from the weights of `{shown_base}`.")
    if teacher := card.get("teacher"):
        lines.append(
            f"It was distilled: it also learned from the outputs of `{teacher['name']}` "
            f"(plcli.json `{teacher['sha256'][:16]}`)."
        )
    return "\n".join(lines) + "\n"


def _use(card: Mapping[str, Any], where: Path, example: Mapping[str, Any]) -> str:
    lines = []
    if example:
        lines += [
            "```python",
            "import plcli",
            "",
            f"model = plcli.load({str(where)!r})",
            f"print(model.predict([{json.dumps(dict(example), ensure_ascii=False)}]))",
            "```",
            "",
        ]
    lines += [
        "Of a file, or as a server:",
        "",
        "```sh",
        f"plcli predict --run {where} --input FILE --output predictions.jsonl",
        f"plcli serve {where}",
        "```",
        "",
    ]
    inputs = (card.get("columns") or {}).get("inputs") or []
    if card.get("task") in PIPELINES and len(inputs) == 1 and example.get(inputs[0]) == TEXT:
        lines += [
            "With transformers alone, without the decisions and checks of plcli:",
            "",
            "```python",
            "from transformers import pipeline",
            "",
            f"model = pipeline({card['task']!r}, model={str(where)!r})",
            f"print(model({TEXT!r}))",
            "```",
            "",
        ]
    return "\n".join(lines)


def _training(card: Mapping[str, Any], fit: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    lines = []
    sums = card.get("data_fingerprints") or {}
    for split, source in sources.items():
        sum_of = f", fingerprint `{sums[split][:16]}`" if split in sums else ""
        lines.append(f"- {split}: `{source}`{sum_of}")
    lines.append(f"- {fit['epochs']} epochs, {fit['steps']} steps")
    if fit.get("monitor") is not None:
        lines[-1] += f"; the weights are those of epoch {fit['best_epoch']}, by {fit['monitor']}"
    if fit.get("lr") is not None:
        lines.append(f"- highest learning rate: {fit['lr']:.2g}")
    lines.append("- other settings: `plcli.json` beside this file")
    lines += ["", f"{TO_FILL}where the data come from, who labelled them, and their licence."]
    return "\n".join(lines) + "\n"


def _evaluation(metrics: Mapping[str, Mapping[str, Any]], *, unit: str) -> Iterator[str]:
    split = "test" if "test" in metrics else "validation"
    scores = metrics.get(split) or {}
    numbers = {name: value for name, value in scores.items() if isinstance(value, float)}
    if not numbers:
        yield "No rows were evaluated.\n"
        return
    if split == "validation":
        yield (
            "There was no test split. These scores are of the validation rows that chose the best "
            "epoch, so that they are too high.\n"
        )
    baselines = scores.get("baselines") or {}
    intervals = scores.get("intervals") or {}
    head = [f"{split} rows", "score", "95 % interval", *baselines]
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for name, value in numbers.items():
        found = intervals.get(name)
        between = f"{found['low']:.4g} to {found['high']:.4g}" if found else ""
        others = [
            f"{each[name]:.4g}" if isinstance(each.get(name), float) else ""
            for each in baselines.values()
        ]
        yield f"| {' | '.join([name, f'{value:.4g}', between, *others])} |"
    counts = {found["n"] for found in intervals.values() if found.get("n")}
    if counts:
        yield (
            f"\nThe intervals are of {max(counts):,} {unit}; they do not say how the score varies "
            "with the seed."
        )
    classes = scores.get("classes") or {}
    if classes and len(classes) <= MOST_CLASSES:
        yield "\n| class | precision | recall | F1 | rows |"
        yield "|---|---|---|---|---|"
        for label, each in classes.items():
            cells = [f"{each[key]:.3f}" for key in ("precision", "recall", "f1")]
            yield f"| {_cell(label)} | {' | '.join(cells)} | {each['support']:.0f} |"
    yield ""


def _cell(text: str) -> str:
    return html.escape(text).replace("|", "\\|").replace("*", "\\*").replace("\n", " ")


def _listed(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]
