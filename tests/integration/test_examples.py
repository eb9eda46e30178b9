"""The data sets that plcli ships: what is promised of them holds."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import plcli
from tests.running import read_rows

EXAMPLES = Path(plcli.__file__).parent / "examples"
SPLITS = ("train", "validation", "test")
COLUMNS = ["id", "message", "intent", "tags", "urgency", "entities", "subject"]
TICKETS = {split: read_rows(EXAMPLES / "tickets" / f"{split}.jsonl") for split in SPLITS}
ALL = [row for rows in TICKETS.values() for row in rows]
CONCRETE = {split: read_rows(EXAMPLES / "concrete" / f"{split}.csv") for split in SPLITS}
RUN_OF_WORDS = 8


def failing(rows: list[dict[str, Any]], holds: Any) -> list[str]:
    """Return the ids of the rows for which something does not hold."""
    return [row["id"] for row in rows if not holds(row)]


def words(text: str) -> list[str]:
    """Return the lower-cased words of a text."""
    return re.findall(r"\w+", text.lower())


def test_every_ticket_has_the_promised_columns() -> None:
    assert {tuple(row) for row in ALL} == {tuple(COLUMNS)}


def test_there_are_1200_tickets_or_more() -> None:
    assert len(ALL) >= 1200


@pytest.mark.parametrize(("split", "least"), [("train", 800), ("validation", 200), ("test", 200)])
def test_a_split_has_enough_tickets(split: str, least: int) -> None:
    assert len(TICKETS[split]) >= least


def test_ids_are_unique_over_all_splits() -> None:
    assert len({row["id"] for row in ALL}) == len(ALL)


def test_ids_are_text() -> None:
    assert {type(row["id"]) for row in ALL} == {str}


def test_a_message_has_3_to_120_words() -> None:
    assert failing(ALL, lambda row: 3 <= len(row["message"].split()) <= 120) == []


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_has_all_eight_intents(split: str) -> None:
    intents = {row["intent"] for row in TICKETS[split]}
    assert (len(intents), intents) == (8, {row["intent"] for row in ALL})


def test_intents_are_not_balanced() -> None:
    counts = Counter(row["intent"] for row in TICKETS["train"])
    assert max(counts.values()) >= 2 * min(counts.values())


def test_the_splits_hold_the_intents_in_like_proportion() -> None:
    shares = {
        split: {
            intent: count / len(rows)
            for intent, count in Counter(row["intent"] for row in rows).items()
        }
        for split, rows in TICKETS.items()
    }
    for intent, share in shares["train"].items():
        assert shares["test"][intent] == pytest.approx(share, abs=0.05)


def test_tags_are_lists_of_names_without_repetition() -> None:
    def holds(row: dict[str, Any]) -> bool:
        tags = row["tags"]
        return all(isinstance(tag, str) and tag for tag in tags) and len(set(tags)) == len(tags)

    assert failing(ALL, holds) == []


def test_some_tickets_have_several_tags() -> None:
    assert sum(len(row["tags"]) > 1 for row in ALL) >= 100


@pytest.mark.parametrize("split", ["validation", "test"])
def test_every_tag_stands_in_the_training_split(split: str) -> None:
    known = {tag for row in TICKETS["train"] for tag in row["tags"]}
    assert failing(TICKETS[split], lambda row: set(row["tags"]) <= known) == []


def test_urgency_lies_between_0_and_1() -> None:
    assert failing(ALL, lambda row: 0 <= row["urgency"] <= 1) == []


def test_urgency_is_not_the_same_everywhere() -> None:
    assert len({row["urgency"] for row in ALL}) >= 5


def test_entity_spans_lie_inside_their_message() -> None:
    def holds(row: dict[str, Any]) -> bool:
        return all(0 <= e["start"] < e["end"] <= len(row["message"]) for e in row["entities"])

    assert failing(ALL, holds) == []


def test_entity_spans_do_not_overlap() -> None:
    def holds(row: dict[str, Any]) -> bool:
        spans = sorted((e["start"], e["end"]) for e in row["entities"])
        return all(first[1] <= second[0] for first, second in zip(spans, spans[1:], strict=False))

    assert failing(ALL, holds) == []


def test_entity_spans_begin_and_end_with_no_space() -> None:
    def holds(row: dict[str, Any]) -> bool:
        texts = [row["message"][e["start"] : e["end"]] for e in row["entities"]]
        return all(text == text.strip() for text in texts)

    assert failing(ALL, holds) == []


def test_entity_spans_do_not_cut_words() -> None:
    def holds(row: dict[str, Any]) -> bool:
        edges = [edge for e in row["entities"] for edge in (e["start"], e["end"])]
        return not any(
            re.match(r"\w\w", row["message"][max(0, edge - 1) :]) for edge in edges if edge
        )

    assert failing(ALL, holds) == []


def test_entities_have_the_four_types() -> None:
    types = {entity["label"] for row in ALL for entity in row["entities"]}
    assert types == {"order", "product", "date", "amount"}


def test_a_subject_has_1_to_10_words() -> None:
    assert failing(ALL, lambda row: 1 <= len(row["subject"].split()) <= 10) == []


def test_no_message_stands_twice() -> None:
    counts = Counter(" ".join(words(row["message"])) for row in ALL)
    assert [message for message, count in counts.items() if count > 1] == []


def test_no_run_of_eight_words_stands_in_two_messages() -> None:
    owners: dict[tuple[str, ...], str] = {}
    shared = []
    for row in ALL:
        tokens = words(row["message"])
        starts = range(len(tokens) - RUN_OF_WORDS + 1)
        for run in {tuple(tokens[start : start + RUN_OF_WORDS]) for start in starts}:
            if run in owners:
                shared.append((owners[run], row["id"], " ".join(run)))
            owners[run] = row["id"]
    assert shared == []


@pytest.mark.parametrize("split", SPLITS)
def test_a_ticket_file_holds_one_json_object_a_line(split: str) -> None:
    lines = (EXAMPLES / "tickets" / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")
    assert (lines[-1], {type(json.loads(line)) for line in lines[:-1]}) == ("", {dict})


def test_the_concrete_data_set_has_1030_rows() -> None:
    assert sum(len(rows) for rows in CONCRETE.values()) == 1030


def test_the_concrete_splits_have_one_header() -> None:
    assert len({tuple(rows[0]) for rows in CONCRETE.values()}) == 1


def test_every_cell_of_the_concrete_data_set_is_a_number_of_0_or_more() -> None:
    cells = [float(cell) for rows in CONCRETE.values() for row in rows for cell in row.values()]
    assert min(cells) >= 0


def test_no_concrete_mixture_stands_in_two_splits() -> None:
    splits: dict[tuple[str, ...], set[str]] = {}
    for split, rows in CONCRETE.items():
        for row in rows:
            splits.setdefault(tuple(row.values()), set()).add(split)
    assert [row for row, names in splits.items() if len(names) > 1] == []
