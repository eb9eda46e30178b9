"""Label ids that mean the same to data, losses and transformers' own models."""

IGNORED = -100  # left out by torch's losses
