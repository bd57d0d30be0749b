"""joblib's backend for Dask, with an ear for what it does not tell: tasks that Dask gave up, and lost schedulers."""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

from joblib._dask import DaskDistributedBackend

from ...cache.errors import StoppedError


class ListeningDask(DaskDistributedBackend):
    """joblib's own hears nothing of a task that ends without an answer (its workers died too often, the scheduler is
    gone), and its caller would wait for ever.

    client: of the cluster; slots: workers, of which joblib keeps a few tasks for each in flight; resources: of a task.
    """

    def __init__(self, *, client: Any, slots: int, resources: dict[str, float]) -> None:
        super().__init__(client=client, resources=resources)
        self._slots = slots
        self._lock = threading.Lock()
        self._unanswered: dict[Any, Callable[[Any], Any]] = {}

    def effective_n_jobs(self, n_jobs: int) -> int:
        return self._slots

    def submit(self, func: Any, callback: Callable[[Any], Any] | None = None) -> Any:
        future = super().submit(func, callback)
        if callback is not None:
            with self._lock:
                self._unanswered[future] = callback
            future.add_done_callback(self._answered)
        return future

    def retrieve_result_callback(self, out: Any) -> Any:
        if isinstance(out, CancelledError) or type(out).__name__ in ("CancelledError", "FutureCancelledError"):
            raise StoppedError("the scheduler of the cluster is gone; start it, and run the same command again")
        if isinstance(out, BaseException):
            raise out
        return super().retrieve_result_callback(out)

    def give_up(self, error: BaseException) -> None:
        """End the call that waits for tasks, with this error."""
        with self._lock:
            waiting = list(self._unanswered.values())
        for callback in waiting[:1]:
            callback(error)

    def _answered(self, future: "Future[Any]") -> None:
        with self._lock:
            callback = self._unanswered.pop(future, None)
        error = future.exception()
        if error is not None and callback is not None:
            callback(error)
