import numpy as np
from scripts import load

pages = load("benchmarks", "pages_classification")


def test_figures_have_the_ranks_of_the_tables():
    values, models = pages.panels()["classification_ranks.png"]["accuracy"]
    table = pages.classified(pages.classifying.standard, pages.OWN_CLASSIFIERS)
    summary = pages.classifying.summarised(table)
    expected = [summary[model]["accuracy_rank"] for model in models]
    ranks = load("benchmarks", "ranks").mean_ranks(values)
    np.testing.assert_allclose(ranks, expected, atol=1e-6)
