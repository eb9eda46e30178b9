"""What the name of pretrained weights means, and what is said where there are none."""

from pathlib import Path

import pytest

from plcli.pretrained import location
from tests.pretrained.conftest import refused
from tests.tiny import save_bert


def test_a_hub_id_stays_as_it_is() -> None:
    assert location.resolve("google-bert/bert-base-uncased") == "google-bert/bert-base-uncased"


def test_a_folder_is_its_path(folder: str) -> None:
    assert location.resolve(f"./{folder}/") == folder


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_bert(Path("bert"))
    assert location.resolve("~/bert") == str(tmp_path / "bert")


def test_a_folder_inside_a_package_is_found_without_importing_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path("lib/weights").mkdir(parents=True)
    Path("lib/weights/__init__.py").write_text("raise SystemExit('imported')")
    save_bert(Path("lib/weights/model"))
    monkeypatch.syspath_prepend(tmp_path / "lib")
    resolved = location.resolve("package:weights/model")
    assert resolved == str(tmp_path / "lib/weights/model")


def test_a_package_that_is_not_installed_is_told() -> None:
    with refused("pretrained: package:no_such/model: no package 'no_such' is installed."):
        location.resolve("package:no_such/model")


def test_a_folder_that_a_package_does_not_hold_is_told() -> None:
    with refused("pretrained: package:plcli/model: the package 'plcli' has no 'model'."):
        location.resolve("package:plcli/model")


def test_a_folder_without_a_model_is_told() -> None:
    Path("empty").mkdir()
    with refused("pretrained: the folder empty is not a model; it contains no config.json."):
        location.resolve("empty")


@pytest.mark.parametrize("name", ["./none", "/no/such/folder", "~/none", "one/two/three"])
def test_a_folder_that_is_not_there_is_not_taken_for_a_hub_id(name: str) -> None:
    message = f"pretrained: no folder {name}. Give a folder with a config.json, a hub id or package"
    with refused(message):
        location.resolve(name)


def test_a_file_is_no_folder() -> None:
    Path("bert.bin").touch()
    with refused("pretrained: no folder bert.bin."):
        location.resolve("bert.bin")
