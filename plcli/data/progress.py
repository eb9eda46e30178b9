"""Progress of long work on rows, in the log: how many are done, how fast, and the time left."""

import logging
import time

SECONDS = 5.0  # between two lines


class Progress:
    """Logs a line every few seconds.

    Args:
        logger: the logger of the module that works.
        what: what is done, such as `encoding mails.csv`.
        total: number of rows; None if it is not known.
    """

    def __init__(self, logger: logging.Logger, what: str, total: int | None) -> None:
        self.logger, self.what, self.total = logger, what, total
        self.done = 0
        self._start = self._last = time.monotonic()

    def add(self, rows: int) -> None:
        """Count rows as done."""
        self.done += rows
        now = time.monotonic()
        if now - self._last < SECONDS:
            return
        self._last = now
        rate = self.done / (now - self._start)
        if self.total is None:
            self.logger.info(
                "%s: %s rows, %s a second", self.what, f"{self.done:,}", f"{rate:,.0f}"
            )
        elif self.done < self.total:
            self.logger.info(
                "%s: %s of %s rows, %s a second, about %.0f s left",
                self.what,
                f"{self.done:,}",
                f"{self.total:,}",
                f"{rate:,.0f}",
                (self.total - self.done) / rate,
            )
