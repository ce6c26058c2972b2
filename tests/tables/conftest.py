import pytest


@pytest.fixture
def echo(monkeypatch):
    """Regress by the sum of the features."""
    from tables.houses import Echo

    from resnet_gp.tables.tasks import Regression

    monkeypatch.setattr(Regression, "estimator", lambda self, seed: Echo())
