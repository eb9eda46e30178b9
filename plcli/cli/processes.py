"""Which processes are one run: what a launcher has started decides devices and num_nodes.

Lightning takes one device for `devices: auto` on a CPU and one node where the config names none, so
that the processes of a launcher would each train by themselves, into one folder.
"""

import hashlib
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plcli.errors import MachineError, UsageError

Environ = Mapping[str, str]
RUN_VARIABLE = "PLCLI_RUN"  # passes the run folder from rank 0 to the ranks that it starts
MPI = (  # world size, rank, local size and local rank of Open MPI, MVAPICH, Intel MPI and MPICH
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
    + ("OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK")
    + ("MV2_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_RANK"),
    ("PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS", "MPI_LOCALRANKID"),
)
FIRST_PORT, NUM_PORTS = 15_000, 10_000  # of those that a job may choose, as Lightning for SLURM


@dataclass(frozen=True)
class Launched:
    """The processes that a launcher has started, of which this is one.

    Attributes:
        launcher: its name, for messages.
        world_size: the number of processes.
        rank: the number of this one, from 0.
        local_rank: its number on its node, from 0.
        num_nodes: the number of nodes.
        needs_plugin: whether Lightning does not know the launcher by itself.
    """

    launcher: str
    world_size: int
    rank: int
    local_rank: int
    num_nodes: int
    needs_plugin: bool = False

    @property
    def per_node(self) -> int:
        """The number of processes per node."""
        return self.world_size // self.num_nodes

    def __str__(self) -> str:
        return f"{self.launcher} has started {_processes(self.world_size, self.num_nodes)}"


def _processes(world_size: int, num_nodes: int) -> str:
    count = f"{world_size} process{'es' if world_size > 1 else ''}"
    return f"{count} on {num_nodes} node{'s' if num_nodes > 1 else ''}"


def launched(environ: Environ | None = None) -> Launched | None:
    """Return the processes of a launcher; None if this process was started by itself.

    torchrun comes first, as it also runs inside a job of SLURM.

    Args:
        environ: the environment variables; by default those of this process.

    Raises:
        UsageError: if a variable is no number, or the nodes have different numbers of processes.
    """
    environ = os.environ if environ is None else environ
    if RUN_VARIABLE in environ:  # started by rank 0 of a fit
        return None
    found = (
        _torchrun(environ) or _slurm(environ) or _lsf(environ) or _mpi(environ) or _plain(environ)
    )
    if found is not None and found.world_size == 1 and found.launcher != "torchrun":
        return None  # one process of a job or a pod, which may start others on its devices itself
    if found is not None and found.world_size % found.num_nodes:
        raise UsageError(
            f"{found}, which is not the same number on each. Start as many on every node."
        )
    return found


