"""Every example has a quick mode, and it shows what the example says."""

import json

import numpy as np
import pytest
import torch
from scripts import load


class TestThompsonSampling:
    def test_runs(self, capsys):
        regrets = load("examples", "thompson_sampling").main(["--quick"])
        assert [len(run) for run in regrets] == [3, 3]
        assert all(run[-1] > -1e-5 for run in regrets)
        assert "worst" in capsys.readouterr().out

    def test_objective_is_the_branin_function(self):
        example = load("examples", "thompson_sampling")
        maximisers = torch.tensor([[-torch.pi, 12.275], [torch.pi, 2.275], [9.42478, 2.475]])
        x = (maximisers.double() + torch.tensor([5.0, 0.0])) / 15
        assert example.objective(x).tolist() == pytest.approx([example.MAXIMUM] * 3, abs=1e-5)

    def test_maximiser_finds_no_less_than_a_grid(self):
        example = load("examples", "thompson_sampling")
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(8, 2, dtype=torch.float64, generator=generator)
        model = example.fitted_model(x, example.objective(x))
        paths = example.draw_posterior(model, num_features=256, generator=generator)
        best = example.maximiser(paths, generator, num_starts=8)[None]
        axis = torch.linspace(-1, 1, 41, dtype=torch.float64)
        on_grid = paths(torch.cartesian_prod(axis, axis))[0].max()
        # They may meet in a corner, where products of other shapes round in another way.
        assert paths(2 * best - 1)[0, 0] >= on_grid - 1e-12


class TestInOneLook:
    def test_networks_agree_with_the_kernel(self, capsys, tmp_path):
        figure = tmp_path / "look.png"
        found = load("examples", "in_one_look").main(["--quick", "--figure", str(figure)])
        assert found["neurons in the 95 % band"] > 0.7
        assert found["largest z-score of a covariance"] < 5
        assert "error outside" in capsys.readouterr().out
        assert figure.exists()


class TestTrainingDynamics:
    def test_runs_and_only_the_advised_scale_moves_features(self, capsys, tmp_path):
        figure = tmp_path / "curves.png"
        example = load("examples", "training_dynamics")
        results = example.main(["--quick", "--figure", str(figure)])
        assert "complete feature learning" in capsys.readouterr().out
        assert figure.exists()
        assert all(losses[-1] < losses[0] for losses, _ in results.values())
        moved = {name: movements[-1] for name, (_, movements) in results.items()}
        assert moved["complete"] > 1.5 * max(moved["lazy"], moved["1/sqrt(LM)"])


class TestFullBayes:
    def test_compares_three_ways(self, capsys, tmp_path):
        figure = tmp_path / "posterior.png"
        found = load("examples", "full_bayes").main(["--quick", "--figure", str(figure)])
        assert list(found) == ["ml", "map", "nuts"]
        assert all(rows.shape == (1, 3) for rows in found.values())
        assert "weight_variance" in capsys.readouterr().out
        assert figure.exists()


class TestHierarchical:
    def test_sharing_helps(self, tmp_path):
        figure = tmp_path / "curves.png"
        found = load("examples", "hierarchical").main(["--quick", "--figure", str(figure)])
        assert found["error, shared kernel"] < found["error, each alone"]
        assert figure.exists()

    def test_machines_are_independent_given_the_hyperparameters(self):
        example = load("examples", "hierarchical")
        machines = example.Machines(example.simulated())
        names = ("centre", "spread", "scale", "noise")
        at = dict(zip(names, torch.tensor([0.0, 2.0, 1.0, 0.1]).double(), strict=True))
        covariance = machines.law(machines.kernel, at).covariance.detach()
        rows = example.ROWS
        assert (covariance[:rows, rows:] == 0).all()
        own = machines.kernel(machines.groups[1][0]).to_dense().detach() + 4
        torch.testing.assert_close(covariance[rows : 2 * rows, rows : 2 * rows], own)


class TestRobustRegression:
    def test_leaves_spoiled_rows_aside(self, tmp_path):
        figure = tmp_path / "curve.png"
        found = load("examples", "robust_regression").main(["--quick", "--figure", str(figure)])
        assert found["error, Student-t noise"] < found["error, normal noise"]
        assert found["mean precision of spoiled rows"] < 0.1 < found["mean precision of all rows"]
        assert figure.exists()


