import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from gpytorch.kernels import MaternKernel, RBFKernel, RFFKernel, ScaleKernel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from resnet_gp import ResNetGPClassifier, ResNetGPRegressor
from resnet_gp.estimators import persistence
from resnet_gp.estimators.persistence import FORMAT


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2))
    return ResNetGPRegressor(random_state=3, alpha=np.full(30, 0.01)).fit(X, X[:, 0] ** 2)


@pytest.fixture
def path(fitted, tmp_path):
    path = tmp_path / "model"
    fitted.save(path)
    return path


def metadata(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def rewrite(path, tensors=None, content=None, **changes):
    """The file with other tensors or metadata, as somebody might make it."""
    old = metadata(path)
    text = json.dumps(json.loads(old["content"]) | content, sort_keys=True) if content else None
    new = old | ({"content": text} if text else {}) | changes
    save_file(load_file(path) if tensors is None else tensors, path, new)


def test_everything_comes_back(fitted, path):
    loaded = ResNetGPRegressor.load(path)
    X = fitted.X_train_ + 0.3
    for options in ({"return_std": True}, {"return_cov": True}):
        for one, other in zip(
            loaded.predict(X, **options), fitted.predict(X, **options), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    assert vars(loaded).keys() == vars(fitted).keys()
    for name, value in fitted.get_params().items():
        np.testing.assert_array_equal(loaded.get_params()[name], value)
    assert loaded.loss_curve_ == fitted.loss_curve_
    assert loaded.converged_ is fitted.converged_
    np.testing.assert_array_equal(loaded.loo_predict(), fitted.loo_predict())
    assert loaded.log_marginal_likelihood() == fitted.log_marginal_likelihood()


def test_what_was_loaded_goes_on(fitted, path):
    loaded = ResNetGPRegressor.load(path)
    more = ResNetGPRegressor.load(path).add_observations(np.ones((2, 2)), np.ones(2))
    more.save(path)
    again = ResNetGPRegressor.load(path)
    X = fitted.X_train_ - 0.1
    np.testing.assert_array_equal(again.predict(X), more.predict(X))
    assert not np.array_equal(more.predict(X), loaded.predict(X))


def test_feature_names_come_back(tmp_path):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame({"a": np.arange(8.0), "b": np.arange(8.0) % 3})
    fitted = ResNetGPRegressor().fit(X, X["a"])
    fitted.save(tmp_path / "model")
    loaded = ResNetGPRegressor.load(tmp_path / "model")
    assert loaded.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(X[["b", "a"]])


def in_rows(X):
    return np.ascontiguousarray(X)


def as_frame(X):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(X, columns=list("abcd"))


def as_mixed_frame(X):
    return as_frame(X).astype({"d": int})


def as_slice_of_frame(X):
    return as_frame(np.repeat(X, 2, axis=0)).iloc[::2]


LAYOUTS = (in_rows, np.asfortranarray, as_frame, as_mixed_frame, as_slice_of_frame)
ESTIMATORS = {
    "exact classifier": (ResNetGPClassifier, {"kernel": "limit"}),
    "sparse classifier": (
        ResNetGPClassifier,
        {"kernel": "limit", "inference": "sparse", "n_inducing": 40},
    ),
    "declared categories": (ResNetGPClassifier, {"kernel": "limit", "categorical_features": [3]}),
    "no categories": (ResNetGPClassifier, {"kernel": "limit", "categorical_features": []}),
    "exact regressor": (ResNetGPRegressor, {"hyperparameters": "fixed"}),
    "sparse regressor": (
        ResNetGPRegressor,
        {"inference": "sparse", "n_inducing": 40, "hyperparameters": "fixed"},
    ),
}


def outputs(model, X):
    """Everything that a model predicts."""
    if isinstance(model, ResNetGPClassifier):
        return [
            model.predict_proba(X), model.decision_function(X), *model.latent_mean_and_variance(X)
        ]  # fmt: skip
    return [*model.predict(X, return_std=True), model.predict_quantiles(X)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_same_to_the_bit_whatever_the_layout_of_the_data(name, layout, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4))
    X[:, 3] = rng.integers(5, size=80)
    y = np.digitize(np.linalg.norm(X[:, :2], axis=1), [1.0, 1.6])
    kind, parameters = ESTIMATORS[name]
    fitted = kind(**parameters, random_state=0).fit(layout(X[:60]), y[:60])
    fitted.save(tmp_path / "model")
    loaded = kind.load(tmp_path / "model")
    for one, other in zip(
        outputs(loaded, layout(X[60:])), outputs(fitted, layout(X[60:])), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_an_object_is_asked_for(fitted, tmp_path):
    path = tmp_path / "model"
    other = ResNetGPRegressor(kernel=RBFKernel()).fit(fitted.X_train_, fitted.y_train_)
    other.save(path)
    with pytest.raises(ValueError, match=r"load\(path, kernel=\.\.\.\)"):
        ResNetGPRegressor.load(path)
    loaded = ResNetGPRegressor.load(path, kernel=RBFKernel())
    np.testing.assert_array_equal(loaded.predict(fitted.X_train_), other.predict(fitted.X_train_))


def test_a_file_cut_off_anywhere_is_refused(path):
    whole = path.read_bytes()
    for size in (0, 4, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="cut off or not a saved estimator"):
            ResNetGPRegressor.load(path)


def test_a_changed_number_is_noticed(path):
    tensors = load_file(path)
    name = next(name for name in tensors if name.startswith("state.") and "weights" in name)
    tensors[name][0] += 1e-12
    rewrite(path, tensors)
    with pytest.raises(ValueError, match="changed or damaged"):
        ResNetGPRegressor.load(path)


def test_a_changed_parameter_is_noticed(path):
    rewrite(path, content={"version": "9.9"})
    with pytest.raises(ValueError, match="changed or damaged"):
        ResNetGPRegressor.load(path)


def test_the_page_of_versions_names_the_format():
    page = (Path(__file__).parents[2] / "docs" / "versions.md").read_text()
    assert f"| 0.1 | {FORMAT} | {FORMAT} |" in page


@pytest.mark.parametrize("other", [FORMAT - 1, FORMAT + 1])
def test_another_format_is_refused(path, other):
    rewrite(path, content={"format": other})
    with pytest.raises(ValueError, match=rf"has format {other}.*reads format {FORMAT}"):
        ResNetGPRegressor.load(path)


def test_a_parameter_of_a_later_version_is_named(fitted, tmp_path):
    class Later(ResNetGPRegressor):
        def __init__(self, *, depth_of_thought=3, random_state=None):
            super().__init__(random_state=random_state)
            self.depth_of_thought = depth_of_thought

    later = Later(random_state=0).fit(fitted.X_train_, fitted.y_train_)
    Later.__name__ = "ResNetGPRegressor"
    later.save(tmp_path / "later")
    with pytest.raises(ValueError, match=r"later version.*parameters depth_of_thought of"):
        ResNetGPRegressor.load(tmp_path / "later")


def test_other_files_are_refused(path, tmp_path):
    save_file(load_file(path), tmp_path / "plain")
    with pytest.raises(ValueError, match="not a saved estimator"):
        ResNetGPRegressor.load(tmp_path / "plain")
    (tmp_path / "pickle").write_bytes(pickle.dumps(os.system))
    with pytest.raises(ValueError, match="not a saved estimator"):
        ResNetGPRegressor.load(tmp_path / "pickle")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ResNetGPRegressor.load(tmp_path / "nowhere")


def test_another_estimator_is_refused(path):
    class Other(ResNetGPRegressor):
        pass

    with pytest.raises(ValueError, match=r"use ResNetGPRegressor\.load"):
        Other.load(path)


def test_a_failed_save_leaves_the_old_file(fitted, path, monkeypatch):
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        fitted.save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["model"]


def test_not_fitted(tmp_path):
    with pytest.raises(NotFittedError):
        ResNetGPRegressor().save(tmp_path / "model")


def test_another_process_predicts_the_same(fitted, path, tmp_path):
    code = (
        "import sys, numpy, torch; from resnet_gp import ResNetGPRegressor as R;"
        "torch.set_num_threads(int(sys.argv[3]));"
        "m = R.load(sys.argv[1]); numpy.save(sys.argv[2], m.predict(m.X_train_ + 1))"
    )
    out, threads = tmp_path / "mean.npy", str(torch.get_num_threads())
    subprocess.run([sys.executable, "-c", code, str(path), str(out), threads], check=True)
    np.testing.assert_array_equal(np.load(out), fitted.predict(fitted.X_train_ + 1))


def test_joblib_and_pickle(fitted, tmp_path):
    joblib.dump(fitted, tmp_path / "model.joblib")
    for loaded in (joblib.load(tmp_path / "model.joblib"), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(
            loaded.predict(fitted.X_train_), fitted.predict(fitted.X_train_)
        )


def test_what_cannot_be_kept_is_no_surprise():
    assert persistence._encode(object(), "attribute.model_", {}) is None
    assert persistence._encode(object(), "parameter.kernel", {})["kind"] == "object"


@pytest.mark.parametrize("inference", ["exact", "sparse", "nearest"])
def test_hyperparameters_of_a_classifiers_kernel_come_from_the_file(inference, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    kernel, given = RBFKernel(), RBFKernel()
    kernel.lengthscale = 5.0
    model = ResNetGPClassifier(kernel=kernel, inference=inference, n_inducing=20)
    model.fit(X, np.sin(2 * X[:, 0]) > 0).save(tmp_path / "model")
    loaded = ResNetGPClassifier.load(tmp_path / "model", kernel=given)
    np.testing.assert_array_equal(loaded.predict_proba(X + 0.1), model.predict_proba(X + 0.1))
    assert given.lengthscale.item() == pytest.approx(np.log(2))  # a copy has those of the file


def test_random_features_come_from_the_file(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    model = ResNetGPRegressor(kernel=RFFKernel(20, num_dims=2), hyperparameters="map")
    model.fit(X, X[:, 0]).save(tmp_path / "model")
    loaded = ResNetGPRegressor.load(tmp_path / "model", kernel=RFFKernel(20, num_dims=2))
    np.testing.assert_array_equal(loaded.predict(X + 0.1), model.predict(X + 0.1))


@pytest.mark.parametrize("kind", [ResNetGPRegressor, ResNetGPClassifier])
def test_arrays_that_change_after_the_fit_do_not_change_the_model(kind, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    y = np.digitize(X[:, 0], [0.0]).astype(float)
    new, model = X + 0.1, kind(kernel="limit").fit(X, y)
    before = outputs(model, new)
    X[:], y[:] = 0, 0
    model.save(tmp_path / "model")
    for one, other in zip(outputs(kind.load(tmp_path / "model"), new), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "value"),
    [("kernel", "tangent"), ("activation", "erf"), ("depth", 3), ("block_bias", True)],
)
def test_parameters_of_the_kernel_are_those_of_the_file(fitted, tmp_path, name, value):
    fitted.save(tmp_path / "model")
    with pytest.raises(ValueError, match=f"{name} must be .*, as in the fit"):
        ResNetGPRegressor.load(tmp_path / "model", **{name: value})
    same = ResNetGPRegressor.load(tmp_path / "model", **{name: getattr(fitted, name)})
    np.testing.assert_array_equal(same.predict(fitted.X_train_), fitted.predict(fitted.X_train_))


@pytest.mark.parametrize("dtype", [">f8", np.longdouble])
def test_arrays_of_other_machines(tmp_path, dtype):
    X = np.linspace(0, 1, 12)[:, None]
    options = {"hyperparameters": "map", "n_components": 1, "alpha": np.full(12, 0.1).astype(dtype)}
    model = ResNetGPRegressor(**options).fit(X, X[:, 0])
    model.save(tmp_path / "model")
    loaded = ResNetGPRegressor.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.alpha, model.alpha)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_parameters_that_change_after_the_fit(fitted, tmp_path):
    model, X = copy.deepcopy(fitted), fitted.X_train_ + 0.1
    model.set_params(residuals="gaussian").save(tmp_path / "model")
    loaded = ResNetGPRegressor.load(tmp_path / "model")
    for one, other in zip(outputs(loaded, X), outputs(model, X), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="kernel, activation, depth and block_bias must be those"):
        model.set_params(kernel="tangent").save(tmp_path / "model")


@pytest.mark.parametrize(
    ("model", "name", "value"),
    [
        (ResNetGPRegressor(hyperparameters="map", n_components=1), "noise_variance", 0.5),
        (ResNetGPClassifier(), "categorical_features", None),
        (ResNetGPClassifier(inference="nearest"), "categorical_features", [1]),
    ],
)
def test_parameters_that_a_file_needs_as_in_the_fit(model, name, value, tmp_path):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 4, 60), rng.normal(size=60)])
    y = (X[:, 0] % 2 == 1).astype(float)
    model, path = clone(model).fit(X, y), tmp_path / "model"
    model.save(path)
    with pytest.raises(ValueError, match=f"{name} must be .*, as in the fit"):
        type(model).load(path, **{name: value})
    again, fitted = type(model).load(path), getattr(model, name)
    for one in (model, again):
        with pytest.raises(ValueError, match=f"{name} must be .*, as in the fit"):
            one.set_params(**{name: value}).save(path)
        one.set_params(**{name: fitted}).save(path)
    np.testing.assert_array_equal(type(model).load(path).predict(X), model.predict(X))


def test_categories_that_no_file_holds_are_asked_for(tmp_path):
    X = np.random.default_rng(0).integers(0, 4, (60, 2))
    model, path = ResNetGPClassifier(categorical_features=range(1)), tmp_path / "model"
    model.fit(X, X[:, 0] % 2).save(path)
    with pytest.raises(ValueError, match=r"load\(path, categorical_features=\.\.\.\)"):
        ResNetGPClassifier.load(path)
    again = ResNetGPClassifier.load(path, categorical_features=range(1))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_parameters_of_pandas(tmp_path):
    X = np.random.default_rng(0).normal(size=(30, 2))
    model = ResNetGPRegressor(alpha=pd.Series(np.full(30, 0.01)), hyperparameters="map")
    model.fit(X, X[:, 0]).save(tmp_path / "model")
    loaded = ResNetGPRegressor.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


class TestWhatFilesHold:
    X = np.random.default_rng(0).normal(size=(40, 2))

    def test_buffers_that_modules_share(self, tmp_path):
        """GPyTorch's scaled kernels share the ``active_dims`` of their base."""
        kernel = RBFKernel(active_dims=[0]) + RBFKernel(active_dims=[1])
        y = np.sin(self.X[:, 0])
        for model, targets in (
            (ResNetGPRegressor(kernel=RBFKernel(active_dims=[1])), y),
            (ResNetGPRegressor(kernel=kernel, hyperparameters="map"), y),
            (ResNetGPClassifier(kernel=ScaleKernel(kernel)), y > 0),
            (ResNetGPClassifier(RBFKernel(active_dims=[1]), inference="nearest"), y > 0),
        ):
            model.fit(self.X, targets).save(tmp_path / "model")
            loaded = type(model).load(tmp_path / "model", kernel=model.kernel)
            np.testing.assert_array_equal(loaded.predict(self.X), model.predict(self.X))

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (np.array(["2020-01-01", "2020-01-02"], "datetime64[D]"), r"type datetime64\[D\]"),
            (np.array([b"a", b"b"]), r"type \|S1"),
            (np.array([pd.Timestamp(0), pd.Timestamp(1)], object), "type Timestamp"),
        ],
    )
    def test_labels_of_strange_types_are_refused(self, values, message, tmp_path):
        model = ResNetGPClassifier().fit(self.X, self.X[:, 0] > 0)
        model.classes_ = values
        with pytest.raises(ValueError, match=f"a file cannot hold classes_, .*{message}"):
            model.save(tmp_path / "model")
        assert not (tmp_path / "model").exists()

    @pytest.mark.parametrize("make", [ResNetGPRegressor, ResNetGPClassifier])
    @pytest.mark.parametrize("inference", ["exact", "nearest", "sparse"])
    def test_another_kernel_than_that_of_the_fit_is_refused(self, make, inference, tmp_path):
        y = self.X[:, 0] if make is ResNetGPRegressor else self.X[:, 0] > 0
        options = {"inference": inference, "n_inducing": 10, "n_neighbors": 10}
        model = make(kernel=MaternKernel(2.5), **options).fit(self.X, y)
        model.save(tmp_path / "model")
        for other in (
            MaternKernel(0.5),
            RBFKernel(),
            "limit",
            MaternKernel().requires_grad_(False),
        ):
            with pytest.raises(ValueError, match="kernel is not that of the fit"):
                make.load(tmp_path / "model", kernel=other)
        make.load(tmp_path / "model", kernel=MaternKernel(2.5))
        for other in (MaternKernel(0.5), "limit"):
            with pytest.raises(ValueError, match=r"kernel.* must be th(at|ose) of the fit"):
                model.set_params(kernel=other).save(tmp_path / "other")
        assert not (tmp_path / "other").exists()

    def test_a_frozen_kernel(self, tmp_path):
        """Its draws have fewer hyperparameters."""
        kernel = RBFKernel().requires_grad_(False)
        model = ResNetGPRegressor(kernel=kernel).fit(self.X, self.X[:, 0])
        model.save(tmp_path / "model")
        again = ResNetGPRegressor.load(tmp_path / "model", kernel=RBFKernel().requires_grad_(False))
        np.testing.assert_array_equal(again.predict(self.X), model.predict(self.X))
