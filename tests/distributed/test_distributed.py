"""Two worker processes, and the same numbers as in one."""

import os
import pickle
import signal

import numpy as np
import pytest
import torch

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")

from resnet_gp import ResNetLimitKernel
from resnet_gp.distributed import DaskRows, Partitions, fit
from resnet_gp.distributed.column_moments import ColumnMoments, column_moments
from resnet_gp.distributed.fit import DEFAULT
from resnet_gp.distributed.rows import local_rows
from resnet_gp.fitting import get_raw, maximise, set_raw
from resnet_gp.fitting.inference import Training
from resnet_gp.fitting.search import Search
from resnet_gp.fitting.sparse import Sparse, refine_noise
from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.models import SparseRegression, greedy_inducing_points
from resnet_gp.progress import progress_bar

D = 3
UNITS = Standardiser(np.zeros(D), np.ones(D)), Standardiser(np.zeros(()), np.ones(()))


def data(n=600, outputs=None):
    rng = np.random.default_rng(0)
    x = 3 + 2 * rng.normal(size=(n, D))
    y = np.sin(x[:, :1]) + 0.2 * x[:, 1:2] + 0.1 * rng.normal(size=(n, outputs or 1))
    return x, (y if outputs else y[:, 0])


def kernel():
    kernel = ResNetLimitKernel(input_bias=True, variance="no_growth", contrast=True, ard_num_dims=D)
    kernel.get_parameter("raw_input_bias_variance").requires_grad_(False)
    return kernel.double()


def dask_rows(client, x, y, chunks=170):
    arrays = da.from_array(x, chunks=(chunks, D)), da.from_array(y, chunks=chunks)
    partitions = Partitions(client, *arrays)
    parts = client.map(local_rows, partitions.pairs, x_scaler=UNITS[0], y_scaler=UNITS[1])
    return DaskRows(client, parts, D, partitions.num_outputs, partitions.is_vector)


def models(client, outputs=None, num_points=20):
    """The same model twice: rows here, rows there."""
    x, y = data(outputs=outputs)
    local_x, local_y = torch.from_numpy(x), torch.from_numpy(y)
    points = local_x[greedy_inducing_points(kernel(), local_x, num_points)]
    here = SparseRegression(local_x, local_y, kernel(), points)
    there = SparseRegression.from_rows(dask_rows(client, x, y), kernel(), points)
    return here, there


