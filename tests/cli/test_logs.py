"""What other libraries say while they are imported is kept out of the user's sight."""

import logging

import pytest

from tests.conftest import Command


@pytest.mark.parametrize("name", ["bitsandbytes.backends.cpu.ops", "fsspec", "lightning.fabric"])
def test_a_note_of_a_library_below_is_not_shown(
    plcli: Command, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    assert plcli("fit", "--help").code == 0
    logging.getLogger(name).warning("Failed to load a kernel")
    assert [record.message for record in caplog.records] == []
