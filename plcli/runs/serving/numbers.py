"""What a server counts, in the text format of Prometheus.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

import threading
from collections import Counter

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # Prometheus' own default
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class _Histogram:
    def __init__(self, name: str, text: str, bounds: tuple[float, ...]) -> None:
        self.name, self.text, self.bounds = name, text, bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        place = sum(value > bound for bound in self.bounds)
        self.counts[place] += 1
        self.sum += value

    def lines(self) -> list[str]:
        lines, total = _head(self.name, self.text, "histogram"), 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            total += count
            lines.append(f'{self.name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{self.name}_sum {self.sum:.6f}", f"{self.name}_count {total}"]


class Numbers:
    """The counts of a server.

    Attributes:
        waiting_rows: number of rows in the queue.
        batches: number of predicted batches.
    """

    def __init__(self) -> None:
        self.waiting_rows = self.batches = 0
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds = _Histogram(
            "plcli_request_seconds", "Time from a request to its answer.", SECONDS
        )
        self._batch_rows = _Histogram("plcli_batch_rows", "Rows that were predicted at once.", ROWS)
        self._batch_seconds = _Histogram(
            "plcli_batch_seconds", "Time to predict the rows of a batch.", SECONDS
        )

    def add_request(self, path: str, status: int, *, seconds: float) -> None:
        """Count an answered request."""
        with self._lock:
            self._requests[path, status] += 1
            self._seconds.add(seconds)

    def add_batch(self, rows: int, *, seconds: float) -> None:
        """Count a predicted batch."""
        with self._lock:
            self.batches += 1
            self._batch_rows.add(rows)
            self._batch_seconds.add(seconds)

    def text(self) -> str:
        """Return all counts."""
        with self._lock:
            lines = _head("plcli_requests_total", "Answered requests.", "counter")
            lines += [
                f'plcli_requests_total{{path="{path}",status="{status}"}} {count}'
                for (path, status), count in sorted(self._requests.items())
            ]
            lines += _head("plcli_waiting_rows", "Rows in the queue.", "gauge")
            lines.append(f"plcli_waiting_rows {self.waiting_rows}")
            for each in (self._seconds, self._batch_rows, self._batch_seconds):
                lines += each.lines()
        return "\n".join(lines) + "\n"


def _head(name: str, text: str, kind: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