@pytest.mark.parametrize("outputs", [None, 2])
def test_bound_gradient_and_posterior_are_the_local_ones(client, outputs):
    here, there = models(client, outputs)
    for model in (here, there):
        model.inducing_points.requires_grad_()
    values = [model.log_marginal_likelihood() for model in (here, there)]
    assert values[1].item() == pytest.approx(values[0].item(), rel=1e-10)
    found = [
        torch.cat([one.flatten() for one in torch.autograd.grad(value, wanted)])
        for value, model in zip(values, (here, there), strict=True)
        if (wanted := [one for one in model.parameters() if one.requires_grad])
    ]
    assert (found[0] - found[1]).norm() < 1e-10 * found[0].norm()
    x = torch.from_numpy(data()[0])
    expected, posterior = (model.posterior().mean_and_variance(x) for model in (here, there))
    for one, other in zip(posterior, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_many_inducing_points_are_no_reason_to_scatter(client):
    """Dask warns of tasks that carry much, and warnings are errors here."""
    _, there = models(client, num_points=60)
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": 15_000}):
        there.log_marginal_likelihood().backward()


def local_fit(x, y, initial_rows, learn_inducing, max_iter=100):
    """What ``fit`` does, on one machine."""
    training = Training(*(Standardiser.of(part)(part) for part in (x, y)))
    chosen = np.sort(np.random.default_rng(0).choice(len(x), initial_rows, replace=False))
    search = Search(
        DEFAULT, True, False, None, None, 0, 100, np.random.RandomState(0), progress_bar("", False)
    )
    some = Training(training.x[chosen], training.y[chosen])
    start, _, _ = Sparse(20, learn_inducing).fit_model(some, search)
    model = SparseRegression(training.x, training.y, DEFAULT.build(D), start.inducing_points)
    search.prepare(model)
    set_raw(model, raw := get_raw(start))
    maximise(search.objective(model), model, search.bounds(model), [raw], max_iter=max_iter)
    refine_noise(model, search, some)
    return model.posterior().mean(training.x).numpy()


def fitted(client, x, y, **options):
    return fit(
        client, x, y, n_inducing=20, initial_rows=300, hyperparameter_samples=100,
        **{"max_iter": 100} | options,
    )  # fmt: skip


@pytest.mark.parametrize("learn_inducing", [True, False])
def test_fit_gives_the_local_fit(client, learn_inducing):
    x, y = data()
    arrays = da.from_array(x, chunks=(170, 2)), da.from_array(y, chunks=600)
    found = fitted(client, *arrays, learn_inducing=learn_inducing)
    scale = y.std()
    mean, deviation = found.predict(x)
    expected = local_fit(x, y, 300, learn_inducing)
    np.testing.assert_allclose((mean - y.mean()) / scale, expected, atol=1e-4)
    assert np.mean(np.abs(mean - y) < 2 * deviation) > 0.9
    copy = pickle.loads(pickle.dumps(found.posterior))
    points = found.units.x(x[:5])
    assert torch.equal(copy.mean(points), found.posterior.mean(points))


def test_killing_a_worker_during_the_fit_loses_nothing(client):
    x, y = data()
    arrays = da.from_array(x, chunks=(100, D)), da.from_array(y, chunks=100)
    expected = fitted(client, *arrays, max_iter=5)
    killed = []

    def kill_once(evaluation, value, seconds):
        if evaluation == 3:
            pid = next(iter(client.run(os.getpid).values()))
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    found = fitted(client, *arrays, max_iter=5, on_evaluation=kill_once)
    assert killed
    assert killed[0] not in client.run(os.getpid).values()
    assert found.result.value == pytest.approx(expected.result.value, rel=1e-9)
    np.testing.assert_allclose(found.predict(x)[0], expected.predict(x)[0], rtol=1e-6)


def test_dataframes_with_empty_partitions(client):
    x, y = data(60)
    frame = pd.DataFrame(x, columns=list("abc")).assign(y=y)
    pieces = [frame[:25], frame[25:25], frame[25:]]
    whole = dd.from_delayed([client.submit(pd.DataFrame.copy, piece) for piece in pieces])
    partitions = Partitions(client, whole[list("abc")], whole["y"])
    assert [len(pair[0]) for pair in client.gather(partitions.pairs)] == [25, 0, 35]
    found = fitted(client, whole[list("abc")], whole["y"], max_iter=2)
    assert found.column_names == list("abc")
    mean, _ = found.predict(frame[list("abc")])
    assert np.corrcoef(mean, y)[0, 1] > 0.9
    with pytest.warns(UserWarning, match="X has columns None, that of the fit"):
        np.testing.assert_array_equal(found.predict(x)[0], mean)
    for wrong in (frame, frame[list("bac")], frame[["a"]], frame[list("abc")].add_prefix("x")):
        with pytest.raises(ValueError, match=r"X has columns .*, not \['a', 'b', 'c'\]"):
            found.predict(wrong)


def test_predict_checks_its_rows(client):
    x, y = data(60)
    found = fitted(client, da.from_array(x, chunks=(30, D)), da.from_array(y, chunks=30))
    expected = found.predict(x)
    for same in (x.tolist(), x.astype(object), torch.from_numpy(x), np.asfortranarray(x)):
        np.testing.assert_allclose(found.predict(same), expected, rtol=1e-10)
    assert [len(part) for part in found.predict(x[:0])] == [0, 0]
    for wrong in (x[:, :1], x[0], x[:, [0, 1, 2, 0]], x[None], np.float64(1.0)):
        with pytest.raises(ValueError, match=r"X is of shape .*, not 3 columns"):
            found.predict(wrong)
    for value in (np.nan, np.inf):
        broken = x.copy()
        broken[7, 1] = value
        with pytest.raises(ValueError, match="X has values that are missing or not finite"):
            found.predict(broken)
    for dtype in (str, complex, "datetime64[s]"):
        with pytest.raises(ValueError, match="X must be numeric"):
            found.predict(x.astype(int).astype(dtype))
    with pytest.raises(ValueError, match="X must be numeric: it holds text"):
        found.predict(x.astype(str).astype(object))
    with pytest.warns(UserWarning, match="that of the fit None"):
        np.testing.assert_allclose(found.predict(pd.DataFrame(x)), expected, rtol=1e-10)


@pytest.mark.parametrize("value", [1e200, -1.797e308])
def test_marks_of_missing_values_are_refused(client, value):
    x, y = np.random.default_rng(0).normal(size=(2, 60, 3))
    y = y[:, 0]
    y[7] = value
    parts = (da.from_array(part, chunks=(20, *part.shape[1:])) for part in (x, y))
    with pytest.raises(ValueError, match=r"y holds .* in column 0 \(counted from 0\)"):
        fit(client, *parts, n_inducing=10)
    y[7], x[5, 1] = 0, value
    parts = (da.from_array(part, chunks=(20, *part.shape[1:])) for part in (x, y))
    with pytest.raises(ValueError, match=r"X holds .* in column 1"):
        fit(client, *parts, n_inducing=10)


def test_moments_are_those_of_numpy_and_stable(client):
    rng = np.random.default_rng(1)
    x = 1e8 + rng.normal(size=(500, D))
    x[:, 1] = 0.1
    pairs = Partitions(
        client, da.from_array(x, chunks=(90, D)), da.from_array(x[:, 0], chunks=90)
    ).pairs
    for part, values in zip(column_moments(client, pairs), (x, x[:, 0]), strict=True):
        found, expected = part.standardiser("X"), Standardiser.of(values)
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-15)
        np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-7)
    empty = ColumnMoments.of(x[:0])
    both = empty + ColumnMoments.of(x)
    np.testing.assert_array_equal(both.mean, ColumnMoments.of(x).mean)
    assert (empty + empty).count == 0


