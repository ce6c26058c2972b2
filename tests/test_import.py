from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import resnet_gp

# pyro is missing here because gpytorch itself loads it.
LATER = ["sklearn", "dask", "botorch", "arviz", "matplotlib", "numba"]


def loaded_after(statement):
    code = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_import_loads_torch_and_gpytorch_only_and_leaves_the_default_dtype():
    loaded = loaded_after(
        "import torch; from resnet_gp import ResNetLimitKernel, correlation, kernel_matrix; "
        "assert torch.get_default_dtype() == torch.float32"
    )
    assert {"torch", "gpytorch"} <= loaded
    assert not loaded & set(LATER)


def test_the_botorch_covariance_module_does_not_load_botorch():
    loaded = loaded_after("from resnet_gp.models.botorch import get_covar_module_with_resnet_prior")
    assert not loaded & set(LATER)


@pytest.mark.parametrize("name", resnet_gp.__all__)
def test_public_names_resolve(name):
    assert getattr(resnet_gp, name).__name__ == name
    assert name in dir(resnet_gp)


def test_there_are_few_public_names():
    assert len(set(resnet_gp.__all__)) == len(resnet_gp.__all__) <= 15
    assert resnet_gp.__all__ == sorted(resnet_gp.__all__)


def test_unknown_names_raise():
    with pytest.raises(AttributeError, match="has no attribute 'ResNetGP'"):
        _ = resnet_gp.ResNetGP


def test_version_is_that_of_the_project_and_its_citation():
    root = Path(__file__).parents[1]
    for file, pattern in (
        ("pyproject.toml", r'version = "(.+)"'),
        ("CITATION.cff", "version: (.+)"),
    ):
        [version] = re.findall(f"^{pattern}$", (root / file).read_text(), flags=re.MULTILINE)
        assert resnet_gp.__version__ == version, file
