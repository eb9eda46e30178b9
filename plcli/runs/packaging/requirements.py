"""The packages that a packaged model needs, in the versions of the running environment."""

import importlib.metadata
import re
from collections.abc import Collection, Iterable
from importlib.metadata import Distribution, PackageNotFoundError

from packaging.requirements import Requirement

from plcli.errors import MachineError

OWN = "plcli"
SERVE = "serve"  # the extra of plcli
# of lightning: plots, loggers and file systems, which only training uses
WITHOUT_EXTRAS = ("lightning",)
# torch chooses these itself, by its own build
OF_TORCH = re.compile(r"(nvidia|cuda)-.*|triton")
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
JSON_ARGUMENTS = "jsonargparse[signatures]"


def of_plcli(extras: Collection[str]) -> dict[str, str]:
    """Return what plcli needs to serve a model: the version of each package.

    Args:
        extras: more extras of plcli, such as peft.

    Raises:
        MachineError: if a package is not installed.
    """
    wanted = [JSON_ARGUMENTS]
    for extra in ("", SERVE, *extras):
        for each in map(Requirement, _distribution(OWN).requires or []):
            applies = each.marker is None or each.marker.evaluate({"extra": extra})
            is_extra = each.marker is not None and not each.marker.evaluate({"extra": ""})
            if applies and is_extra == bool(extra):
                kept = "" if each.name in WITHOUT_EXTRAS else ",".join(sorted(each.extras))
                wanted.append(f"{each.name}[{kept}]" if kept else each.name)
    return closure(wanted)


def closure(wanted: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each package, and of all that they need.

    Args:
        wanted: names, with their extras in brackets.

    Raises:
        MachineError: if one is not installed.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(Requirement(each), "") for each in wanted]
    while todo:
        each, purpose = todo.pop()
        name = _plain(each.name)
        if OF_TORCH.fullmatch(name):
            continue
        package = _distribution(each.name, purpose)
        found[name] = package.version
        for extra in ("", *each.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for inner in map(Requirement, package.requires or []):
                if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                    todo.append((inner, each.name))
    return dict(sorted(found.items()))


def text(versions: dict[str, str], *, gpu: bool) -> str:
    """Return the content of requirements.txt.

    Args:
        versions: of each package.
        gpu: whether torch is a build with CUDA, some GB large; otherwise one for a CPU.
    """
    lines = []
    if "torch" in versions and not gpu:
        lines.append(f"--extra-index-url {CPU_WHEELS}")
    for name, version in versions.items():
        public = version.partition("+")[0]
        pinned = f"{public}+cpu" if name == "torch" and not gpu else public
        lines.append(f"{name}=={pinned}")
    return "\n".join(lines) + "\n"


def installed_size(names: Iterable[str]) -> int:
    """Return the bytes of the files of installed packages, without compiled ones (.pyc)."""
    size = 0
    for name in names:
        for file in _distribution(name).files or []:
            path = file.locate()
            if file.suffix != ".pyc" and path.is_file():  # type: ignore[attr-defined]  # a Path
                size += path.stat().st_size  # type: ignore[attr-defined]  # a Path
    return size


def _plain(name: str) -> str:
    """Return the name of a package as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _distribution(name: str, purpose: str = "") -> Distribution:
    try:
        return importlib.metadata.distribution(name)
    except PackageNotFoundError:
        needed_by = f", which {purpose} needs" if purpose else ""
        raise MachineError(
            f"plcli package: the package {name}{needed_by}, is not installed here, so that its "
            f"version is not known. Install it: pip install {name}."
        ) from None
