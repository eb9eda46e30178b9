"""One module a task: its LightningModule and its LightningDataModule side by side."""
