import pickle
import warnings

import numpy as np
import pytest
import torch
from gpytorch.kernels import LinearKernel, RBFKernel
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from resnet_gp import ResNetGPClassifier
from resnet_gp.estimators.encode import columns_of_many_values
from resnet_gp.fitting import classifier_choice, classifier_nearest, classifier_search
from resnet_gp.fitting.ranks import skewed_columns


@parametrize_with_checks([ResNetGPClassifier(kernel="limit")])
def test_sklearn_compatible_estimator(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def rings(n, seed, classes=3):
    """Classes by the distance from the centre, a tenth of the labels drawn at random."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    y = np.digitize(np.linalg.norm(X, axis=1), [1.0, 1.6][: classes - 1])
    return X, np.where(rng.uniform(size=n) < 0.1, rng.integers(classes, size=n), y)


WAYS = {
    "loo": {},
    "limit": {"kernel": "limit"},
    "tangent": {"kernel": "tangent"},
    "given": {"kernel": RBFKernel()},
    "sparse": {"inference": "sparse", "n_inducing": 60},
    "nearest": {"kernel": "limit", "inference": "nearest", "n_neighbors": 40},
    "nearest given": {"kernel": RBFKernel(), "inference": "nearest", "n_neighbors": 40},
}


@pytest.fixture(scope="module", params=WAYS)
def way(request):
    return request.param


@pytest.fixture(scope="module", params=[2, 3])
def fitted(request, way):
    return ResNetGPClassifier(**WAYS[way], random_state=0).fit(*rings(200, 0, request.param))


def test_predicts_with_honest_probabilities(fitted, way):
    classes = len(fitted.classes_)
    X, y = rings(1000, 1, classes)
    p = fitted.predict_proba(X)
    assert p.shape == (1000, classes)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)
    best = 1 - 0.1 * (1 - 1 / classes)  # of any classifier
    assert fitted.score(X, y) > best - (0.09 if classes == 2 else 0.14)
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[p.argmax(1)])
    # The mean confidence is the accuracy, up to the error of both.
    assert p.max(1).mean() == pytest.approx(fitted.score(X, y), abs=0.08)
    assert log_loss(y, p) < 0.75 * np.log(classes)


def test_decision_function_and_latent_functions(fitted, way):
    X, _ = rings(20, 2)
    scores, p = fitted.decision_function(X), fitted.predict_proba(X)
    mean, variance = fitted.latent_mean_and_variance(X)
    two = len(fitted.classes_) == 2
    assert scores.shape == ((20,) if two else p.shape)
    assert mean.shape == variance.shape == ((20,) if two else p.shape)
    assert (variance > 0).all()
    logits = np.column_stack([np.zeros(20), scores]) if two else scores
    expected = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    np.testing.assert_allclose(p, expected, rtol=1e-10)
    far = fitted.latent_mean_and_variance(50 * X)[1]
    assert far.mean() > variance.mean()


def test_save_load_and_pickle(fitted, way, tmp_path):
    X, _ = rings(30, 3)
    fitted.save(tmp_path / "model")
    objects = {"kernel": RBFKernel()} if "given" in way else {}
    loaded = ResNetGPClassifier.load(tmp_path / "model", **objects)
    for other in (loaded, pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(other.predict_proba(X), fitted.predict_proba(X))
        for one, two in zip(
            other.latent_mean_and_variance(X), fitted.latent_mean_and_variance(X), strict=True
        ):
            np.testing.assert_array_equal(one, two)


def test_iris():
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    scores = cross_val_score(ResNetGPClassifier(), X, names, cv=5)
    assert scores.mean() > 0.94
    fitted = ResNetGPClassifier().fit(X, names)
    assert fitted.predict(X[:1]) == ["setosa"]
    assert fitted.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert len(fitted.horizons_) == len(fitted.noise_variances_) == len(fitted.weights_) > 4
    assert fitted.weights_.sum() == pytest.approx(1)
    plain, weighed = (fitted.weights_[fitted.views_ == view] for view in (0, 1))
    assert 0 <= weighed.sum() < 0.3 + 1e-12
    for weights in (plain, weighed):
        assert (np.diff(weights) <= 0).all()
        assert weights[-1] >= 0.1 * weights[0]
    assert fitted.lengthscale_.shape == (4,)
    assert fitted.lengthscale_[2:].max() < fitted.lengthscale_[:2].min()  # petals say more
    assert fitted.inference_ == "exact"


def test_rare_classes_keep_their_probability():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 2))
    odds = np.exp(1.5 * X[:, 0] - 4)
    y = rng.uniform(size=2000) < odds / (1 + odds)
    p = ResNetGPClassifier(kernel="limit").fit(X[:600], y[:600]).predict_proba(X[600:])[:, 1]
    rate = y[600:].mean()
    assert p.mean() == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / 600))
    base = log_loss(y[600:], np.full(1400, y[:600].mean()))
    assert log_loss(y[600:], p) < base - 0.01


def test_codes_of_categories_are_found():
    """Neighbouring codes mean nothing: only the indicators can tell."""
    rng = np.random.default_rng(0)
    table = rng.permuted(np.arange(9) % 2)
    X = rng.integers(9, size=(150, 2)).astype(float)
    y = table[X[:, 0].astype(int)]
    fitted = ResNetGPClassifier(kernel="limit").fit(X[:75], y[:75])
    plain = ResNetGPClassifier(kernel="limit", categorical_features=None).fit(X[:75], y[:75])
    assert fitted.weights_[fitted.views_ > 0].sum() > 0.8
    assert plain.lengthscale_.shape == (2,)
    assert fitted.lengthscale_.shape == (2 + 9 + 9,)
    assert fitted.score(X[75:], y[75:]) > max(0.95, plain.score(X[75:], y[75:]))


@pytest.mark.parametrize("declared", [[1], np.array([False, True]), [-1]])
def test_declared_categories_may_be_texts(declared, tmp_path):
    rng = np.random.default_rng(1)
    colours = np.array(["red", "green", "blue"])[rng.integers(3, size=80)]
    X = np.column_stack([rng.normal(size=80).astype(object), colours])
    y = (colours == "green") ^ (X[:, 0].astype(float) > 1)
    fitted = ResNetGPClassifier("limit", categorical_features=declared).fit(X[:60], y[:60])
    assert fitted.score(X[60:], y[60:]) > 0.85
    shades = np.array([[0.0, "violet"], [0.0, "red"], [0.0, "green"]], dtype=object)
    with pytest.warns(UserWarning, match="'violet' was not in training"):
        violet, red, green = fitted.predict_proba(shades)[:, 1]
    assert red < violet < green  # a colour without an indicator says neither
    fitted.save(tmp_path / "model")
    loaded = ResNetGPClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))


def test_declared_categories_by_name():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(1)
    frame = pandas.DataFrame({"size": rng.normal(size=60), "kind": ["a", "b", "c"] * 20})
    y = frame["kind"] == "b"
    fitted = ResNetGPClassifier("limit", categorical_features=["kind"]).fit(frame, y)
    assert fitted.score(frame, y) == 1
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame[["kind", "size"]])


def test_large_data_are_searched_in_part_and_use_all_rows(monkeypatch):
    monkeypatch.setattr(classifier_search, "_SEARCH_SAMPLES", 80)
    X, y = rings(200, 0)
    fitted = ResNetGPClassifier(random_state=0).fit(X, y)
    assert 1 <= (fitted.views_ == 0).sum() <= 3
    assert (fitted.views_ == 1).sum() <= 2
    assert all(len(member.x) == 200 for member in fitted._posterior.members)
    assert fitted.score(*rings(500, 1)) > 0.75
    again = ResNetGPClassifier(random_state=0).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


def test_inference_follows_the_number_of_rows(monkeypatch):
    X, y = rings(60, 0)
    monkeypatch.setattr(classifier_choice, "_EXACT_SAMPLES", 50)
    assert ResNetGPClassifier("tangent", n_neighbors=20).fit(X, y).inference_ == "nearest"
    assert ResNetGPClassifier("limit").fit(X[:50], y[:50]).inference_ == "exact"


def test_a_bar_shows_on_demand(capsys):
    X, y = rings(30, 0)
    ResNetGPClassifier("limit").fit(X, y)
    assert capsys.readouterr().err == ""
    ResNetGPClassifier("limit", verbose=True).fit(X, y)
    assert "fitting" in capsys.readouterr().err


def test_nearest_rows_serve_many_and_rare_classes(monkeypatch):
    """Ten digits, of which two are rare, as well as exact inference does."""
    monkeypatch.setattr(classifier_nearest, "_TURNS", 0)
    X, y = load_digits(return_X_y=True)
    kept = (y < 8) | (np.arange(len(y)) % 6 == 0)
    X, y = X[kept][:, 2:40:3], y[kept]
    train = np.random.default_rng(0).permutation(len(y))[:450]
    test = np.setdiff1d(np.arange(len(y)), train)
    options = {"kernel": "limit", "categorical_features": None}
    n_inputs = 13 + len(skewed_columns(X[train])) + len(columns_of_many_values(X[train]))
    exact = ResNetGPClassifier(**options).fit(X[train], y[train].astype(str))
    model = ResNetGPClassifier(**options, inference="nearest", n_neighbors=60)
    model.fit(X[train], y[train].astype(str))
    assert model.lengthscale_.shape == (len(model.weights_), n_inputs)
    p = model.predict_proba(X[test])
    assert p.shape[1] == 10
    assert 0.03 < (y[train] >= 8).mean() < 0.08
    assert log_loss(y[test], p) < log_loss(y[test], exact.predict_proba(X[test])) + 0.03
    rare = y[test] >= 8
    right, by_exact = p.argmax(1) == y[test], exact.predict(X[test]) == y[test].astype(str)
    assert right.mean() > by_exact.mean() - 0.02
    assert right[rare].mean() > by_exact[rare].mean() - 0.1
    np.testing.assert_allclose(model.predict_proba(X[test][:1]), p[:1], rtol=1e-9)


def test_neighbours_are_at_most_all_other_rows():
    X, y = rings(40, 0)
    model = ResNetGPClassifier("tangent", inference="nearest", n_neighbors=10_000).fit(X, y)
    assert model.n_neighbors_ == 39
    assert model.kernel_names_ == ["tangent"]
    model.set_params(inference="exact").fit(X, y)
    assert not hasattr(model, "n_neighbors_")


def test_lengthscales_tell_which_inputs_matter():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4))
    y = np.sin(3 * X[:, 1]) > 0
    model = ResNetGPClassifier("limit", inference="nearest", n_neighbors=50).fit(X, y)
    assert model.lengthscale_.shape == (1, 4)
    assert model.lengthscale_[0, 1] < 0.3 * np.delete(model.lengthscale_, 1).min()
    X = rng.normal(size=(500, 4))
    assert model.score(X, np.sin(3 * X[:, 1]) > 0) > 0.9


def test_nearest_rows_see_codes_as_numbers_and_as_categories(monkeypatch):
    monkeypatch.setattr(classifier_nearest, "_TURNS", 0)
    rng = np.random.default_rng(0)
    X = rng.integers(9, size=(400, 2)).astype(float)
    y = rng.permuted(np.arange(9) % 2)[X[:, 0].astype(int)] ^ (X[:, 1] > 4)
    model = ResNetGPClassifier("limit", inference="nearest", n_neighbors=30)
    model.fit(X[:200], y[:200])
    assert model.lengthscale_.shape == (1, 2 + 9 + 9)
    assert model.views_.tolist() == [0]
    assert model.score(X[200:], y[200:]) > 0.93


def test_ctrl_c_keeps_the_last_fit(monkeypatch):
    X, y = rings(60, 0)
    model = ResNetGPClassifier("limit", inference="nearest", n_neighbors=20).fit(X, y)
    expected = model.predict_proba(X)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(classifier_nearest.NearestClassification, "look_up", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(*rings(70, 1))
    np.testing.assert_array_equal(model.predict_proba(X), expected)


def test_pipelines_grids_and_clones():
    X, y = rings(80, 0)
    pipeline = make_pipeline(QuantileTransformer(n_quantiles=20), ResNetGPClassifier("limit"))
    grid = GridSearchCV(pipeline, {"resnetgpclassifier__kernel": ["limit", "tangent"]}, cv=2)
    assert grid.fit(X, y).best_score_ > 0.5
    with pytest.raises(NotFittedError):
        clone(grid.best_estimator_[-1]).predict(X)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel": "rbf"}, "kernel must be"),
        ({"kernel": RBFKernel(ard_num_dims=3)}, "ard_num_dims=3, X has 2 features"),
        ({"kernel": RBFKernel(active_dims=(5,))}, r"active_dims=\(5,\)"),
        ({"kernel": RBFKernel(batch_shape=torch.Size([2]))}, "batch_shape"),
        ({"inference": "mcmc"}, "inference must be"),
        ({"n_inducing": 0}, "n_inducing"),
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"n_neighbors": 2.5}, "n_neighbors"),
        ({"categorical_features": [2]}, "there is no column 2"),
        ({"categorical_features": ["colour"]}, "there is no column 'colour'"),
        ({"categorical_features": [True]}, "a mask of 1 for 2"),
        ({"categorical_features": "colour"}, "must be a list of columns"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        ResNetGPClassifier(**parameters).fit(*rings(30, 0))


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.ones((3, 1)), [1, 1, 1], "at least 2 classes, got 1 class: 1$"),
        (np.ones((3, 1)), [0.5, 1.2, 0.1], "Unknown label type"),
        (np.array([[1.0], [np.nan]]), [0, 1], "Input X contains NaN"),
        (np.ones((3, 1)), [0, 1], "inconsistent numbers of samples"),
        (np.ones((3, 1)), np.array(["a", None, "b"], object), "labels of one kind, none missing"),
    ],
)
def test_bad_data_is_refused(X, y, message):
    with pytest.raises(ValueError, match=message):
        ResNetGPClassifier().fit(X, y)


def test_a_given_kernel_sees_the_features_as_they_are():
    X, y = rings(40, 0, classes=2)
    X = np.column_stack([X, np.arange(40) % 4])  # "auto" would try this column as categories
    kernel = RBFKernel(ard_num_dims=3)
    auto = ResNetGPClassifier(kernel).fit(X, y).predict_proba(X)
    plain = ResNetGPClassifier(kernel, categorical_features=None).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(auto, plain)


@pytest.mark.parametrize("inference", ["exact", "nearest", "sparse"])
def test_a_given_kernel_sees_no_ranks(inference):
    """Our own kernels see the ranks of skewed features as well."""
    X = np.random.default_rng(0).lognormal(sigma=2, size=(60, 2))
    y = (X[:, 0] > 1).astype(int)
    kernel = RBFKernel(ard_num_dims=2)
    options = {"n_inducing": 30, "n_neighbors": 20} if inference != "exact" else {}
    model = ResNetGPClassifier(kernel, inference=inference, **options).fit(X, y)
    assert model.predict_proba(X).shape == (60, 2)
    assert model.score(X, y) > 0.6


def test_a_kernel_without_rivals_gets_little_noise_where_it_needs_it():
    """Of a nearly constant kernel, only noise far below its variance shows what varies."""
    X = np.random.default_rng(0).normal(size=(80, 1))
    y = (np.sin(3 * X[:, 0]) > 0).astype(int)
    kernel = RBFKernel()
    kernel.lengthscale = 30.0
    for inference in ("exact", "sparse"):
        model = ResNetGPClassifier(kernel, inference=inference).fit(X, y)
        assert model.noise_variances_[0] < 1e-3


def test_constant_features_leave_the_frequencies():
    model = ResNetGPClassifier().fit(np.ones((40, 2)), [0, 1, 1, 1] * 10)
    np.testing.assert_allclose(model.predict_proba(np.ones((1, 2))), [[0.25, 0.75]], atol=0.05)
    kernel = LinearKernel()  # zero at the centre, and nothing else to choose
    with pytest.raises(ValueError, match="every kernel is zero"):
        ResNetGPClassifier(kernel).fit(np.ones((4, 2)), [0, 1, 0, 1])


def test_a_failed_refit_keeps_the_last_fit():
    X, y = rings(40, 0)
    model = ResNetGPClassifier("limit").fit(X, y)
    expected = model.predict_proba(X)
    strange = np.column_stack([X, np.full(len(X), np.nan)])
    for wrong in ((X[:, :1], np.zeros(len(X), dtype=int)), (strange, y)):
        with pytest.raises(ValueError, match=r"at least 2 classes|NaN"):
            model.fit(*wrong)
        np.testing.assert_array_equal(model.predict_proba(X), expected)


def test_warnings_of_changed_codes_point_at_the_caller():
    X = np.array([[0.1 * i, i % 2] for i in range(40)], dtype=object)
    model = ResNetGPClassifier("limit", categorical_features=[1]).fit(X, [0, 1, 1, 0] * 10)
    X[:, 1] = X[:, 1].astype(str)
    with pytest.warns(UserWarning, match="holds texts") as caught:
        model.predict_proba(X)
    assert caught[0].filename == __file__
