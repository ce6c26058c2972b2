import numpy as np
import pytest
from scripts import load

page_format = load("benchmarks", "page_format")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.36417, "0.364"),
        (-1.5973, "\N{MINUS SIGN}1.6"),
        (41157.2, "41,157"),
        (1.93e-5, "1.93e\N{MINUS SIGN}05"),
    ],
)
def test_numbers(value, expected):
    assert page_format.number(value) == expected


def test_differences_have_the_digits_of_their_errors():
    assert page_format.difference(np.array([-0.2, -0.1, -0.15])) == "\N{MINUS SIGN}0.150 ± 0.029"
    assert page_format.difference(np.array([0.5])) == "+0.5"
    assert page_format.difference(np.array([0.0, 0.0])) == "+0.00 ± 0.00"
