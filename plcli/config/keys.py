"""The names that a config may have outermost."""

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
BLOCKS = ("fit", "validate", "test", "predict")  # a file may hold one of each, in place of sections
