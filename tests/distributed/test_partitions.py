import numpy as np
import pytest

pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")

from resnet_gp.distributed import Partitions, fit
from resnet_gp.distributed.column_moments import column_moments
from resnet_gp.distributed.partitions import checked_block

D = 3


@pytest.fixture
def few(data):
    x, y = data
    return x[:40], y[:40, 0]


def test_refuses_what_it_would_take_for_numbers():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "c": pandas.Categorical([0, 1])})
    with pytest.raises(ValueError, match="part must be numeric: a column is of categories"):
        checked_block("part", frame, ["a", "c"], 2)
    with pytest.raises(ValueError, match="part must be numeric: a column is of categories"):
        checked_block("part", frame["c"], None, None)
    with pytest.raises(ValueError, match="part has values that are missing"):
        checked_block("part", np.ma.masked_array([[1.0], [2.0]], [[False], [True]]), None, 1)


def partition_error(client, x, y):
    return column_moments(client, Partitions(client, x, y).pairs)


def test_says_what_is_wrong_with_partitions(client, few, chunked):
    x, y = few
    lazy = chunked(x, y, rows=10)
    missing = x.copy()
    missing[25, 1] = np.nan
    with pytest.raises(ValueError, match="partition 2 of X has values that are missing"):
        fit(client, *chunked(missing, y, rows=10))
    with pytest.raises(ValueError, match="partition 2 of y has values that are missing"):
        fit(client, *chunked(x, missing[:, 1], rows=10))
    blocks = [client.submit(np.array, part) for part in (x[:20], x[20:, :2])]
    ragged = da.concatenate([da.from_delayed(b, (20, D), dtype=float) for b in blocks])
    with pytest.raises(ValueError, match=r"partition 1 of X is of shape \(20, 2\), not 3 columns"):
        partition_error(client, ragged, da.from_array(y, chunks=20))
    frames = [pd.DataFrame(x[:20], columns=list("abc")), pd.DataFrame(x[20:], columns=list("bac"))]
    parts = [client.submit(pd.DataFrame.copy, frame) for frame in frames]
    frame = dd.from_delayed(parts, meta=frames[0], verify_meta=False)
    with pytest.raises(ValueError, match=r"partition 1 of X has columns \['b', 'a', 'c'\], not"):
        fit(client, frame, da.from_array(y, chunks=20))
    for text in (x.astype(str), x.astype(str).astype(object)):
        with pytest.raises(ValueError, match=r"partition \d of X must be numeric"):
            partition_error(client, *chunked(text, rows=10), lazy[1])


def test_too_few_rows(client, few, chunked):
    lazy = chunked(*few, rows=10)
    with pytest.raises(ValueError, match="X has no rows"):
        fit(client, *(part[:0] for part in lazy))
    with pytest.raises(ValueError, match="X has one row"):
        fit(client, *(part[:1] for part in lazy))


def test_says_which_argument_is_wrong(client, few, chunked):
    lazy_x, lazy_y = chunked(*few, rows=10)
    with pytest.raises(TypeError, match=r"X must be a dask.array or dask.dataframe, got ndarray"):
        Partitions(client, few[0], lazy_y)
    with pytest.raises(ValueError, match="X has 40 rows, and y has 30"):
        Partitions(client, lazy_x, lazy_y[:30])
    with pytest.raises(ValueError, match="X must be n x d and y n or n x p"):
        Partitions(client, lazy_y, lazy_y)
