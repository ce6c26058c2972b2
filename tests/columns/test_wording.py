from resnet_gp.columns.wording import first_of, quoted, shortened, suggest


def test_suggestions():
    assert suggest("Prise", ["price", "size"]) == "; did you mean 'price'?"
    assert suggest("zzz", list("abcdefg")) == "; there are 'a', 'b', 'c', 'd', 'e' and 2 more"


def test_lists():
    assert quoted(["a", 1]) == "'a', '1'"
    assert shortened(list("abcdefg")) == "'a', 'b', 'c', 'd', 'e' and 2 more"
    assert first_of(["1", "2"]) == "1, 2"
