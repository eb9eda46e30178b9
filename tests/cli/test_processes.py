"""Launchers that start several processes: they are one run, or refused."""

import json
from pathlib import Path

import pytest

from plcli.cli import processes
from plcli.cli.processes import Devices, Launched, decide, launched
from plcli.errors import MachineError, UsageError
from tests.conftest import write_linear_config
from tests.killed_fits import Ended, fork
from tests.launched import LAUNCHERS, environments, fork_ranks

TWO_NODES = {
    "torchrun": {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "8", "RANK": "5"}
    | {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"},
    "SLURM": {"SLURM_NTASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}
    | {"SLURM_NNODES": "2"},
    "MPI": {"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "5"}
    | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
    "a launcher (RANK, WORLD_SIZE)": {"MASTER_ADDR": "a", "MASTER_PORT": "1", "WORLD_SIZE": "8"}
    | {"RANK": "5", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"},
}
EIGHT = Launched("SLURM", world_size=8, rank=5, local_rank=1, num_nodes=2)


@pytest.mark.parametrize("launcher", TWO_NODES)
def test_a_launcher_on_two_nodes_is_read_from_its_variables(launcher: str) -> None:
    found = launched(TWO_NODES[launcher])
    assert found is not None
    assert (found.launcher, found.world_size, found.rank) == (launcher, 8, 5)
    assert (found.local_rank, found.num_nodes, found.per_node) == (1, 2, 4)


def test_lsf_is_read_from_its_variables_and_its_file_of_hosts(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("login\na\na\nb\nb\n")
    variables = {"LSB_JOBID": "1", "LSB_DJOB_RANKFILE": str(tmp_path / "hosts")}
    variables |= {"JSM_NAMESPACE_LOCAL_RANK": "0", "JSM_NAMESPACE_RANK": "2"}
    found = launched(variables | {"JSM_NAMESPACE_SIZE": "4"})
    assert found == Launched("LSF", 4, 2, 0, 2)


def test_a_pod_of_kubeflow_is_a_node() -> None:
    variables = {"MASTER_ADDR": "a", "MASTER_PORT": "1", "WORLD_SIZE": "3", "RANK": "1"}
    assert launched(variables) == Launched("Kubeflow", 3, 1, 0, 3, needs_plugin=True)


def test_torchrun_within_slurm_is_torchrun() -> None:
    found = launched(TWO_NODES["SLURM"] | TWO_NODES["torchrun"])
    assert found is not None
    assert found.launcher == "torchrun"


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2", "PLCLI_RUN": "runs/a"},
        {**TWO_NODES["SLURM"], "SLURM_JOB_NAME": "bash"},
        {"SLURM_JOB_ID": "1", "SLURM_NNODES": "2"},
    ],
    ids=["none", "a rank that plcli started", "a shell of SLURM", "a job without tasks"],
)
def test_a_process_by_itself_is_no_launchers(variables: dict[str, str]) -> None:
    assert launched(variables) is None


def test_a_variable_that_is_no_number_is_refused() -> None:
    with pytest.raises(UsageError, match=r"variable SLURM_NTASKS: got 'x', expected a number\."):
        launched({"SLURM_NTASKS": "x", "SLURM_PROCID": "0"})


def test_nodes_with_different_numbers_of_processes_are_refused() -> None:
    variables = {"SLURM_NTASKS": "3", "SLURM_PROCID": "0", "SLURM_NNODES": "2"}
    with pytest.raises(UsageError, match=r"SLURM has started 3 processes on 2 nodes, which is not"):
        launched(variables)


@pytest.mark.parametrize("devices", ["auto", -1, "-1", 4, "4", None])
@pytest.mark.parametrize("num_nodes", [None, 2])
def test_the_launcher_decides_where_the_config_says_nothing_or_the_same(
    devices: object, num_nodes: int | None
) -> None:
    assert decide(EIGHT, devices=devices, num_nodes=num_nodes) == Devices(4, 2)


def test_chosen_devices_stay_if_they_are_as_many() -> None:
    assert decide(EIGHT, devices=[4, 5, 6, 7], num_nodes=None).devices == [4, 5, 6, 7]


def test_one_device_on_each_of_two_nodes_is_a_run_of_two() -> None:
    found = Launched("SLURM", world_size=2, rank=1, local_rank=0, num_nodes=2)
    assert decide(found, devices=1, num_nodes=None) == Devices(1, 2)


@pytest.mark.parametrize("devices", [2, "2", [0, 1], "0,1"])
def test_other_devices_are_refused_with_both_numbers(devices: object) -> None:
    with pytest.raises(UsageError, match=r"trainer\.devices: got .*SLURM has started 4 processes"):
        decide(EIGHT, devices=devices, num_nodes=None)


def test_other_nodes_are_refused_with_both_numbers() -> None:
    with pytest.raises(UsageError, match=r"num_nodes: got 1, but SLURM .* on 2 nodes\."):
        decide(EIGHT, devices="auto", num_nodes=1)


def test_processes_that_each_see_one_gpu_are_refused() -> None:
    with pytest.raises(MachineError, match=r"4 processes on this node, each of which sees 1 GPU\."):
        decide(EIGHT, devices="auto", num_nodes=None, visible_gpus=1)


def test_as_many_gpus_as_processes_are_taken() -> None:
    assert decide(EIGHT, devices="auto", num_nodes=None, visible_gpus=4) == Devices(4, 2)


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        (TWO_NODES["torchrun"], False),
        ({**TWO_NODES["SLURM"], "SLURM_PROCID": "0"}, True),
        ({"PLCLI_RUN": "runs/a", "LOCAL_RANK": "1"}, False),
        ({"NODE_RANK": "1"}, False),
    ],
)
def test_the_first_process_is_known(variables: dict[str, str], first: bool) -> None:
    assert processes.is_first(variables) is first


# runs of two processes, in forks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config, and a run of two processes of each launcher."""
    folder = tmp_path_factory.mktemp("launched")
    write_linear_config(folder)
    return folder


@pytest.fixture(scope="module", params=LAUNCHERS)
def two(request: pytest.FixtureRequest, folder: Path) -> tuple[str, list[Ended]]:
    """A fit by two processes of a launcher, without a word about devices."""
    launcher = str(request.param)
    words = ("fit", "-c", "table.yaml", "--run", launcher)
    return launcher, fork_ranks(*words, folder=folder, ranks=environments(launcher))


def test_the_processes_of_a_launcher_are_one_run(
    two: tuple[str, list[Ended]], folder: Path
) -> None:
    launcher, ended = two
    assert [each.code for each in ended] == [0, 0], ended
    found = json.loads((folder / launcher / "environment.json").read_text())["processes"]
    assert (found["world_size"], found["launcher"]) == (2, launcher)
    assert f"started by {launcher}" in (folder / launcher / "train.log").read_text()


def test_only_the_first_process_says_what_was_found(two: tuple[str, list[Ended]]) -> None:
    _, ended = two
    assert ["best epoch" in each.said for each in ended] == [True, False]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--trainer.devices", "3", "--run", "x"),
            "plcli: trainer.devices: got 3, but torchrun has started 2 processes per node. Remove "
            "the key, or start 3 per node.\n",
        ),
        (
            ("--trainer.num_nodes", "2", "--run", "x"),
            "plcli: trainer.num_nodes: got 2, but torchrun has started 2 processes on 1 node. "
            "Remove the key, or use 2.\n",
        ),
        (
            ("--trainer.strategy", "single_device", "--run", "x"),
            "plcli: trainer.strategy: SingleDeviceStrategy trains with 1 process on 1 node, but "
            "torchrun has started 2 processes on 1 node. Use ddp or auto, or start one process.\n",
        ),
        (
            (),
            "plcli: several processes were started without a run folder. Name it with --run, so "
            "that all of them use the same one.\n",
        ),
    ],
    ids=["devices", "num_nodes", "strategy", "no run"],
)
def test_a_contradiction_is_refused(words: tuple[str, ...], message: str, folder: Path) -> None:
    command = ("fit", "-c", "table.yaml", *words)
    ended = fork_ranks(*command, folder=folder, ranks=environments("torchrun"))
    assert [each.code for each in ended] == [2, 2], ended
    assert ended[0].said.endswith(message)
    assert not (folder / "x").exists()


