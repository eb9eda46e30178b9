"""Build folders of container images: one with a model inside, and one that SageMaker gives it."""

import gzip
import shutil
import sys
import tarfile
from collections.abc import Collection, Sequence
from pathlib import Path

from plcli.runs.handover import File, slug
from plcli.runs.packaging import requirements, wheel

MODEL = "/opt/ml/model"  # where SageMaker puts it
PORT = 8080
ARCHIVE = "model.tar.gz"
DOCKERFILE = """\
FROM python:{python}-slim

ENV PYTHONUNBUFFERED=1 \\
    HF_HUB_OFFLINE=1 \\
    PLCLI_CACHE=/tmp/plcli

WORKDIR /opt/plcli
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY {wheel} ./
RUN pip install --no-cache-dir --no-deps ./{wheel} \\
    && useradd --create-home --uid 1000 plcli
"""
WITH_MODEL = """
COPY --chown=plcli:plcli model {model}
USER 1000
EXPOSE {port}
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["python", "-c", \\
    "import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/ready', timeout=4)"]
CMD ["plcli", "serve", "{model}", "--host", "0.0.0.0", "--port", "{port}"]
"""
WITH_SERVE = """
# SageMaker names the port, and starts the container with the word serve
ENV SAGEMAKER_BIND_TO_PORT={port}
COPY --chmod=755 serve /usr/local/bin/serve
USER 1000
EXPOSE {port}
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["python", "-c", \\
    "import os, urllib.request as r; port = os.environ['SAGEMAKER_BIND_TO_PORT']; \\
    r.urlopen('http://127.0.0.1:' + port + '/ping', timeout=4)"]
CMD ["serve"]
"""
SERVE = f"""\
#!/bin/sh
# SageMaker has unpacked {ARCHIVE} before it starts this
exec plcli serve "${{SM_MODEL_DIR:-{MODEL}}}"
"""
README = """\
# {name}, as a container

    docker build -t {image} .
    docker run -p {port}:{port} -e PLCLI_TOKEN=A-LONG-TEXT {image}
    curl localhost:{port}/predict -H 'Authorization: Bearer A-LONG-TEXT' -d '{{"rows": [...]}}'

It does not start without a token, as it listens to other machines. {threads}
"""
SAGEMAKER = """\
# {name}, for SageMaker

`{archive}` is the model; the image has plcli alone, and serves other models of plcli as well.

    docker build -t {image} .
    docker tag {image} ACCOUNT.dkr.ecr.REGION.amazonaws.com/{image}
    docker push ACCOUNT.dkr.ecr.REGION.amazonaws.com/{image}
    aws s3 cp {archive} s3://BUCKET/{image}/{archive}
    aws sagemaker create-model --model-name {image} --execution-role-arn ROLE --primary-container \\
      Image=ACCOUNT.dkr.ecr.REGION.amazonaws.com/{image},ModelDataUrl=s3://BUCKET/{image}/{archive}

Then make an endpoint of it. It takes `{{"rows": [...]}}` as application/json, or a row per line as
application/jsonlines. {threads}
"""
THREADS = "Requests are predicted together by as many threads as there are cores."


def docker(
    folder: Path, files: Sequence[File], *, name: str, gpu: bool, extras: Collection[str]
) -> None:
    """Write the build folder of an image with the model inside.

    Args:
        folder: an empty folder.
        files: those of the artefact.
        name: of the run, for the page.
        gpu: whether torch is a build with CUDA.
        extras: of plcli that the model needs.
    """
    for file in files:
        target = folder / "model" / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.path, target)
    made = _image(folder, WITH_MODEL, gpu=gpu, extras=extras)
    _ignore(folder, [*made, "model"])
    _page(folder, README, name)


def sagemaker(
    folder: Path, files: Sequence[File], *, name: str, gpu: bool, extras: Collection[str]
) -> None:
    """Write the build folder of an image for SageMaker, and the archive of the model.

    The arguments are those of `docker`.
    """
    with (
        open(folder / ARCHIVE, "wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for file in files:
            entry = tarfile.TarInfo(file.name)
            entry.size, entry.mode = file.size, 0o644
            with open(file.path, "rb") as content:
                archive.addfile(entry, content)
    made = _image(folder, WITH_SERVE, gpu=gpu, extras=extras)
    (folder / "serve").write_text(SERVE, encoding="utf-8")
    (folder / "serve").chmod(0o755)
    _ignore(folder, [*made, "serve"])
    _page(folder, SAGEMAKER, name)


def _image(folder: Path, end: str, *, gpu: bool, extras: Collection[str]) -> list[str]:
    """Write a Dockerfile and what it copies, and return the names of the latter."""
    versions = requirements.of_plcli(extras)
    (folder / "requirements.txt").write_text(requirements.text(versions, gpu=gpu), "utf-8")
    made = wheel.write(folder)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    text = (DOCKERFILE + end).format(python=python, wheel=made.name, model=MODEL, port=PORT)
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    return ["requirements.txt", made.name]


def _ignore(folder: Path, kept: Sequence[str]) -> None:
    lines = ["*", *(f"!{name}" for name in kept)]
    (folder / ".dockerignore").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _page(folder: Path, template: str, name: str) -> None:
    values = {"name": name, "image": slug(name), "threads": THREADS}
    values |= {"port": str(PORT), "archive": ARCHIVE}
    (folder / "README.md").write_text(template.format(**values), encoding="utf-8")
