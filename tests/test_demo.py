import json

import numpy as np
import pytest
from test_regression_sets import save_set

from resnet_gp import demo
from resnet_gp.regression_sets import load_set


def test_mean_and_error():
    values = np.array([1.0, 2.0, 6.0])
    assert demo.mean_and_error(values) == pytest.approx((3, np.sqrt(7 / 3)))
    assert np.isnan(demo.mean_and_error(values[:1])[1])


def test_run_summary_and_json(tmp_path):
    data = load_set(save_set(tmp_path), 2)
    results = list(demo.run(data))
    all_scores = [score for score, _ in results]
    assert [(s.split, s.model) for s in all_scores] == [
        (split, model) for split in (0, 1) for model in demo.MODELS
    ]
    assert all(s.rmse < 0.5 and s.seconds > 0 for s in all_scores)
    assert all(np.isfinite(p.std).all() and p.truth.shape == (10,) for _, p in results)
    demo.write_json(tmp_path / "out.json", all_scores)
    content = json.loads((tmp_path / "out.json").read_text())
    assert len(content["scores"]) == 4
    ours = [s.rmse for s in all_scores if s.model == demo.OURS]
    summary = content["summary"]["toy"][demo.OURS]["rmse"]
    assert summary["mean"] == pytest.approx(np.mean(ours))
    assert summary["standard_error"] == pytest.approx(np.std(ours, ddof=1) / np.sqrt(2))
    assert content["versions"]["resnet-gp"]
    demo.draw(tmp_path / "out.png", [predictions for _, predictions in results])
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
