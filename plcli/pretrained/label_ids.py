"""Label ids with a special meaning for data, losses and the models of transformers."""

IGNORED = -100  # ignored by torch's losses
