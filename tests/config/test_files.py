"""Config files: inheritance, blocks of commands, and YAML values that mean what they look like."""

import signal
from pathlib import Path

import pytest
import yaml

from tests.conftest import Command, Resolved, message, write_config


def overlay(text: str) -> Path:
    """Write a config of a few lines."""
    path = Path("overlay.yaml")
    path.write_text(text, encoding="utf-8")
    return path


# inheritance


def test_a_base_is_found_beside_the_file_that_names_it(
    resolved: Resolved, linear_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = write_config(tmp_path / "child.yaml", config="table.yaml", trainer={"max_epochs": 9})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resolved("-c", child)["trainer"]["accelerator"] == "cpu"


def test_a_child_wins_over_its_base(resolved: Resolved, linear_config: Path) -> None:
    child = write_config(Path("child.yaml"), config="table.yaml", trainer={"max_epochs": 9})
    assert resolved("-c", child)["trainer"]["max_epochs"] == 9


def test_a_base_may_be_named_by_an_absolute_path(resolved: Resolved, linear_config: Path) -> None:
    child = write_config(Path("child.yaml"), config=str(linear_config))
    assert resolved("-c", child)["trainer"]["max_epochs"] == 2


def test_a_base_may_have_a_base(resolved: Resolved, linear_config: Path) -> None:
    write_config(Path("middle.yaml"), config="table.yaml")
    child = write_config(Path("child.yaml"), config="middle.yaml")
    assert resolved("-c", child)["trainer"]["max_epochs"] == 2


def test_of_two_bases_the_later_wins(resolved: Resolved, linear_config: Path) -> None:
    write_config(Path("long.yaml"), trainer={"max_epochs": 100})
    child = write_config(Path("child.yaml"), config=["table.yaml", "long.yaml"])
    assert resolved("-c", child)["trainer"]["max_epochs"] == 100


def test_a_base_may_be_inherited_twice_along_two_ways(
    resolved: Resolved, linear_config: Path
) -> None:
    for name in ("left", "right"):
        write_config(Path(f"{name}.yaml"), config="table.yaml")
    child = write_config(Path("child.yaml"), config=["left.yaml", "right.yaml"])
    assert resolved("-c", child)["trainer"]["max_epochs"] == 2


def test_a_child_that_names_another_class_drops_the_arguments_of_the_base(
    resolved: Resolved, linear_config: Path
) -> None:
    other = {"class_path": "plcli.tasks.text_classification.TextClassificationData"}
    model = {"class_path": "plcli.tasks.text_classification.TextClassifier"}
    child = write_config(Path("child.yaml"), config="table.yaml", data=other, model=model)
    assert "features" not in resolved("-c", child)["data"]["init_args"]


def test_a_file_that_inherits_from_itself_is_refused(plcli: Command) -> None:
    config = write_config(Path("loop.yaml"), config="loop.yaml")
    result = plcli("fit", "-c", config)
    assert (result.code, message(result)) == (
        2,
        "plcli: loop.yaml: inherits from itself through 'config:'. Remove that line.\n",
    )


def test_files_that_inherit_from_each_other_are_refused(plcli: Command) -> None:
    write_config(Path("a.yaml"), config="b.yaml")
    write_config(Path("b.yaml"), config="a.yaml")
    assert "a.yaml: inherits from itself" in plcli("fit", "-c", "a.yaml").err


def test_a_base_that_is_not_there_is_named(plcli: Command) -> None:
    write_config(Path("child.yaml"), config="nowhere.yaml")
    assert "nowhere.yaml: no such config file." in plcli("fit", "-c", "child.yaml").err


def test_a_base_that_is_no_file_name_is_refused(plcli: Command) -> None:
    write_config(Path("child.yaml"), config=3)
    assert plcli("fit", "-c", "child.yaml").code == 2


# flat files and blocks of commands


def test_a_flat_file_serves_fit_and_test(plcli: Command, linear_config: Path) -> None:
    plcli("fit", "-c", linear_config)
    assert plcli("test", "-c", linear_config).code == 0


def test_a_block_of_fit_is_opened_for_fit(resolved: Resolved, linear_config: Path) -> None:
    values = yaml.safe_load(linear_config.read_text())
    config = write_config(Path("blocks.yaml"), fit=values)
    assert resolved("-c", config)["trainer"]["max_epochs"] == 2


def test_a_block_of_another_command_is_not_opened(resolved: Resolved, linear_config: Path) -> None:
    values = yaml.safe_load(linear_config.read_text())
    config = write_config(
        Path("blocks.yaml"), fit=values, test=values | {"trainer": {"max_epochs": 99}}
    )
    assert resolved("-c", config)["trainer"]["max_epochs"] == 2


def test_a_block_adds_to_what_stands_flat_beside_it(
    resolved: Resolved, linear_config: Path
) -> None:
    values = yaml.safe_load(linear_config.read_text())
    config = write_config(Path("blocks.yaml"), **values, fit={"seed_everything": 7})
    assert resolved("-c", config)["seed_everything"] == 7


def test_a_block_keeps_the_keys_of_a_section_that_stands_flat_beside_it(
    resolved: Resolved, linear_config: Path
) -> None:
    values = yaml.safe_load(linear_config.read_text())
    config = write_config(
        Path("blocks.yaml"), **values, fit={"trainer": {"gradient_clip_val": 3.0}}
    )
    assert resolved("-c", config)["trainer"]["max_epochs"] == 2


def test_a_block_that_is_no_mapping_is_refused(plcli: Command, linear_config: Path) -> None:
    assert plcli("fit", "-c", linear_config, "-c", overlay("fit: 3\n")).code == 2


@pytest.mark.parametrize("block", ["fit", "validate", "test"])
def test_a_file_of_blocks_is_used_by_its_command(
    plcli: Command, linear_config: Path, block: str
) -> None:
    values = yaml.safe_load(linear_config.read_text())
    config = write_config(Path("blocks.yaml"), fit=values, validate=values, test=values)
    plcli("fit", "-c", config)
    assert plcli(block, "-c", config).code == 0


def test_an_overlay_may_leave_out_init_args(resolved: Resolved, linear_config: Path) -> None:
    values = resolved("-c", linear_config, "-c", overlay("data:\n  batch_size: 7\n"))
    assert values["data"]["init_args"]["batch_size"] == 7


# values


@pytest.mark.parametrize(
    "word", ["no", "on", "off", "yes", "y", "NO", "12:30", "2024-01-01", "1_000", "0b1", "null_"]
)
def test_a_word_stays_a_word(resolved: Resolved, linear_config: Path, word: str) -> None:
    values = resolved("-c", linear_config, "-c", overlay(f"data:\n  target: {word}\n"))
    assert values["data"]["init_args"]["target"] == word


@pytest.mark.parametrize("word", ["no", "on", "12:30", "2024-01-01"])
def test_a_word_at_the_prompt_stays_a_word(
    resolved: Resolved, linear_config: Path, word: str
) -> None:
    values = resolved("-c", linear_config, "--data.target", word)
    assert values["data"]["init_args"]["target"] == word


@pytest.mark.parametrize("word", ["1e-4", "007", "12", "true", "null"])
def test_a_quoted_word_stays_a_word(resolved: Resolved, linear_config: Path, word: str) -> None:
    values = resolved("-c", linear_config, "-c", overlay(f'data:\n  target: "{word}"\n'))
    assert values["data"]["init_args"]["target"] == word


@pytest.mark.parametrize("word", ["1e-4", "1.0e-4", ".0001", "1E-4"])
def test_a_number_with_an_exponent_is_a_number(
    resolved: Resolved, linear_config: Path, word: str
) -> None:
    adam = f"{{class_path: torch.optim.Adam, init_args: {{lr: {word}}}}}"
    text = f"model: {{init_args: {{optimizer: {adam}}}}}"
    values = resolved("-c", linear_config, "-c", overlay(text))
    assert values["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 1e-4


def test_a_time_of_day_is_not_a_number_of_epochs(plcli: Command, linear_config: Path) -> None:
    config = overlay("trainer:\n  max_epochs: 12:30\n")
    result = plcli("fit", "-c", linear_config, "-c", config, "--print_config")
    assert (result.code, message(result)) == (
        2,
        "plcli: trainer.max_epochs: got '12:30', expected int or null.\n",
    )


def test_a_word_for_a_number_is_told_as_it_was_written(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config, "-c", overlay("data:\n  batch_size: no\n"))
    assert "data.batch_size: got 'no', expected int" in result.err


def test_a_comment_and_an_empty_file_change_nothing(
    resolved: Resolved, linear_config: Path
) -> None:
    assert resolved("-c", linear_config, "-c", overlay("# nothing\n")) == resolved(
        "-c", linear_config
    )


def test_a_byte_order_mark_does_no_harm(resolved: Resolved, linear_config: Path) -> None:
    marked = Path("marked.yaml")
    marked.write_text(linear_config.read_text(), encoding="utf-8-sig")
    assert resolved("-c", marked)["trainer"]["max_epochs"] == 2


def test_an_anchor_is_followed(resolved: Resolved, linear_config: Path) -> None:
    text = "data: {init_args: {target: &column a, id: *column}}\n"
    assert resolved("-c", linear_config, "-c", overlay(text))["data"]["init_args"]["id"] == "a"


def test_text_beyond_ascii_survives_in_the_saved_config(
    plcli: Command, linear_config: Path
) -> None:
    table = linear_config.with_name("größe.csv")
    linear_config.with_name("table.csv").rename(table)
    plcli("fit", "-c", linear_config, "--data.train", table, "--data.test", table, "--run", "here")
    assert "größe.csv" in Path("here/config.yaml").read_text(encoding="utf-8")


# files that are no config

BROKEN = {
    "a key that stands twice": (
        b"trainer:\n  max_epochs: 1\n  max_epochs: 2\n",
        "broken.yaml, line 3: duplicate key 'max_epochs'. Keep one of them.",
    ),
    "a tab": (
        b"trainer:\n\tmax_epochs: 1\n",
        "broken.yaml, line 2: is not YAML: found character '\\t' that cannot start any token. "
        "Indent with spaces.",
    ),
    "bytes that are not UTF-8": (
        "# größe\n".encode("latin-1"),
        "broken.yaml: is not UTF-8 (byte 4). Save it as UTF-8.",
    ),
    "a list": (
        b"- model\n- data\n",
        "broken.yaml: contains a list, not a mapping with keys such as model and data. "
        "Write them as `key: value`.",
    ),
    "a word": (
        b"hello\n",
        "broken.yaml: contains a str, not a mapping with keys such as model and data. "
        "Write them as `key: value`.",
    ),
    "two documents": (
        b"trainer: {}\n---\ntrainer: {}\n",
        "broken.yaml, line 2: is not YAML: but found another document. Correct that line.",
    ),
    "a tag that runs code": (
        b"trainer: !!python/object/apply:os.system [id]\n",
        "broken.yaml, line 1: is not YAML: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object/apply:os.system'. "
        "Remove the tag; a config contains plain values only.",
    ),
    "an anchor that is not there": (
        b"trainer: *nowhere\n",
        "broken.yaml, line 1: is not YAML: found undefined alias 'nowhere'. Correct that line.",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_its_place(plcli: Command, name: str) -> None:
    content, said = BROKEN[name]
    Path("broken.yaml").write_bytes(content)
    result = plcli("fit", "-c", "broken.yaml")
    assert (result.code, message(result)) == (2, f"plcli: {said}\n")


def test_an_alias_bomb_is_refused_within_three_seconds(plcli: Command, linear_config: Path) -> None:
    lines = ["- &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 6)]
    bomb = "data:\n  features:\n" + "".join(f"    {line}\n" for line in lines)

    def stop(number: int, frame: object) -> None:
        raise TimeoutError("three seconds have passed")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(3)
    try:
        assert plcli("fit", "-c", linear_config, "-c", overlay(bomb)).code == 2
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_config_that_is_a_folder_is_refused(plcli: Command) -> None:
    Path("folder.yaml").mkdir()
    result = plcli("fit", "-c", "folder.yaml")
    assert message(result) == "plcli: folder.yaml: is a folder, not a config file. Name a file.\n"


def test_a_config_that_is_not_there_is_told_with_the_nearest(
    plcli: Command, linear_config: Path
) -> None:
    result = plcli("fit", "-c", "tabel.yaml")
    assert (result.code, message(result)) == (
        2,
        "plcli: tabel.yaml: no such config file. Did you mean 'table.yaml'?\n",
    )