def _torchrun(environ: Environ) -> Launched | None:
    if "TORCHELASTIC_RUN_ID" not in environ:
        return None
    world_size = _number(environ, "WORLD_SIZE")
    return Launched(
        "torchrun",
        world_size,
        _number(environ, "RANK"),
        _number(environ, "LOCAL_RANK"),
        max(1, world_size // max(1, _number(environ, "LOCAL_WORLD_SIZE", world_size))),
    )


def _slurm(environ: Environ) -> Launched | None:
    if not {"SLURM_NTASKS", "SLURM_PROCID"} <= environ.keys():
        return None
    if environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None  # as in Lightning: a shell in an allocation, which starts what it wants
    nodes = "SLURM_STEP_NUM_NODES" if "SLURM_STEP_NUM_NODES" in environ else "SLURM_NNODES"
    return Launched(
        "SLURM",
        _number(environ, "SLURM_NTASKS"),
        _number(environ, "SLURM_PROCID"),
        _number(environ, "SLURM_LOCALID", 0),
        _number(environ, nodes, 1),
    )


def _lsf(environ: Environ) -> Launched | None:
    needed = {"LSB_JOBID", "LSB_DJOB_RANKFILE", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE"}
    if not needed <= environ.keys():
        return None
    try:
        with open(environ["LSB_DJOB_RANKFILE"], encoding="utf-8") as file:
            hosts = [line.strip() for line in file][1:]  # the first is the launch node
    except OSError as error:
        raise MachineError(
            f"LSB_DJOB_RANKFILE: {environ['LSB_DJOB_RANKFILE']} cannot be read ({error.strerror})."
        ) from None
    return Launched(
        "LSF",
        _number(environ, "JSM_NAMESPACE_SIZE"),
        _number(environ, "JSM_NAMESPACE_RANK"),
        _number(environ, "JSM_NAMESPACE_LOCAL_RANK"),
        max(1, len(set(hosts))),
    )


def _mpi(environ: Environ) -> Launched | None:
    for size, rank, local_size, local_rank in MPI:
        if {size, rank} <= environ.keys():
            world_size = _number(environ, size)
            per_node = _number(environ, local_size, world_size)
            return Launched(
                "MPI",
                world_size,
                _number(environ, rank),
                _number(environ, local_rank, _number(environ, rank)),
                max(1, world_size // max(1, per_node)),
                needs_plugin=importlib.util.find_spec("mpi4py") is None,
            )
    return None


def _plain(environ: Environ) -> Launched | None:
    """Return processes that torch's own variables describe, as of Kubeflow's PyTorchJob.

    https://docs.pytorch.org/docs/stable/distributed.html#environment-variable-initialization
    """
    if not {"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"} <= environ.keys():
        return None
    world_size = _number(environ, "WORLD_SIZE")
    if "LOCAL_RANK" not in environ:  # one process per pod
        return Launched("Kubeflow", world_size, _number(environ, "RANK"), 0, world_size, True)
    per_node = _number(environ, "LOCAL_WORLD_SIZE", world_size)
    return Launched(
        "a launcher (RANK, WORLD_SIZE)",
        world_size,
        _number(environ, "RANK"),
        _number(environ, "LOCAL_RANK"),
        max(1, world_size // max(1, per_node)),
        needs_plugin=True,
    )


def _number(environ: Environ, name: str, default: int | None = None) -> int:
    value = environ.get(name)
    if value is None and default is not None:
        return default
    if value is None or not re.fullmatch(r"\d+", value.strip()):
        raise UsageError(
            f"the environment variable {name}: got {value!r}, expected a number. Start the "
            "processes with their launcher alone, or unset its variables."
        )
    return int(value)


def is_first(environ: Environ | None = None) -> bool:
    """Whether this process is the first of its run, or the only one."""
    environ = os.environ if environ is None else environ
    found = launched(environ)
    if found is not None:
        return found.rank == 0
    own = (environ.get("LOCAL_RANK", "0"), environ.get("NODE_RANK", "0"))
    return RUN_VARIABLE not in environ and own == ("0", "0")


def is_one_of_several(environ: Environ | None = None) -> bool:
    """Whether others have started this process and more for the same run."""
    environ = os.environ if environ is None else environ
    found = launched(environ)
    if found is not None:
        return found.world_size > 1
    return RUN_VARIABLE not in environ and environ.get("NODE_RANK", "0") != "0"


@dataclass(frozen=True)
class Devices:
    """The arguments `devices` and `num_nodes` of a trainer."""

    devices: Any
    num_nodes: int


def decide(
    found: Launched, *, devices: Any, num_nodes: int | None, visible_gpus: int = 0
) -> Devices:
    """Return the devices and nodes of a trainer that is one of the processes of a launcher.

    Args:
        found: the processes of the launcher.
        devices: what the config says; `auto` and -1 leave it to the launcher.
        num_nodes: what the config says; None if it says nothing.
        visible_gpus: the number of GPUs that this process can use; 0 trains on the CPU.

    Raises:
        UsageError: if the config says another number than the launcher.
        MachineError: if the process sees fewer GPUs than there are processes on its node.
    """
    wanted = _count(devices)
    if wanted is not None and wanted != found.per_node:
        raise UsageError(
            f"trainer.devices: got {devices}, but {found.launcher} has started {found.per_node} "
            f"process{'es' if found.per_node > 1 else ''} per node. Remove the key, or start "
            f"{wanted} per node."
        )
    if num_nodes is not None and num_nodes != found.num_nodes:
        raise UsageError(
            f"trainer.num_nodes: got {num_nodes}, but {found}. Remove the key, or use {num_nodes}."
        )
    if 0 < visible_gpus < found.per_node:
        raise MachineError(
            f"{found.launcher} has started {found.per_node} processes on this node, each of which "
            f"sees {visible_gpus} GPU{'s' if visible_gpus > 1 else ''}. Start as many as there are "
            "GPUs, and let each see all of the node (srun --gpus-per-node, not --gpus-per-task)."
        )
    return Devices(devices if isinstance(devices, list) else found.per_node, found.num_nodes)


def _count(devices: Any) -> int | None:
    """Return the number of devices that a config names; None if it leaves it open."""
    if devices in (None, "auto", -1, "-1"):
        return None
    if isinstance(devices, (list, tuple)):
        return len(devices)
    text = str(devices).strip()
    if "," in text:
        return len([part for part in text.split(",") if part.strip()])
    return int(text) if re.fullmatch(r"\d+", text) else None


def check_world(found: Launched | None, trainer: Any) -> None:
    """Check that a trainer takes all processes of a launcher as one.

    Raises:
        UsageError: if it does not, as with a strategy for a single device.
    """
    if found is not None and trainer.world_size != found.world_size:
        raise UsageError(
            f"trainer.strategy: {type(trainer.strategy).__name__} trains with "
            f"{_processes(trainer.world_size, 1)}, but {found}. Use ddp or auto, or start one "
            "process."
        )


def check_alone(member: str | None, trainer: Any) -> None:
    """Check that a sub-run of a campaign trains in this process alone.

    Args:
        member: what it is of the campaign; None for a run of its own.
        trainer: the trainer.

    Raises:
        UsageError: if the trainer starts other processes, which would start the campaign again.
    """
    if member is not None and trainer.world_size > 1:
        raise UsageError(
            f"--seeds, --folds: the trainer would use {_processes(trainer.world_size, 1)}, but a "
            "campaign trains in one. Add --trainer.devices 1, or train each sub-run by itself, as "
            "docs/campaigns.md says; the campaign then only gathers them."
        )


def prepare_slurm(found: Launched) -> None:
    """Set the variable that Lightning needs where srun was given --ntasks alone."""
    if found.launcher == "SLURM" and found.world_size > 1:
        os.environ["SLURM_NTASKS_PER_NODE"] = str(found.per_node)
        os.environ["SLURM_NNODES"] = str(found.num_nodes)


def plugin(found: Launched) -> Any:
    """Return the cluster environment of Lightning for a launcher that it does not know.

    Raises:
        MachineError: if the processes are on several nodes, and the address of the first is
            unknown.
    """
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment

    class Environment(LightningEnvironment):
        """Takes ranks and sizes from the launcher."""

        @property
        def creates_processes_externally(self) -> bool:
            return True

        def world_size(self) -> int:
            return found.world_size

        def set_world_size(self, size: int) -> None:
            pass

        def global_rank(self) -> int:
            return found.rank

        def set_global_rank(self, rank: int) -> None:
            pass

        def local_rank(self) -> int:
            return found.local_rank

        def node_rank(self) -> int:
            return found.rank // found.per_node

        def teardown(self) -> None:
            pass

    if "MASTER_ADDR" not in os.environ and found.num_nodes > 1:
        raise MachineError(
            f"{found}, and MASTER_ADDR does not name the first one. Pass it on, for example with "
            "mpirun -x MASTER_ADDR=HOST -x MASTER_PORT=29500, or install mpi4py."
        )
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(_port()))
    return Environment()


def _port() -> int:
    """Return a port that all processes of a job agree on: of the launcher's name of the job."""
    names = ("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "PMI_JOBID", "HYDI_CONTROL_FD")
    job = next((os.environ[name] for name in names if name in os.environ), str(os.getppid()))
    return FIRST_PORT + int(hashlib.sha256(job.encode()).hexdigest(), 16) % NUM_PORTS


def described(found: Launched | None, *, world_size: int, num_nodes: int) -> dict[str, Any]:
    """Return the processes of a run, for environment.json."""
    launcher = None if found is None else found.launcher
    return {"world_size": world_size, "nodes": num_nodes, "launcher": launcher}


def said(found: Launched | None, *, world_size: int, num_nodes: int) -> str:
    """Return the processes of a run, for the log."""
    by = "" if found is None else f", started by {found.launcher}"
    return f"world size {world_size}: {_processes(world_size, num_nodes)}{by}"
