"""The top-level keys of a config."""

SECTIONS = (
    "model",
    "data",
    "trainer",
    "checkpoint",
    "numbers",
    "seed_everything",
    "threads",
    "interop_threads",
)
BLOCKS = ("fit", "validate", "test", "predict")  # a file may have these instead of sections
