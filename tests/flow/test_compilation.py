"""The line that says that numba compiles."""

import time
from types import SimpleNamespace

import pytest

pytest.importorskip("numba")

from resnet_gp.flow import compilation


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