class TestPriorPredictive:
    def test_draws_are_of_the_size_of_standardised_targets(self, tmp_path):
        figure = tmp_path / "prior.png"
        example = load("examples", "prior_predictive")
        by_dimension = example.main(["--quick", "--figure", str(figure)])
        assert list(by_dimension) == [1, 5, 50]
        assert all((values.abs() <= 1 + 1e-12).all() for values in by_dimension.values())
        assert figure.exists()


class TestGPyTorchDropIn:
    def test_training_raises_the_likelihood_and_both_predict(self, capsys, tmp_path):
        figure = tmp_path / "training.png"
        example = load("examples", "gpytorch_drop_in")
        found = example.main(["--quick", "--figure", str(figure)])
        for rows in found.values():
            assert list(rows) == list(example.NAMES)
            for values in rows.values():
                assert values[0, -2] > values[0, 0] + 10
                assert values[0, -1] < 1.35  # a standard normal law has 1.42
        assert "less that of RBF" in capsys.readouterr().out
        assert figure.exists()

    def test_restored_models_are_those_that_were_saved(self):
        example = load("examples", "gpytorch_drop_in")
        x = torch.linspace(-1, 1, 12, dtype=torch.float64)[:, None]
        new = x + 0.03
        for name in example.NAMES:
            model = example.Regression(x, x[:, 0].sin(), example.kernel(name, 1))
            before = example.predict(model, new).mean
            example.train(model, 3)
            after = example.predict(model, new).mean
            assert torch.equal(example.predict(example.restored(model, name), new).mean, after)
            assert not torch.allclose(before, after)


class TestPipelineIntervals:
    def test_intervals_hold_what_they_say(self, capsys, tmp_path):
        figure = tmp_path / "intervals.png"
        example = load("examples", "pipeline_intervals")
        found = example.main(["--quick", "--figure", str(figure)])
        assert list(found) == list(example.WAYS)
        half, most = (found["ResNet GP"].scores(k) for k in (0, 1))
        assert 0.4 < half[0] < 0.65
        assert 0.8 < most[0] < 0.97
        assert half[1] < most[1] < 300
        assert most[2] < found["boosting"].scores(1)[2]
        assert "inside" in capsys.readouterr().out
        assert figure.exists()

    def test_scores_by_hand(self):
        """Four targets in, below and above intervals [2, 4] and [1, 5]."""
        example = load("examples", "pipeline_intervals")
        ends = np.tile([2.0, 4.0, 1.0, 5.0], (4, 1))
        intervals = example.Intervals(ends, np.array([3.0, 0.0, 4.5, 7.0]))
        assert intervals.scores(0) == pytest.approx((0.25, 2.0, 2 + 4 * 5.5 / 4))
        assert intervals.scores(1) == pytest.approx((0.5, 4.0, 4 + 20 * 3 / 4))


class TestConformalIntervals:
    def test_all_ways_make_intervals(self, capsys, tmp_path):
        pytest.importorskip("mapie", reason="MAPIE is in the extra conformal")
        figure, out = tmp_path / "intervals.png", tmp_path / "intervals.json"
        example = load("examples", "conformal_intervals")
        found = example.main(["--quick", "--figure", str(figure), "--out", str(out)])
        assert list(found) == list(example.WAYS)
        for of in found.values():
            assert min(of.coverage) > 0.6
            assert max(of.width) < 6
            assert np.shape(of.by_input) == (2, 8)
        for way, of in json.loads(out.read_text()).items():
            assert of["coverage"] == pytest.approx(
                [np.mean(found[way].coverage), np.ptp(found[way].coverage) / 2]
            )
        assert "mean width" in capsys.readouterr().out
        assert figure.exists()


class TestClassificationCalibration:
    def test_a_forest_knows_more_than_it_says(self, capsys, tmp_path):
        figure = tmp_path / "reliability.png"
        example = load("examples", "classification_calibration")
        found = example.main(["--quick", "--figure", str(figure)])["digits"]
        assert found["ResNet GP"].accuracy > 0.9
        errors = {name: one.reliability().expected_calibration_error for name, one in found.items()}
        assert errors["ResNet GP"] < 0.5 * errors["forest"]
        assert found["ResNet GP"].loss < found["forest"].loss
        assert (found["forest"].values.max(1).mean()) < found["forest"].accuracy
        assert "log-loss" in capsys.readouterr().out
        assert figure.exists()


