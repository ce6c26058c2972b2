"""What happens while numba compiles."""

import functools
import gc
import importlib
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("numba")

from numba.core import event as numba_events

from resnet_gp import ResNetLimitKernel
from resnet_gp.flow import compilation, on_numba
from resnet_gp.flow.autograd import compiled_loops
from resnet_gp.models import ExactRegression


def event(function):
    return SimpleNamespace(data={"dispatcher": SimpleNamespace(py_func=function)})


def ours():
    pass


ours.__module__ = "resnet_gp.flow.compiled"


def test_says_once_that_it_compiles_for_long(capsys):
    notice = compilation._Notice(0.01)
    for _ in range(2):
        notice.on_start(event(ours))
        notice.on_start(event(ours))  # what it calls
        notice.on_end(event(ours))
        time.sleep(0.1)
        notice.on_end(event(ours))
    assert capsys.readouterr().err.count("resnet-gp compile") == 1


def test_is_quiet_about_short_compilation(capsys):
    notice = compilation._Notice(0.05)
    notice.on_start(event(ours))
    notice.on_end(event(ours))
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_is_quiet_about_functions_of_others(capsys):
    notice = compilation._Notice(0.01)
    notice.on_start(event(event))
    time.sleep(0.05)
    notice.on_end(event(event))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("enabled", [True, False])
def test_compiles_without_collections(enabled):
    listener = compilation._NoCollections()
    (gc.enable if enabled else gc.disable)()
    try:
        listener.on_start(event(event))
        assert gc.isenabled() == enabled
        listener.on_end(event(event))
        listener.on_start(event(ours))
        listener.on_start(event(ours))
        listener.on_end(event(ours))
        assert not gc.isenabled()
        listener.on_end(event(ours))
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


def test_is_told_by_numba():
    assert compiled_loops("flow.compiled", torch.zeros(1)) is not None
    data = event(ours).data
    numba_events.start_event("numba:compile", data)
    try:
        assert not gc.isenabled()
    finally:
        numba_events.end_event("numba:compile", data)
    assert gc.isenabled()


LOOPS = """
from numba import njit

@njit(cache=True)
def first(x):
    return x + 1

@njit(cache=True)
def second(x, y):
    return x * y[0]
"""


@pytest.fixture
def loops(tmp_path, monkeypatch):
    """Calls of two functions that no cache holds."""
    (tmp_path / "loops_of_a_test.py").write_text(LOOPS)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("loops_of_a_test")
    yield functools.partial(module.first, 1.0), functools.partial(module.second, 2.0, (3, 4.0))
    del sys.modules["loops_of_a_test"]


def outcome(call):
    """What a call returns, and how many of its specialisations the cache held."""
    return call(), sum(call.func.stats.cache_hits.values())


def test_compiles_a_second_loop_in_a_process_of_its_own(loops, monkeypatch):
    monkeypatch.setattr(compilation.os, "cpu_count", lambda: 2)
    first, second = loops
    compilation.compile_together(first, second)
    assert len(first.func.signatures) == 1
    assert not second.func.signatures
    assert outcome(first) == (2.0, 0)
    assert outcome(second) == (6.0, 1)


def test_starts_no_process_where_the_cache_holds_the_first(loops, monkeypatch):
    first, second = loops
    first()
    monkeypatch.setattr(compilation.subprocess, "Popen", None)
    compilation.compile_together(first, second)
    assert outcome(second) == (6.0, 0)


@pytest.mark.parametrize("cause", ["no interpreter", "application", "one core", "refused"])
def test_compiles_alone_where_no_process_can_help(loops, monkeypatch, cause):
    monkeypatch.setattr(compilation.os, "cpu_count", lambda: 1 if cause == "one core" else 2)
    if cause == "no interpreter":
        monkeypatch.setattr(compilation, "get_executable", lambda: None)
    if cause == "application":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    if cause == "refused":
        monkeypatch.setattr(compilation, "get_executable", lambda: "/no/such/interpreter")
    first, second = loops
    compilation.compile_together(first, second)
    assert outcome(second) == (6.0, 0)


def test_does_not_wait_for_ever(loops, monkeypatch):
    monkeypatch.setattr(compilation.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(compilation, "_CODE", "import time; time.sleep(600)")
    monkeypatch.setattr(compilation, "_LONGEST", 0.1)
    start = time.monotonic()
    compilation.compile_together(*loops)
    assert time.monotonic() - start < 60


def test_expects_the_loop_that_a_gradient_calls(monkeypatch):
    compiled, called, compute = [], [], on_numba.in_threads

    def recorded(calls):
        called.extend(calls)
        compute(calls)

    monkeypatch.setattr(on_numba, "in_threads", recorded)
    monkeypatch.setattr(on_numba, "compile_together", lambda *calls: compiled.extend(calls))
    monkeypatch.setattr(on_numba.compiled.gradient, "overloads", {})
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(6, 2)
    ExactRegression(x, x[:, 0], ResNetLimitKernel()).log_marginal_likelihood().backward()
    for one, other in zip(compiled, called, strict=True):
        assert one.func is other.func
        assert compilation._types(one) == compilation._types(other)


def test_a_second_process_needs_no_torch():
    code = "import sys; import resnet_gp.flow.compiled; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
