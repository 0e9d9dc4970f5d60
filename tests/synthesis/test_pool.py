"""`parallel_map`: ordered results, and no worker left behind.

The functions are the standard library's, because spawned processes must be able to import them.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time

import pytest

from relightify_diffusers.errors import RelightifyError
from relightify_diffusers.synthesis.pool import available_cores, parallel_map


def test_available_cores():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


def test_results_come_in_order():
    """Also with more items than are handed out at once."""
    assert list(parallel_map(math.factorial, range(12), 2)) == [math.factorial(n) for n in range(12)]
    assert not multiprocessing.active_children()


def test_an_error_comes_in_its_turn_and_ends_the_workers():
    results = parallel_map(math.sqrt, [4.0, 9.0, -1.0, *[1.0] * 50], 2)
    assert [next(results), next(results)] == [2.0, 3.0]
    with pytest.raises(ValueError):
        next(results)
    assert not multiprocessing.active_children()


def test_an_abandoned_loop_does_not_wait_for_the_workers():
    results = parallel_map(time.sleep, [0.0, 60.0, 60.0], 2)
    next(results)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 20
    assert not multiprocessing.active_children()


def test_a_worker_that_dies():
    with pytest.raises(RelightifyError, match="worker"):
        list(parallel_map(os._exit, [3], 1))
    assert not multiprocessing.active_children()


@pytest.fixture
def interruptible():
    """Ctrl-C as a terminal has it: shells start background jobs with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_workers_have_one_thread_and_ignore_interrupts(interruptible):
    kept = os.environ.get("OMP_NUM_THREADS")
    assert list(parallel_map(os.getenv, ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"], 1)) == ["1", "1"]
    assert os.environ.get("OMP_NUM_THREADS") == kept
    assert list(parallel_map(signal.getsignal, [signal.SIGINT], 1)) == [signal.SIG_IGN]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_calls_are_made_in_other_processes():
    assert list(parallel_map(eval, ["__import__('os').getppid()"], 1)) == [os.getpid()]
