"""Contestant: a LightningModule as one writes it by hand: dynamic padding, AdamW, a logged loss."""

import common

options = common.arguments()

import torch  # noqa: E402
from lightning.pytorch import LightningModule, Trainer, seed_everything  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_scheduler  # noqa: E402

torch.set_num_threads(options.threads)
train, test = (
    common.read(options.data, split, options.rows if split == "train" else None)
    for split in ("train", "test")
)
names, (train_ids, test_ids) = common.label_ids(train[1], test[1])
tokenizer = AutoTokenizer.from_pretrained(common.minilm())


class Classifier(LightningModule):
    """A classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.model = AutoModelForSequenceClassification.from_pretrained(
            common.minilm(), num_labels=len(names)
        ).train()

    def on_train_start(self):  # type: ignore[no-untyped-def]
        clock.start()

    def on_fit_end(self):  # type: ignore[no-untyped-def]
        clock.stop()

    def training_step(self, batch, index):  # type: ignore[no-untyped-def]
        loss = self.model(**batch).loss
        self.log("train_loss", loss)
        return loss

    def test_step(self, batch, index):  # type: ignore[no-untyped-def]
        right = self.model(**batch).logits.argmax(-1) == batch["labels"]
        self.log("test_accuracy", right.float().mean(), batch_size=len(right))

    def configure_optimizers(self):  # type: ignore[no-untyped-def]
        optimizer = torch.optim.AdamW(self.parameters(), lr=common.LEARNING_RATE)
        steps = self.trainer.estimated_stepping_batches
        scheduler = get_scheduler("linear", optimizer, int(steps * common.WARMUP), steps)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def loader(texts: list[str], ids: list[int], shuffle: bool) -> DataLoader:  # type: ignore[type-arg]
    """Tokenise when a batch is made, as a collate function by hand does."""

    def collate(rows):  # type: ignore[no-untyped-def]
        batch = tokenizer(
            [text for text, _ in rows],
            truncation=True,
            max_length=common.MAX_LENGTH,
            padding=True,
            return_tensors="pt",
        )
        return {**batch, "labels": torch.tensor([label for _, label in rows])}

    rows = list(zip(texts, ids, strict=True))
    return DataLoader(rows, batch_size=options.batch, shuffle=shuffle, collate_fn=collate)  # type: ignore[arg-type]


clock = common.Clock()
seed_everything(options.seed)
model = Classifier()
trainer = Trainer(
    max_epochs=options.epochs,
    precision="bf16-mixed" if options.precision == "bf16" else "32-true",
    enable_progress_bar=False,
    enable_model_summary=False,
    enable_checkpointing=False,
    logger=False,
    gradient_clip_val=1.0,
    default_root_dir="/tmp/raw_lightning",
)
trainer.fit(model, loader(train[0], train_ids, shuffle=True))
accuracy = trainer.test(model, loader(test[0], test_ids, shuffle=False), verbose=False)[0][
    "test_accuracy"
]
common.report(clock=clock, samples=len(train[0]) * options.epochs, accuracy=float(accuracy))
