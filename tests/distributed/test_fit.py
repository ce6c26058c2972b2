"""The same fit as on one machine, to the same numbers."""

import os
import signal

import numpy as np
import pytest

pytest.importorskip("distributed")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")

from sklearn.exceptions import ConvergenceWarning

from resnet_gp import ResNetGPRegressor
from resnet_gp.distributed import fit
from resnet_gp.distributed.fit import DEFAULT
from resnet_gp.distributed.rows import DaskPoints
from resnet_gp.fitting.inference import Training
from resnet_gp.fitting.input_choice import helpful_directions
from resnet_gp.fitting.nearest import Here, Nearest
from resnet_gp.fitting.search import Search
from resnet_gp.progress import progress_bar

pytestmark = pytest.mark.usefixtures("few_rows_learn")


def search_of(kernels, max_iter):
    return Search(
        kernels[0], np.random.RandomState(0), progress_bar("", False),
        max_iter=max_iter, others=tuple(kernels[1:]),
    )  # fmt: skip


def local_law(found, x, y, new, kernels, n_neighbors, max_iter, **options):
    """Predictions of what ``fit`` does, on one machine and in the same units."""
    units, search = found.units, search_of(kernels, max_iter)
    fitted = Nearest(n_neighbors, **options).fit(Training(units.x(x), units.y(y)), search)
    assert fitted.posterior.n_neighbors == found.n_neighbors
    return units.law(fitted.posterior.law(units.x(new)))


def killed_once(client, killed):
    """Kill a worker process."""
    if not killed:
        pid = next(iter(client.run(os.getpid).values()))
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)


@pytest.mark.parametrize("outputs", [1, 2])
def test_fit_gives_the_local_fit(client, data, chunked, options, outputs):
    x, y = data[0][:150], data[1][:150, :outputs]
    y = y[:, 0] if outputs == 1 else y
    options = options | {"n_neighbors": None if outputs == 1 else 10}
    lazy = chunked(x, y, rows=40)
    found = fit(client, lazy[0].rechunk((40, 2)), lazy[1].rechunk({0: 150}), **options)
    law = local_law(found, x, y, data[0][:170], **options)
    mean, std = found.predict(data[0][:170])
    assert mean.shape == law.mean.shape
    np.testing.assert_allclose(mean, law.mean, rtol=1e-10)
    np.testing.assert_allclose(std, law.std, rtol=1e-10)


def test_defaults_are_those_of_the_regressor(client, data, chunked):
    x, y = data[0][:90], data[1][:90, 0]
    found = fit(client, *chunked(x, y, rows=40), max_iter=2)
    local = ResNetGPRegressor(inference="nearest", max_iter=2, verbose=False)
    with pytest.warns(ConvergenceWarning):
        local.fit(x, y)
    assert local.kernels_ == [kernel.name for kernel in DEFAULT]
    assert found.n_neighbors == local.n_neighbors_
    expected = local.predict(x, return_std=True)
    for part, other in zip(found.predict(x), expected, strict=True):
        np.testing.assert_allclose(part, other, rtol=1e-4)  # scalers differ by rounding


def test_directions_are_those_of_the_local_fit(client, data, chunked, options):
    x, y = data[0][:150], data[1][:150, 0]
    options = options | {"n_neighbors": 10}
    found = fit(client, *chunked(x, y, rows=40), rotate_features=np.True_, **options)
    training = Training(found.units.x.inner(x), found.units.y(y))
    search = search_of(options["kernels"], options["max_iter"])
    expected = helpful_directions(Here(training), search, True)
    np.testing.assert_allclose(found.units.directions, expected, rtol=1e-10)
    law = local_law(found, x, y, data[0][:170], **options)
    np.testing.assert_allclose(found.predict(data[0][:170])[0], law.mean, rtol=1e-10)


def test_normal_laws_and_maximum_likelihood(client, data, chunked, options):
    x, y = data[0][:100], data[1][:100, 0]
    found = fit(client, *chunked(x, y), residuals="gaussian", hyperparameters="ml", **options)
    assert found.posterior.local_scale.is_normal
    assert not list(found.model.named_priors())


def test_killing_a_worker_during_the_fit_loses_nothing(
    client, data, chunked, options, fitted, monkeypatch
):
    killed, searches, nearest = [], [], DaskPoints.nearest

    def search(self, points, k):
        searches.append(k)
        if len(searches) == 2:
            killed_once(client, killed)
        return nearest(self, points, k)

    monkeypatch.setattr(DaskPoints, "nearest", search)
    x, y = data
    found = fit(client, *chunked(x, y[:, 0]), **options)
    assert killed[0] not in client.run(os.getpid).values()
    assert found.result.value == fitted.result.value
    np.testing.assert_array_equal(found.predict(x[:50]), fitted.predict(x[:50]))


def test_partitions_may_be_empty_or_have_fewer_rows_than_neighbours(client, data, options):
    x, y = data
    frame = pd.DataFrame(x[:120], columns=list("abc")).assign(y=y[:120, 0])
    pieces = [frame[:0], frame[:100], frame[100:100], frame[100:101], frame[101:]]
    whole = dd.from_delayed([client.submit(pd.DataFrame.copy, piece) for piece in pieces])
    found = fit(client, whole[list("abc")], whole["y"], **options)
    assert found.column_names == list("abc")
    assert found.model.rows().sizes == [100, 1, 19]
    law = local_law(found, x[:120], y[:120, 0], x[:40], **options)
    np.testing.assert_allclose(found.predict(frame[list("abc")][:40])[0], law.mean, rtol=1e-10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_neighbors": 0}, "n_neighbors must be an integer of at least 1, got 0"),
        ({"max_iter": 2.5}, "max_iter must be an integer of at least 1, got 2.5"),
        ({"residuals": "normal"}, 'residuals must be "student" or "gaussian"'),
        ({"hyperparameters": "laplace"}, 'hyperparameters must be "map" or "ml"'),
        ({"kernels": []}, "kernels must be a list of KernelSpec, and not empty"),
        ({"kernels": "limit"}, "kernels must be a list of KernelSpec"),
        ({"kernels": ["limit"]}, r"kernels must be a list of KernelSpec.* got \['limit'\]"),
        ({"rotate_features": 1}, 'rotate_features must be "auto", True or False, got 1'),
    ],
)
def test_says_which_option_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        fit(None, None, None, **wrong)
