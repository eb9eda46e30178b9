"""plcli: train, evaluate, run and hand over transformers and LightningModules from a YAML file."""

__version__ = "0.1.0"
