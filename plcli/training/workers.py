"""The processes of a loader: they outlive a signal to the whole group, but not their parent.

Schedulers send SIGTERM to every process of a job. If those of a loader ended at once, the training
could not save its state between two batches.
"""

import os
import signal
import threading
import time
from typing import Any

from torch.utils.data import DataLoader

from plcli.training.signals import signals

SECONDS = 2.0  # between two looks at the parent


class StartOfWorker:
    """What a process of a loader does first.

    Args:
        inner: the loader's own worker_init_fn; None if it has none.
        grace: seconds after SIGTERM in which the training may still ask for batches.
    """

    def __init__(self, inner: Any, grace: float) -> None:
        self.inner, self.grace = inner, grace

    def __call__(self, worker_id: int) -> None:
        """Watch the parent, and wait with the end after SIGTERM."""
        signal.signal(signal.SIGTERM, self._end_later)
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        if self.inner is not None:
            self.inner(worker_id)

    def _end_later(self, number: int, frame: Any) -> None:
        timer = threading.Timer(self.grace, os._exit, (128 + number,))
        timer.daemon = True
        timer.start()


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, even if it hangs in a row of the user's."""
    while os.getppid() == parent:
        time.sleep(SECONDS)
    os._exit(1)


def guard(loader: Any) -> None:
    """Let the processes of a loader begin with StartOfWorker."""
    if not isinstance(loader, DataLoader) or not loader.num_workers:
        return
    if not isinstance(loader.worker_init_fn, StartOfWorker):
        # a loader does not allow changing it once it has an iterator
        start = StartOfWorker(loader.worker_init_fn, signals.grace)
        object.__setattr__(loader, "worker_init_fn", start)
