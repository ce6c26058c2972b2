import os
import signal

import numpy as np
import pytest
import torch

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")

from resnet_gp.distributed import fit, predictions


@pytest.fixture(scope="module")
def frame_fit(client, data, options):
    """A fit to a frame, with two outputs."""
    x, y = data
    frame = pd.DataFrame(x[:100], columns=list("abc"))
    targets = pd.DataFrame(y[:100], columns=list("uv"))
    lazy = [dd.from_pandas(part, npartitions=2) for part in (frame, targets)]
    return fit(client, *lazy, **options)


def test_of_an_array_are_arrays_in_slices(fitted, data, monkeypatch):
    x, y = data
    mean, std = fitted.predict(x)
    assert np.mean((mean - y[:, 0]) ** 2) < 0.2 * y[:, 0].var()
    assert 0.85 < np.mean(np.abs(mean - y[:, 0]) < 2 * std) <= 1
    for name, value in (("_SLICE", 50), ("_SENT", 110)):
        monkeypatch.setattr(predictions, name, value)
    np.testing.assert_allclose(fitted.predict(x[:230]), [mean[:230], std[:230]], rtol=1e-12)


def test_of_a_dask_array_are_lazy_with_its_chunks(fitted, data, monkeypatch):
    monkeypatch.setattr(predictions, "_SLICE", 60)
    x = data[0][:150]
    expected = fitted.predict(x)
    lazy = da.from_array(x, chunks=((100, 0, 50), 2))
    found = fitted.predict(lazy)
    for part, other in zip(found, expected, strict=True):
        assert isinstance(part, da.Array)
        assert part.chunks == ((100, 50),)
        np.testing.assert_allclose(part.compute(), other, rtol=1e-12)
    unknown = lazy[lazy[:, 0] > 3]
    np.testing.assert_allclose(
        fitted.predict(unknown)[0].compute(), expected[0][x[:, 0] > 3], rtol=1e-12
    )


def test_of_a_dask_frame_keep_its_partitions_and_its_index(frame_fit, data):
    x = pd.DataFrame(data[0][:60], columns=list("abc"), index=np.arange(60) * 2)
    mean, std = frame_fit.predict(x)
    assert mean.shape == std.shape == (60, 2)
    lazy = frame_fit.predict(dd.from_pandas(x, npartitions=3))
    assert [part.npartitions for part in lazy] == [3, 3]
    for part, expected in zip(dask.compute(*lazy), (mean, std), strict=True):
        np.testing.assert_allclose(part.to_numpy(), expected, rtol=1e-12)
        assert part.index.equals(x.index)
        assert list(part.columns) == ["u", "v"]


def test_of_a_dask_frame_are_series_for_one_output(fitted, data):
    x = pd.DataFrame(data[0][:30], columns=list("abc"), index=list(range(5, 35)))
    with pytest.warns(UserWarning, match="that of the fit None"):
        mean, std = fitted.predict(dd.from_pandas(x, npartitions=2))
    assert (mean.name, std.name) == ("mean", "std")
    np.testing.assert_allclose(mean.compute(), fitted.predict(data[0][:30])[0], rtol=1e-12)


def test_killing_a_worker_loses_nothing(client, fitted, data, chunked, monkeypatch):
    monkeypatch.setattr(predictions, "_SLICE", 40)
    x = data[0]
    expected = fitted.predict(x)[0]
    [lazy] = chunked(x, rows=100)
    mean = fitted.predict(lazy)[0].persist()
    futures = distributed.futures_of(mean)
    distributed.wait(futures, return_when="FIRST_COMPLETED")
    pid = next(iter(client.run(os.getpid).values()))
    os.kill(pid, signal.SIGKILL)
    np.testing.assert_allclose(mean.compute(), expected, rtol=1e-12)
    assert pid not in client.run(os.getpid).values()
    np.testing.assert_allclose(fitted.predict(x[:20])[0], expected[:20], rtol=1e-12)


def test_a_collection_is_not_computed_before_its_predictions(fitted):
    @dask.delayed
    def block():
        raise OSError("computed")

    mean, std = fitted.predict(da.from_delayed(block(), (5, 3), dtype=float))
    for part in (mean, std):
        with pytest.raises(OSError, match="computed"):
            part.compute()


def test_checks_rows(fitted, data, chunked):
    x = data[0][:30]
    expected = fitted.predict(x)
    for same in (x.tolist(), x.astype(object), torch.from_numpy(x), np.asfortranarray(x)):
        np.testing.assert_allclose(fitted.predict(same), expected, rtol=1e-10)
    assert [len(part) for part in fitted.predict(x[:0])] == [0, 0]
    for wrong in (x[:, :1], x[0], x[:, [0, 1, 2, 0]], x[None], np.float64(1.0)):
        with pytest.raises(ValueError, match=r"X is of shape .*, not 3 columns"):
            fitted.predict(wrong)
    with pytest.raises(ValueError, match=r"X is of shape .*, not 3 columns"):
        fitted.predict(*chunked(x[:, :2]))
    for value, message in (
        (np.nan, "X has values that are missing or not finite"),
        (np.inf, "X has values that are missing or not finite"),
        (1e30, r"X: row 7 \(counted from 0\) holds 1e\+30"),
    ):
        broken = x.copy()
        broken[7, 1] = value
        with pytest.raises(ValueError, match=message):
            fitted.predict(broken)
        with pytest.raises(ValueError, match="partition 0 of " + message):
            fitted.predict(*chunked(broken, rows=10))[0].compute()
    for dtype in (str, complex, "datetime64[s]"):
        with pytest.raises(ValueError, match="X must be numeric"):
            fitted.predict(x.astype(int).astype(dtype))
    with pytest.warns(UserWarning, match="that of the fit None"):
        np.testing.assert_allclose(fitted.predict(pd.DataFrame(x)), expected, rtol=1e-10)


def test_columns_of_a_frame_are_those_of_the_fit(frame_fit, data):
    frame = pd.DataFrame(data[0][:20], columns=list("abc"))
    with pytest.warns(UserWarning, match="X has columns None, that of the fit"):
        frame_fit.predict(data[0][:20])
    wrongs = (frame.assign(y=0.0), frame[list("bac")], frame[["a"]], frame.add_prefix("x"))
    for wrong in wrongs:
        with pytest.raises(ValueError, match=r"X has columns .*, not \['a', 'b', 'c'\]"):
            frame_fit.predict(wrong)
    with pytest.raises(ValueError, match=r"X has columns .*, not \['a', 'b', 'c'\]"):
        frame_fit.predict(dd.from_pandas(frame[list("bac")], npartitions=2))
