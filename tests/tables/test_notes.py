import warnings

from resnet_gp.tables.notes import warnings_as


def test_warnings_for_users_become_lines():
    lines = ["first"]
    with warnings_as(lines):
        warnings.warn("one\n  line", UserWarning, stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert lines == ["first", "one line"]