class TestBayesianOptimisation:
    def test_default_gets_closer_to_the_maximum(self, capsys, tmp_path):
        pytest.importorskip("botorch", reason="botorch is an extra")
        figure = tmp_path / "regret.png"
        example = load("examples", "bayesian_optimisation")
        found = example.main(["--quick", "--figure", str(figure)])
        assert list(found) == ["Sobol points", *example.KERNELS]
        [[first, *_]] = found["Sobol points"]
        for kernel in example.KERNELS:
            [run] = found[kernel]
            assert run[0] == first
        assert 0 <= found["BoTorch's default"][0][-1] < first
        assert "regret" in capsys.readouterr().out
        assert figure.exists()


class TestMillionRows:
    def test_intervals_hold_and_the_mean_is_better_than_that_of_trees(self, capsys, tmp_path):
        figure = tmp_path / "trip.png"
        found = load("examples", "million_rows").main(["--quick", "--figure", str(figure)])
        ours, trees = found.values()
        assert ours["error"] < trees["error"]
        assert 0.84 < ours["held"] < 0.96
        assert "boosted trees" in capsys.readouterr().out
        assert figure.exists()

    def test_errors_grow_with_height(self):
        example = load("examples", "million_rows")
        x, y = example.readings(200_000, 3)
        z = (y - example.temperature(x)) / (1 + x[:, 2])
        assert abs(z.mean()) < 4 * z.std() / len(z) ** 0.5
        assert z.std() == pytest.approx(0.4 * (5 / 3) ** 0.5, rel=0.02)


class TestStochasticVariational:
    def test_student_t_noise_resists_spoiled_targets(self, capsys):
        found = load("examples", "stochastic_variational").main(["--quick"])
        assert found["Student-t"]["error"] < min(0.5, 0.8 * found["normal"]["error"])
        assert found["Student-t"]["covered"] > 0.6
        assert all(row["last"] > row["first"] + 3 for row in found.values())
        assert "bound per row" in capsys.readouterr().out


class TestDaskRows:
    def test_predicts_the_function(self, capsys):
        pytest.importorskip("distributed", reason="distributed is an extra")
        found = load("examples", "dask_rows").main(["--quick"])
        assert found["error, all rows"] < min(0.5, 0.8 * found["error, 40 rows"])
        assert 0.88 < found["within two deviations"] <= 1
        assert "error" in capsys.readouterr().out


class TestWidthAndDepth:
    def test_depth_is_a_bias_and_width_is_not(self, capsys, tmp_path):
        figure = tmp_path / "errors.png"
        example = load("examples", "width_and_depth")
        rows, advice = example.main(["--quick", "--figure", str(figure)])
        shallow, deep = ([row for row in rows if row["depth"] == depth] for depth in (1, 8))
        assert all(abs(row["z, this depth"]) < 4 for row in rows if row["width"] == 256)
        assert shallow[-1]["z, limit"] < -10
        assert abs(deep[-1]["bias"]) < abs(shallow[-1]["bias"]) / 3
        assert all(
            wide["error of one"] < narrow["error of one"] for narrow, wide in (shallow, deep)
        )
        assert advice["measured"] == pytest.approx(advice["tolerance"], rel=0.15)
        assert "advice" in capsys.readouterr().out
        assert figure.exists()


class TestDigitImages:
    def test_averages_do_not_see_shifts(self, capsys, tmp_path):
        figure = tmp_path / "digits.png"
        found = load("examples", "digit_images").main(["--quick", "--figure", str(figure)])
        shifted = found["correlations"]
        assert all(values[0] == pytest.approx(1) for values in shifted.values())
        assert shifted["convolutional, average"][2] > 0.9
        assert shifted["convolutional"][2] < 0.2
        assert all(values[-1, 0] > 0.7 for values in found["scores"].values())
        assert "log-loss" in capsys.readouterr().out
        assert figure.exists()