def partition_error(client, x, y):
    pairs = Partitions(client, x, y).pairs
    return column_moments(client, pairs)


def test_says_what_is_wrong_with_partitions(client):
    x, y = data(40)
    chunked = da.from_array(x, chunks=(10, D)), da.from_array(y, chunks=10)
    missing = x.copy()
    missing[25, 1] = np.nan
    with pytest.raises(ValueError, match="partition 2 of X has values that are missing"):
        partition_error(client, da.from_array(missing, chunks=(10, D)), chunked[1])
    with pytest.raises(ValueError, match="partition 2 of y has values that are missing"):
        partition_error(client, chunked[0], da.from_array(missing[:, 1], chunks=10))
    blocks = [client.submit(np.array, part) for part in (x[:20], x[20:, :2])]
    ragged = da.concatenate([da.from_delayed(b, (20, D), dtype=float) for b in blocks])
    with pytest.raises(ValueError, match=r"partition 1 of X is of shape \(20, 2\), not 3 columns"):
        partition_error(client, ragged, da.from_array(y, chunks=20))
    frames = [pd.DataFrame(x[:20], columns=list("abc")), pd.DataFrame(x[20:], columns=list("abd"))]
    parts = [client.submit(pd.DataFrame.copy, frame) for frame in frames]
    frame = dd.from_delayed(parts, meta=frames[0], verify_meta=False)
    with pytest.raises(ValueError, match="partition 1 of X has columns"):
        partition_error(client, frame, da.from_array(y, chunks=20))
    for text in (x.astype(str), x.astype(str).astype(object)):
        with pytest.raises(ValueError, match=r"partition \d of X must be numeric"):
            partition_error(client, da.from_array(text, chunks=(10, D)), chunked[1])
    with pytest.raises(ValueError, match="X has no rows"):
        partition_error(client, chunked[0][:0], chunked[1][:0])


def test_says_which_argument_is_wrong(client):
    x, y = data(40)
    lazy_x, lazy_y = da.from_array(x, chunks=(10, D)), da.from_array(y, chunks=10)
    with pytest.raises(TypeError, match=r"X must be a dask.array or dask.dataframe, got ndarray"):
        Partitions(client, x, lazy_y)
    with pytest.raises(ValueError, match="X has 40 rows, and y has 30"):
        Partitions(client, lazy_x, lazy_y[:30])
    with pytest.raises(ValueError, match="X must be n x d and y n or n x p"):
        Partitions(client, lazy_y, lazy_y)
