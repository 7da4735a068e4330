"""Compiling in several worker processes at once, each text once."""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait

from autotune.backends.base import Backend
from autotune.measure import Phase
from autotune.tasks import Compiled, CompileTask
from autotune.workers import TaskError, Worker, WorkerDied, WorkerTimeout
from records.errors import DeviceError
from search_spaces.kernel import KernelSource

_KEPT_BINARIES = 256  # enough for the finalists of any session; a binary is some 10 to 500 KiB
_ACCEPT_TIMEOUT_S = 60.0


class Batch:
    """Sources under way. Iterating gives (index, result) in the order of completion.

    Raises `DeviceError` where no worker can open the device. Leaving the `with` drops what has
    not been started.
    """

    def __init__(self, futures: Sequence[Future[Compiled]]) -> None:
        self._futures = futures

    def wait(self) -> None:
        """Until nothing of it compiles any more."""
        wait(self._futures)

    def __iter__(self) -> Iterator[tuple[int, Compiled]]:
        left = dict(enumerate(self._futures))
        while left:
            wait(left.values(), return_when=FIRST_COMPLETED)
            index = next(index for index, future in left.items() if future.done())
            try:
                compiled = left.pop(index).result()
            except CancelledError:
                raise DeviceError("the runner was closed while it compiled") from None
            yield index, compiled

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *error: object) -> None:
        for future in self._futures:
            future.cancel()


class CompilePool:
    """Compiles through `workers` child processes, started as they are needed.

    A thread waits for each child, so compiling goes on while the caller does something else.
    `compiling` and `close` are called by one thread.
    """

    def __init__(self, open_backend: Callable[[], Backend], workers: int) -> None:
        self._workers = [Worker(open_backend) for _ in range(workers)]
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        for worker in reversed(self._workers):
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="autotune-compile")
        self._binaries: OrderedDict[str, Compiled] = OrderedDict()
        self._lock = threading.Lock()  # of the binaries

    @property
    def size(self) -> int:
        """How many texts are compiled at once."""
        return len(self._workers)

    @property
    def pids(self) -> list[int]:
        """Of the children that run now."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    def compiling(self, sources: Sequence[KernelSource], timeout_s: float) -> Batch:
        """Compile in the background; nothing is done twice for equal texts."""
        futures: dict[str, Future[Compiled]] = {}
        for source in sources:
            if source.digest not in futures:
                futures[source.digest] = self._submit(source, timeout_s)
        return Batch([futures[source.digest] for source in sources])

    def _submit(self, source: KernelSource, timeout_s: float) -> Future[Compiled]:
        with self._lock:
            known = self._binaries.get(source.digest)
            if known is not None:
                self._binaries.move_to_end(source.digest)
        if known is None:
            return self._threads.submit(self._compile, source, timeout_s)
        done: Future[Compiled] = Future()
        done.set_result(known)
        return done

    def _keep(self, source: KernelSource, compiled: Compiled) -> None:
        with self._lock:
            self._binaries[source.digest] = compiled
            if len(self._binaries) > _KEPT_BINARIES:
                self._binaries.popitem(last=False)

    def close(self) -> None:
        """Kill the children, whatever they do. Idempotent."""
        for worker in self._workers:
            worker.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.stop()

    def _compile(self, source: KernelSource, timeout_s: float) -> Compiled:
        worker = self._idle.get()
        limits_s = {Phase.ACCEPTED: _ACCEPT_TIMEOUT_S, Phase.COMPILING: timeout_s}
        try:
            compiled = self._attempt(worker, CompileTask(source), limits_s)
            if compiled.binary is not None:
                self._keep(source, compiled)
            return compiled
        finally:
            self._idle.put(worker)

    def _attempt(self, worker: Worker, task: CompileTask, limits_s: dict[Phase, float]) -> Compiled:
        for is_last in (False, True):
            try:
                compiled: Compiled = worker.run(task, limits_s)
                return compiled
            except WorkerDied as death:
                if is_last or not death.was_killed:
                    return Compiled(None, f"the compiler crashed: {death}")
            except WorkerTimeout as timeout:
                return Compiled(None, str(timeout), limits_s[Phase.COMPILING])
            except TaskError as error:
                return Compiled(None, str(error))
        raise AssertionError("unreachable")
