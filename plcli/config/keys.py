"""The top-level keys of a config."""

SECTIONS = (
    "model",
    "data",
    "trainer",
    "checkpoint",
    "numbers",
    "optimizer",
    "lr_scheduler",
    "seed_everything",
    "threads",
    "interop_threads",
)
BLOCKS = ("fit", "validate", "test", "predict")  # a file may have these instead of sections
METHOD_KEYS = (  # arguments of the Trainer's methods, which a config saved by LightningCLI has
    "ckpt_path",
    "weights_only",
    "verbose",
    "return_predictions",
)
PARSER_MODE = "parser_mode"  # `omegaconf` resolves ${...}
INHERITANCE = ("base", "_base_", "_BASE_", "defaults", "extends", "include", "inherit", "inherits")
