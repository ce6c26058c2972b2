import json

import numpy as np
import pytest

from resnet_gp import demo


@pytest.fixture
def toy():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    y = np.sin(X[:, 0]) + 0.1 * rng.normal(size=40)
    orders = [rng.permutation(40) for _ in range(2)]
    return X, y, [(order[10:], order[:10]) for order in orders]


def test_run_summary_and_json(tmp_path, toy):
    results = list(demo.run(*toy))
    names = ["resnet-gp", "scikit-learn"]
    assert [(one.split, one.model) for one in results] == [
        (split, name) for split in (0, 1) for name in names
    ]
    for one in results:
        np.testing.assert_array_equal(one.truth, toy[1][toy[2][one.split][1]])
        assert one.scores()["rmse"] == pytest.approx(
            np.sqrt(np.mean((one.law.mean - one.truth) ** 2))
        )
        assert one.scores()["rmse"] < 0.5
    demo.write_json(tmp_path / "out.json", results)
    content = json.loads((tmp_path / "out.json").read_text())
    assert len(content["scores"]) == 4
    ours = [one.scores()["rmse"] for one in results if one.model == "resnet-gp"]
    summary = content["summary"]["diabetes"]["resnet-gp"]["rmse"]
    assert summary["mean"] == pytest.approx(np.mean(ours))
    assert summary["standard_error"] == pytest.approx(np.std(ours, ddof=1) / np.sqrt(2))
    assert content["versions"]["resnet-gp"]
    demo.draw(tmp_path / "out.png", results)
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_the_diabetes_set_has_three_splits():
    X, y, splits = demo.load()
    assert X.shape == (442, 10)
    assert y.shape == (442,)
    assert [(len(train), len(test)) for train, test in splits] == [(397, 45)] * 3
