"""Ordered results from worker processes that end cleanly, whatever happens."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from relightify_diffusers.errors import RelightifyError

Item = TypeVar("Item")
Result = TypeVar("Result")

# Items handed out ahead of the one that is waited for, for each worker: enough that none idles while a slow one ends.
AHEAD = 2

# Set to 1 in the workers' environment: the processes fill the cores, threads of their own would only fight for them.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def available_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    """Yield function(item) in the order of the items, computed by `workers` fresh (spawned) processes.

    The function and the items must be picklable. What a call raises is raised here, in its turn; a worker that dies
    raises RelightifyError. On any end, an exception or an abandoned loop included, the workers are gone.
    """
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    waiting = iter(items)
    pending: deque[Future] = deque()
    done = False
    try:
        while True:
            for item in islice(waiting, AHEAD * workers - len(pending)):
                with _worker_surroundings():
                    pending.append(executor.submit(function, item))
            if not pending:
                break
            yield pending.popleft().result()
        done = True
    except BrokenProcessPool as error:
        raise RelightifyError(
            "a worker process ended without an answer (out of memory? or a script without "
            '`if __name__ == "__main__":`); run again, perhaps with fewer workers'
        ) from error
    finally:
        if not done:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
        executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _worker_surroundings() -> Iterator[None]:
    """What a process started inside inherits: one thread for each library, and deafness to Ctrl-C.

    The parent alone answers Ctrl-C, which the terminal sends to all; otherwise each worker would print a traceback.
    """
    kept = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _end_with_parent() -> None:
    """Leave no orphan: end this process when its parent is gone, killed ones included."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
