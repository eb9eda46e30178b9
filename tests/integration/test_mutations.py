"""Configs and tables changed at random: read, or refused in one message; never a traceback."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from plcli.callbacks.checkpoints import Checkpoints
from plcli.cli import fragments
from plcli.cli.arguments import Arguments
from plcli.config import checks, yaml_core
from plcli.config import files as config
from plcli.data import rows
from plcli.data.cells import Kind
from plcli.errors import DataError, PlcliError, UsageError
from tests.conftest import ROOT

CONFIG = (ROOT / "configs" / "bert.yaml").read_text(encoding="utf-8")
TABLE = 'text,label,number\nwhere is it,a,1\n"thank, you",b,2.5\n"a ""quote""",a,-3e2\n'
KINDS = {"text": Kind.TEXT, "label": Kind.NAME, "number": Kind.NUMBER}
PIECES = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        list("\t\n\r\0\"',;:|{}[]&*!#%@`<>-?~") + ["<<: ", "&a ", "*a", "!!int ", "\ufeff"]
    ),
    st.sampled_from(["no", "on", "12:30", "0o9", "08", "1e999", ".nan", "null", "\x85", "\u2028"]),
)
quick = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,  # a failure is one of this revision, not of the day
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@st.composite
def changed(draw: st.DrawFn, text: str) -> str:
    """Draw a text with a few pieces cut out, put in or written over."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 0, 1, 2, 20])))
        text = text[:start] + draw(PIECES) + text[end:]
    return text


def assert_one_message(error: PlcliError, name: str) -> None:
    """Check that a message is short and names the file."""
    assert 1 <= len(str(error).splitlines()) <= 5
    assert name in str(error)
    assert len(str(error)) < 1200


@given(text=changed(CONFIG))
@example(text="? [a]\n: 1\n")
@example(text="a: \x07\n")
@example(text="a: &a [*a]\n")
@example(text="<<: 3\n")
@example(text="- &a\n- <<: *a\n")
@quick
def test_a_changed_config_is_read_or_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "changed.yaml")
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            read = fragments.of_arguments(Arguments("fit", configs=[str(path)]))
            merged = config.merge(fragment.values for fragment in read)
            for fragment in read:
                checks.check_keys(
                    fragment.values,
                    merged=merged,
                    source=fragment.source,
                    classes={"checkpoint": Checkpoints},
                )
        except UsageError as error:
            assert_one_message(error, "")


@given(content=st.binary(max_size=200))
@quick
def test_bytes_are_no_config_or_one_that_can_be_written_again(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "changed.yaml")
        path.write_bytes(content)
        try:
            values = config.load_yaml(path)
        except UsageError as error:
            assert_one_message(error, "changed.yaml")
        else:
            assert str(yaml_core.parse_value(yaml_core.dump(values))) == str(values)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values=st.dictionaries(st.text(max_size=8), VALUES, max_size=4))
@quick
def test_values_survive_a_saved_config(values: dict[str, Any]) -> None:
    text = yaml_core.dump(values)
    assert yaml_core.parse_value(text) == values, text
    assert yaml.safe_load(text) is not None or not values


@pytest.mark.parametrize("ending", ["csv", "tsv"])
@given(text=changed(TABLE))
@quick
def test_a_changed_table_is_read_or_refused_with_its_place(text: str, ending: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"changed.{ending}")
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            loaded = rows.load(str(path), KINDS, cache=Path(folder, "cache"))
        except DataError as error:
            assert_one_message(error, f"changed.{ending}")
        else:
            assert all(cell.strip() for cell in loaded.table.column("label").to_pylist())


@given(content=st.binary(max_size=300), ending=st.sampled_from(rows.sources.FORMATS))
@quick
def test_bytes_of_any_format_are_read_or_refused_with_their_place(
    content: bytes, ending: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"changed.{ending}")
        path.write_bytes(content)
        path.with_suffix(".txt").touch()  # beside annotations
        try:
            rows.load(str(path), {"text": Kind.TEXT}, cache=Path(folder, "cache"))
        except DataError as error:
            assert_one_message(error, f"changed.{ending}")
