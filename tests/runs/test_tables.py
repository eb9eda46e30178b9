"""Short forms of names, no two of which are the same, and tables that cut nothing."""

import io

import pytest
from rich.console import Console

from plcli.runs.tables import shortened, table

BEGIN_ALIKE = [f"card_payment_not_recognised_{number}" for number in range(12)]
DIFFER_INSIDE = [f"the_customer_asks_{verb}_a_payment_by_card" for verb in ("for", "about", "of")]
DIFFER_BEFORE_THE_END = ["x" * 40 + letter + "y" * 40 for letter in "abc"]


@pytest.mark.parametrize(
    "names",
    [
        BEGIN_ALIKE,
        DIFFER_INSIDE,
        DIFFER_BEFORE_THE_END,
        ["x" * count for count in range(30, 40)],
        [a * 30 + b * 30 + c * 30 for a in "xy" for b in "xy" for c in "xy"],
        ["a" * 9 + "…" + "a" * 9, "a" * 30],
    ],
)
@pytest.mark.parametrize("longest", [12, 20, 30])
def test_short_forms_differ_as_their_names_do(names: list[str], longest: int) -> None:
    found = shortened(names, longest)
    assert [*found] == names
    assert len({*found.values()}) == len(names)
    assert max(map(len, found.values())) <= longest


def test_short_forms_keep_what_distinguishes() -> None:
    assert shortened(DIFFER_INSIDE, 20) == {
        DIFFER_INSIDE[0]: "the_cu…for_a_paymen…",
        DIFFER_INSIDE[1]: "the_cu…about_a_paym…",
        DIFFER_INSIDE[2]: "the_cu…of_a_payment…",
    }
    assert shortened(["billing", "x" * 21], 20) == {
        "billing": "billing",
        "x" * 21: "x" * 10 + "…" + "x" * 9,
    }


def test_short_names_stay_on_one_line() -> None:
    stream = io.StringIO()
    made = table("metric", *(f"column {number} of this table" for number in range(6)), numbers=True)
    made.add_row("weighted_f1", *["0.1234 to 0.5678"] * 6)
    Console(file=stream, width=80).print(made)
    assert "│ weighted_f1 │" in stream.getvalue()
    assert max(map(len, stream.getvalue().splitlines())) <= 80


def test_cells_are_continued_instead_of_cut() -> None:
    stream = io.StringIO()
    made = table("metric", "a_run_whose_name_is_long", numbers=True)
    made.add_row("a_score_whose_name_is_as_long_as_this_one", "0.123456789")
    Console(file=stream, width=30).print(made)
    rows = [line.split("│") for line in stream.getvalue().splitlines() if "│" in line]
    for place, whole in ((1, "a_score_whose_name_is_as_long_as_this_one"), (2, "0.123456789")):
        assert "".join(row[place].strip() for row in rows) == whole
    assert max(map(len, stream.getvalue().splitlines())) <= 30
