"""The tasks of the zoo: rows, sections of a config, and what transformers itself predicts.

The reference of a task reads the model/ folder of a run with transformers or sentence-transformers
and runs one row after the other, so that no row is padded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.zoo.models import TEXTS

Row = dict[str, Any]
LONGEST = 60  # tokens of a row
MAX_NEW = 6
STARTS = [" ".join(text.split()[: 3 + number % 4]) for number, text in enumerate(TEXTS)]


@dataclass(frozen=True)
class Task:
    """A task of plcli.

    Attributes:
        classes: the names of the model and the data class in its module.
        auto: the Auto class of transformers.
        rows: the rows of all splits.
        data: the data's settings.
        reference: what transformers predicts, from the model folder and the rows to predict.
        model: the model's settings.
        to_predict: the rows to predict; by default the rows.
        module: the name of its module, if it is not that of the task.
    """

    classes: tuple[str, str]
    auto: str
    rows: list[Row]
    data: Mapping[str, Any]
    reference: Callable[[Path, Sequence[Row]], list[Row]]
    model: Mapping[str, Any] = field(default_factory=dict)
    to_predict: list[Row] | None = None
    module: str | None = None


# references


def _loaded(folder: Path, auto: str) -> tuple[Any, Any]:
    model = getattr(transformers, auto).from_pretrained(folder, dtype="float32")
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)


def _inputs(model: Any, tokenizer: Any, *texts: Any, **settings: Any) -> dict[str, torch.Tensor]:
    found = tokenizer(*texts, return_tensors="pt", truncation=True, max_length=LONGEST, **settings)
    return {name: value for name, value in found.items() if name in _arguments(model)}


def _arguments(model: Any) -> set[str]:
    import inspect

    return set(inspect.signature(model.forward).parameters)


def _class_probabilities(folder: Path, rows: Sequence[Row]) -> list[Row]:
    model, tokenizer = _loaded(folder, "AutoModelForSequenceClassification")
    names = model.config.id2label
    found = []
    for row in rows:
        logits = model(**_inputs(model, tokenizer, row["text"])).logits[0]
        values = logits.softmax(-1).tolist()
        found.append({"probability": {names[n]: value for n, value in enumerate(values)}})
    return found


def _scores(folder: Path, rows: Sequence[Row]) -> list[Row]:
    model, tokenizer = _loaded(folder, "AutoModelForSequenceClassification")
    return [
        {"score": float(model(**_inputs(model, tokenizer, row["text"])).logits[0, 0])}
        for row in rows
    ]


def _tags(folder: Path, rows: Sequence[Row]) -> list[Row]:
    model, tokenizer = _loaded(folder, "AutoModelForTokenClassification")
    found = []
    for row in rows:
        inputs = _inputs(model, tokenizer, row["words"], is_split_into_words=True)
        words = tokenizer(row["words"], is_split_into_words=True).word_ids()
        best = model(**inputs).logits[0].argmax(-1).tolist()
        firsts = [words.index(number) for number in range(len(row["words"]))]
        tags = [model.config.id2label[best[token]] for token in firsts]
        found.append({"tags": tags})
    return found


def _answers(folder: Path, rows: Sequence[Row]) -> list[Row]:
    model, tokenizer = _loaded(folder, "AutoModelForQuestionAnswering")
    found = []
    for row in rows:
        both = (row["question"], row["context"])
        outputs = model(**_inputs(model, tokenizer, *both))
        encoding = tokenizer(*both, return_offsets_mapping=True)
        offsets, parts = encoding["offset_mapping"], encoding.sequence_ids()
        own = [n for n, part in enumerate(parts) if part == 1]
        spans = [(a, b) for a in own for b in own if a <= b]
        _, answer = max(
            (float(outputs.start_logits[0, a] + outputs.end_logits[0, b]), text)
            for a, b in spans
            if (text := row["context"][offsets[a][0] : offsets[b][1]].strip())
        )
        found.append({"answer": answer})
    return found


def _choices(folder: Path, rows: Sequence[Row]) -> list[Row]:
    model, tokenizer = _loaded(folder, "AutoModelForMultipleChoice")
    found = []
    for row in rows:
        logits = torch.stack(
            [
                model(
                    **{
                        name: value[None]
                        for name, value in _inputs(model, tokenizer, row["context"], choice).items()
                    }
                ).logits[0, 0]
                for choice in row["choices"]
            ]
        )
        found.append({"probability": logits.softmax(-1).tolist()})
    return found


def _fills(folder: Path, rows: Sequence[Row]) -> list[Row]:
    model, tokenizer = _loaded(folder, "AutoModelForMaskedLM")
    found = []
    for row in rows:
        inputs = _inputs(model, tokenizer, row["text"])
        at = inputs["input_ids"][0] == tokenizer.mask_token_id
        best = model(**inputs).logits[0][at][0].softmax(-1).topk(5)
        scores = best.values.tolist()
        found.append({"fills": [{"candidates": [{"score": score} for score in scores]}]})
    return found


def _continuations(folder: Path, rows: Sequence[Row]) -> list[Row]:
    model, tokenizer = _loaded(folder, "AutoModelForCausalLM")
    found = []
    for row in rows:
        inputs = tokenizer(row["text"], return_tensors="pt")
        ids = _without_end(inputs["input_ids"], tokenizer)
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=MAX_NEW,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id or 0,
        )
        text = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
        found.append({"text": text})
    return found


def _without_end(ids: torch.Tensor, tokenizer: Any) -> torch.Tensor:
    """A prompt is continued, so that what a tokenizer puts behind a text is left out."""
    special = set(tokenizer.all_special_ids)
    while ids.shape[1] > 1 and int(ids[0, -1]) in special:
        ids = ids[:, :-1]
    return ids


def _translations(folder: Path, rows: Sequence[Row]) -> list[Row]:
    model, tokenizer = _loaded(folder, "AutoModelForSeq2SeqLM")
    found = []
    for row in rows:
        written = model.generate(**_inputs(model, tokenizer, row["source"]))
        text = tokenizer.decode(written[0], skip_special_tokens=True)
        found.append({"text": text.strip()})
    return found


def _vectors(folder: Path, rows: Sequence[Row]) -> list[Row]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return [{"embedding": model.encode(row["text"]).tolist()} for row in rows]


# tasks

WORDS = [text.split() for text in TEXTS]
NAMED = {"Anna", "Smith", "London", "Omar", "Diaz", "Paris"}
TASKS = {
    "text_classification": Task(
        ("TextClassifier", "TextClassificationData"),
        "AutoModelForSequenceClassification",
        [{"text": text, "label": "abc"[n % 3]} for n, text in enumerate(TEXTS)],
        {"text": "text", "label": "label"},
        _class_probabilities,
    ),
    "regression": Task(
        ("TextClassifier", "TextClassificationData"),
        "AutoModelForSequenceClassification",
        [{"text": text, "label": 30.0 + 3 * n} for n, text in enumerate(TEXTS)],
        {"text": "text", "label": "label", "problem": "regression"},
        _scores,
        module="text_classification",
    ),
    "token_classification": Task(
        ("TokenClassifier", "TokenClassificationData"),
        "AutoModelForTokenClassification",
        [
            {"words": words, "tags": ["B-NAME" if word in NAMED else "O" for word in words]}
            for words in WORDS
        ],
        {"words": "words", "tags": "tags", "labels": ["O", "B-NAME", "I-NAME"]},
        _tags,
    ),
    "question_answering": Task(
        ("QuestionAnswerer", "QuestionAnsweringData"),
        "AutoModelForQuestionAnswering",
        [
            {
                "question": "what is it?",
                "context": text,
                "answers": {"text": [text.split()[2]], "answer_start": [text.index(words[2])]},
            }
            for text, words in zip(TEXTS, WORDS, strict=True)
        ],
        {"max_answer": 64, "unanswerable": False, "stride": 2},
        _answers,
    ),
    "multiple_choice": Task(
        ("MultipleChoiceModel", "MultipleChoiceData"),
        "AutoModelForMultipleChoice",
        [
            {"context": text, "choices": ["it is late", text.split()[1], "no"], "label": n % 3}
            for n, text in enumerate(TEXTS)
        ],
        {},
        _choices,
    ),
    "masked_lm": Task(
        ("MaskedLM", "MaskedLMData"),
        "AutoModelForMaskedLM",
        [{"text": text} for text in TEXTS],
        {"text": "text"},
        _fills,
        to_predict=[{"text": f"{text} MASK it"} for text in STARTS],
    ),
    "causal_lm": Task(
        ("CausalLM", "CausalLMData"),
        "AutoModelForCausalLM",
        [{"text": text} for text in TEXTS],
        {"text": "text"},
        _continuations,
        {"max_new_tokens": MAX_NEW},
        to_predict=[{"text": text} for text in STARTS],
    ),
    "seq2seq": Task(
        ("Seq2SeqModel", "Seq2SeqData"),
        "AutoModelForSeq2SeqLM",
        [{"source": text, "target": " ".join(reversed(text.split()[:4]))} for text in TEXTS],
        {},
        _translations,
        {"max_new_tokens": MAX_NEW},
    ),
    "sentence_embedding": Task(
        ("SentenceEmbedder", "SentenceData"),
        "AutoModel",
        [{"text": text, "pair": TEXTS[n - 1]} for n, text in enumerate(TEXTS)],
        {"text": "text", "pair": "pair"},
        _vectors,
        to_predict=[{"text": text} for text in STARTS],
    ),
}
