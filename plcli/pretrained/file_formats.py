"""Refuses pickled weights, with the command that converts them."""

from pathlib import Path

from plcli.errors import ModelError

PICKLED = "pytorch_model*.bin"


def check(name: str, folder: Path) -> None:
    """Check that the weights of a folder are not pickled, as those of older models are.

    A pickle can run code when it is loaded, which is why only safetensors are read.

    Args:
        name: the name of the weights, for the message.
        folder: their folder.

    Raises:
        ModelError: if the only weights are pickled, or of TensorFlow or Flax.
    """
    if any(folder.glob("*.safetensors")):
        return
    if pickled := sorted(folder.glob(PICKLED)):
        raise ModelError(
            f"pretrained: {name} has its weights only as {pickled[0].name}, a pickle, which can "
            "run code when it is loaded; plcli reads model.safetensors. This converts them, and "
            f"loads nothing but tensors:\n  {command(folder)}"
        )
    for ending, kind in (("h5", "TensorFlow"), ("msgpack", "Flax")):
        if found := sorted(folder.glob(f"*.{ending}")):
            raise ModelError(
                f"pretrained: {name} has its weights only as {found[0].name}, those of {kind}; "
                "plcli reads model.safetensors. Name a model that has it."
            )


def command(folder: Path) -> str:
    """Return the command that writes model.safetensors from the pickled weights of a folder.

    With weights_only, torch.load refuses everything except tensors and plain values. Tensors that
    share memory, such as tied embeddings, are copied.
    """
    where = str(folder).replace("'", "\\'")
    return (
        'python -c "import glob, torch; from safetensors.torch import save_file; w = {}; '
        f"[w.update(torch.load(f, weights_only=True)) for f in glob.glob('{where}/{PICKLED}')]; "
        "save_file({k: v.contiguous().clone() for k, v in w.items()}, "
        f"'{where}/model.safetensors', {{'format': 'pt'}})\""
    )
