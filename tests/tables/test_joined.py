import numpy as np

from resnet_gp.predictive import Law
from resnet_gp.predictive.scores import scores_of
from resnet_gp.tables.joined import JoinedLaw


def test_rows_have_the_laws_of_their_parts():
    first, second = Law.normal([0.0, 1.0, 2.0], 1.0), Law.student([10.0, 11.0], 2.0, 3.0)
    rows = np.array([4, 0, 2, 1, 3])  # of the five laws
    joined, y = JoinedLaw([first, second], np.argsort(rows)), np.array([1.0, 12.0, 3.0, 8.0, 0.5])
    for i, place in enumerate(np.argsort(rows)):
        law, k = (first, place) if place < 3 else (second, place - 3)
        assert joined.mean[i] == law.mean[k]
        assert joined.std[i] == law.std[k]
        for name in ("cdf", "log_density", "crps"):
            np.testing.assert_allclose(
                getattr(joined, name)(y)[i], getattr(law[[k]], name)(y[i])[0]
            )
        bounds = law.interval(0.8)
        assert [bound[i] for bound in joined.interval(0.8)] == [bound[k] for bound in bounds]
    assert scores_of(joined, joined.mean).rmse == 0