@pytest.mark.parametrize("launcher", ["torchrun", "SLURM"])
def test_predict_by_two_processes_writes_one_file(launcher: str, folder: Path) -> None:
    words = ("predict", "--run", "torchrun", "--input", "table.csv", "--output")
    name = f"{launcher}.csv"
    ended = fork_ranks(*words, name, folder=folder, ranks=environments(launcher))
    assert [each.code for each in ended] == [0, 0], ended
    assert [name in each.said for each in ended] == [True, False]
    fork(*words, "alone.csv", folder=folder)
    alone = folder / "alone.csv"
    assert (folder / name).read_bytes() == alone.read_bytes()
    alone.unlink()


def test_predict_within_a_fit_predicts(folder: Path) -> None:
    """A user's callback may start it; the fit has set a variable for its own processes."""
    words = ("predict", "--run", "torchrun", "--input", "table.csv", "--output", "within.csv")
    assert fork(*words, folder=folder, environment={"PLCLI_RUN": "torchrun"}).code == 0
    assert (folder / "within.csv").exists()


def test_test_by_two_processes_scores_every_row_once(folder: Path) -> None:
    words = ("test", "--run", "torchrun")
    ended = fork_ranks(*words, folder=folder, ranks=environments("torchrun"))
    assert [each.code for each in ended] == [0, 0], ended
    assert ["rmse" in each.said for each in ended] == [True, False]
    alone = fork(*words, folder=folder)
    tables = [
        [line for line in each.said.splitlines() if "│ rmse" in line] for each in (alone, ended[0])
    ]
    assert tables[0] == tables[1]
