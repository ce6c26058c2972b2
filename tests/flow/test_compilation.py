"""What happens while numba compiles."""

import gc
import time
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("numba")

from numba.core import event as numba_events

from resnet_gp.flow import compilation
from resnet_gp.flow.autograd import compiled_loops


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
