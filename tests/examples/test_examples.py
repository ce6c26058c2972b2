"""Every example has a quick mode, and it runs."""

import pytest
import torch
from scripts import load


class TestThompsonSampling:
    def test_runs(self, capsys):
        regrets = load("examples", "thompson_sampling").main(["--quick"])
        assert [len(run) for run in regrets] == [3, 3]
        assert all(run == sorted(run, reverse=True) and run[-1] > -1e-5 for run in regrets)
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
