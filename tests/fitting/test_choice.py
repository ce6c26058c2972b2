import pytest
import torch

from resnet_gp.fitting import choice
from resnet_gp.fitting.choice import choose_inference
from resnet_gp.fitting.nearest import Nearest
from resnet_gp.fitting.sparse import Sparse

CPU = torch.device("cpu")


def choose(asked, n, limit=None, dtype=torch.float64):
    return choose_inference(asked, n, (Nearest(), Sparse(10)), limit, CPU, dtype).name


def test_auto_is_exact_up_to_the_limit():
    assert choose("auto", 100) == "exact"
    assert choose("auto", 100, limit=99) == "nearest"


@pytest.mark.parametrize("asked", ["exact", "nearest", "sparse"])
def test_what_is_asked_for_is_taken(asked):
    assert choose(asked, 100) == asked


def test_exact_inference_on_too_many_rows_is_refused():
    with pytest.raises(ValueError, match=r"\(24\.0 GiB\) and is refused above 500; set inference="):
        choose("exact", 2**15, limit=500)
    images = Sparse(10), Nearest()
    with pytest.raises(ValueError, match='set inference="sparse"'):
        choose_inference("exact", 600, images, 500, CPU, torch.float64)


def test_the_limit_follows_from_memory_but_is_never_hours(monkeypatch):
    pages = {"SC_PHYS_PAGES": 2**10, "SC_PAGE_SIZE": 2**12}  # 4 MiB
    monkeypatch.setattr(choice.os, "sysconf", pages.__getitem__)
    rows = int((2**21 / 24) ** 0.5)  # half of it for three matrices
    assert choose("auto", rows) == "exact"
    assert choose("auto", rows + 1) == "nearest"
    assert choose("auto", rows + 1, dtype=torch.float32) == "exact"
    pages["SC_PHYS_PAGES"] = 2**40
    assert choose("auto", 5000) == "exact"
    assert choose("auto", 5001) == "nearest"
