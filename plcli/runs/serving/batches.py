"""Joins the rows of requests to batches, and predicts them in threads."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from plcli.errors import PlcliError
from plcli.runs.serving.numbers import Numbers

logger = logging.getLogger(__name__)
Row = str | Mapping[str, Any]
Predict = Callable[[Sequence[Row]], list[dict[str, Any]]]


class QueueFullError(Exception):
    """Raised for rows that would have to wait behind too many others."""


@dataclass
class _Request:
    rows: Sequence[Row]
    have_ids: bool
    answer: "Future[list[dict[str, Any]]]" = field(default_factory=Future)


class Batches:
    """A queue of requests, and the threads that predict them.

    A thread takes all waiting requests, up to a number of rows, so that batches grow with the load
    and a single request never waits for others. `predict` sorts the rows by length.

    Args:
        predict: predicts rows; called by several threads at the same time.
        threads: number of threads.
        most_rows: number of rows that a thread takes at once; a larger request is taken alone.
        most_waiting: number of rows that may wait.
        share: called by a thread before it predicts, with the number of threads that are busy, so
            that one that is alone can use more of the machine.
        numbers: what is counted.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        threads: int,
        most_rows: int,
        most_waiting: int,
        share: Callable[[int], None],
        numbers: Numbers,
    ) -> None:
        self._predict, self._share, self._numbers = predict, share, numbers
        self._most_rows, self._most_waiting = most_rows, most_waiting
        self._waiting: deque[_Request] = deque()
        self._num_waiting = self._num_predicting = 0
        self._lock = threading.Lock()
        self._idle: list[threading.Condition] = []  # threads, the one that ended last at the end
        self._closed = False
        self._own: dict[str, _Request] = {}  # by the name of the thread that has to answer it
        self._threads = [
            threading.Thread(target=self._run, name=f"inference-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self, rows: Sequence[Row], *, have_ids: bool = False
    ) -> "Future[list[dict[str, Any]]]":
        """Queue the rows of a request, and return the future of their predictions.

        Args:
            rows: the rows.
            have_ids: whether all have an id of their own; others are numbered, so that the two
                kinds are not predicted together.

        Raises:
            QueueFullError: if too many rows are waiting, or the queue is closed.
        """
        request = _Request(rows, have_ids)
        with self._lock:
            if self._closed or (
                self._waiting and self._num_waiting + len(rows) > self._most_waiting
            ):
                raise QueueFullError
            self._waiting.append(request)
            self._count(len(rows))
            if self._idle:  # the same one again while one is enough: its torch threads are warm
                self._idle.pop().notify()
        return request.answer

    def warm_up(self, rows: Sequence[Row]) -> "list[Future[list[dict[str, Any]]]]":
        """Let every thread predict the same rows once, and return the futures of what it predicts.

        Args:
            rows: the rows of each.
        """
        requests = {thread.name: _Request(rows, False) for thread in self._threads}
        with self._lock:
            self._own.update(requests)
            for each in self._idle:
                each.notify()
            self._idle.clear()
        return [request.answer for request in requests.values()]

    def close(self) -> None:
        """Predict what is waiting, and end the threads."""
        with self._lock:
            self._closed = True
            for each in self._idle:
                each.notify()
            self._idle.clear()
        for thread in self._threads:
            thread.join()

    def _count(self, rows: int) -> None:
        self._num_waiting += rows
        self._numbers.waiting_rows = self._num_waiting

    def _run(self) -> None:
        wake = threading.Condition(self._lock)
        while taken := self._take(wake):
            alive = [each for each in taken if each.answer.set_running_or_notify_cancel()]
            if alive:
                self._answer(alive)

    def _take(self, wake: threading.Condition) -> list[_Request]:
        """Return the oldest requests; none once the queue is closed and empty."""
        name = threading.current_thread().name
        with self._lock:
            while not self._waiting and not self._closed and name not in self._own:
                self._idle.append(wake)
                wake.wait()
            if name in self._own:
                return [self._own.pop(name)]
            taken: list[_Request] = []
            rows = 0
            while self._waiting:
                rows += len(self._waiting[0].rows)
                is_other = taken and taken[0].have_ids != self._waiting[0].have_ids
                if is_other or (taken and rows > self._most_rows):
                    break
                taken.append(self._waiting.popleft())
                self._count(-len(taken[-1].rows))
            return taken

    def _shared(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Predict rows with this thread's share of the machine."""
        with self._lock:
            self._num_predicting += 1
            busy = self._num_predicting + bool(self._waiting)
        try:
            self._share(busy)
            return self._predict(rows)
        finally:  # before the answer, after which the next request comes
            with self._lock:
                self._num_predicting -= 1

    def _answer(self, requests: list[_Request]) -> None:
        """Predict the rows of requests; if a row is not valid, each request by itself."""
        start = perf_counter()
        rows = [row for request in requests for row in request.rows]
        try:
            predicted = self._shared(rows)
        except PlcliError as error:
            if len(requests) == 1:
                requests[0].answer.set_exception(error)
                return
            for request in requests:
                self._answer([request])
            return
        except Exception as error:  # of any library; the server goes on, and the requests fail
            logger.exception("a batch of %d rows could not be predicted", len(rows))
            for request in requests:
                request.answer.set_exception(error)
            return
        self._numbers.add_batch(len(rows), seconds=perf_counter() - start)
        first = 0
        for request in requests:
            last = first + len(request.rows)
            given = predicted[first:last]
            request.answer.set_result([_numbered(row, -first) for row in given])
            first = last


def _numbered(row: dict[str, Any], shift: int) -> dict[str, Any]:
    """Return a row whose number is that within its request; ids that are texts are kept."""
    return {**row, "id": row["id"] + shift} if isinstance(row.get("id"), int) else row
