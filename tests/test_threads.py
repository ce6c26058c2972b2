from __future__ import annotations

import functools
import os
import threading
import time

import pytest
import torch

from resnet_gp import threads as module
from resnet_gp.threads import each_serially, in_threads, row_ranges, threads_for, torch_threads


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    with torch_threads(request.param):
        yield request.param


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 1000, 4000])
@pytest.mark.parametrize("pieces", [1, 4])
def test_ranges_cover_every_row_once(threads, rows, symmetric, pieces):
    ranges = row_ranges(rows, 1000, symmetric, pieces)
    assert [row for first, last in ranges for row in range(first, last)] == list(range(rows))
    assert len(ranges) <= threads * pieces


def test_large_matrices_have_several_ranges_for_each_thread(threads):
    ranges = row_ranges(10**4, 10**4, pieces=4)
    assert len(ranges) == (4 * threads if threads > 1 else 1)


def test_small_matrices_are_left_to_one_thread(threads):
    assert len(row_ranges(10, 10)) == 1


def test_symmetric_work_is_shared_evenly(threads):
    n = 1000
    ranges = row_ranges(n, n, symmetric=True, pieces=4)
    work = [sum(n - row for row in range(*rows)) for rows in ranges]
    assert max(work) < 1.01 * n**2 / 2 / len(work) + n


def test_all_tasks_run_and_an_error_is_raised(threads):
    done = []
    in_threads([functools.partial(done.append, k) for k in range(9)])
    assert sorted(done) == list(range(9))
    with pytest.raises(ZeroDivisionError):
        in_threads([functools.partial(divmod, 1, 0)] * 2)
    in_threads([])


def test_a_thread_that_has_ended_takes_the_next_task():
    second = threading.Event()
    done = []

    def first():
        assert second.wait(30)
        done.append("first")

    def others(k):
        done.append(k)
        if k == 5:
            second.set()

    with torch_threads(2):
        in_threads([functools.partial(first), *(functools.partial(others, k) for k in range(6))])
    assert done == [0, 1, 2, 3, 4, 5, "first"]


def test_does_not_wait_for_threads_that_have_not_begun():
    free, busy = threading.Event(), threading.Event()

    def occupy():
        busy.set()
        assert free.wait(30)

    with torch_threads(2):
        other = module._pool(1).submit(occupy)
        assert busy.wait(30)
        done = []
        in_threads([functools.partial(done.append, k) for k in range(3)])
        assert not other.done()
        free.set()
    assert done == [0, 1, 2]


def test_an_index_error_of_a_task_is_raised():
    with torch_threads(2), pytest.raises(IndexError, match="a task's"):
        in_threads([functools.partial(_fail), functools.partial(list)])


def _fail():
    raise IndexError("a task's own")


def test_tasks_that_have_begun_end_before_an_error_is_raised():
    begun = threading.Event()
    done = []

    def fail():
        assert begun.wait(30)
        raise ZeroDivisionError

    def slow():
        begun.set()
        time.sleep(0.05)
        done.append(1)

    with torch_threads(2), pytest.raises(ZeroDivisionError):
        in_threads([functools.partial(fail), functools.partial(slow)])
    assert done == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_works_in_a_forked_process():
    with torch_threads(2):
        in_threads([functools.partial(time.sleep, 0)] * 2)
        child = os.fork()
        if child == 0:
            in_threads([functools.partial(time.sleep, 0)] * 2)
            os._exit(0)
        for _ in range(100):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            time.sleep(0.1)
        else:
            os.kill(child, 9)
    assert ended
    assert status == 0


def test_each_item_is_computed_by_one_thread_in_the_modes_of_the_caller(threads):
    def seen(k):
        return (
            k,
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
        )

    with torch.no_grad():
        found = each_serially(seen, range(7))
    assert found == [(k, 1, False, False) for k in range(7)]
    with torch.inference_mode():
        assert all(inference for *_, inference in each_serially(seen, range(3)))
    assert torch.get_num_threads() == threads


def test_the_error_of_an_item_is_raised(threads):
    with pytest.raises(ZeroDivisionError):
        each_serially(lambda k: 1 / k, [1, 0, 2])
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("parallel", [False, True])
def test_threads_are_used_where_they_pay(monkeypatch, parallel):
    monkeypatch.setattr(module, "_threads_pay", lambda *arguments: parallel)
    with torch_threads(2):
        with threads_for(500):
            assert torch.get_num_threads() == 1 + parallel
        with threads_for(300):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2


def test_threads_are_compared_by_time(monkeypatch):
    """A clock that stands still but while two threads are set."""
    clock = iter(range(1000))
    monkeypatch.setattr(
        module.time, "perf_counter", lambda: next(clock) if torch.get_num_threads() == 2 else 0
    )
    assert not module._threads_pay.__wrapped__(16, 2, 0)
    monkeypatch.setattr(
        module.time, "perf_counter", lambda: next(clock) if torch.get_num_threads() == 1 else 0
    )
    assert module._threads_pay.__wrapped__(16, 2, 0)
