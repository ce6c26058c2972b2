import numpy as np
from sklearn.linear_model import BayesianRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from resnet_gp.estimators.laws import law_of
from resnet_gp.predictive import Law

X = np.random.default_rng(0).normal(size=(30, 2)) * [1.0, 10.0]
Y = X[:, 0] + 0.1 * np.random.default_rng(1).normal(size=30)


class Student(BayesianRidge):
    def predict_law(self, X):
        return Law.student(self.predict(X), 2.0, 5.0)


def test_an_estimator_tells_its_law():
    law = law_of(Student().fit(X, Y), X)
    assert law.df == 5
    np.testing.assert_array_equal(law.mean, Student().fit(X, Y).predict(X))


def test_other_estimators_have_normal_laws():
    model = BayesianRidge().fit(X, Y)
    law, (mean, std) = law_of(model, X), model.predict(X, return_std=True)
    assert law.df == np.inf
    np.testing.assert_array_equal([law.mean, law.std], [mean, std])


def test_a_pipeline_has_the_law_of_its_last_step():
    model = make_pipeline(StandardScaler(), Student()).fit(X, Y)
    law = law_of(model, X)
    assert law.df == 5
    np.testing.assert_array_equal(law.mean, model.predict(X))
    assert law_of(make_pipeline(StandardScaler(), BayesianRidge()).fit(X, Y), X).df == np.inf
