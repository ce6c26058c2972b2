import pytest

pytest.importorskip("pandas")

from tables.houses import houses

from resnet_gp.tables.plan import describe, make_plan
from resnet_gp.tables.reading import TableError


def test_the_plan_says_what_it_took_for_what():
    plan = make_plan(houses(), "price")
    kinds = {column.name: column.kind for column in plan.schema.columns}
    assert kinds == {"size": "number", "age": "number", "city": "category"}
    assert plan.unused == ["unit"]
    assert describe(plan) == [
        "regression of 'price': 40 rows, 3 columns, 5 features",
        "categories: 'city'",
        f"column 'age': 2 missing, for which the median {plan.columns.parts[1].median:g} is taken; "
        "one more feature marks them",
        "constant, not used: 'unit'",
    ]


def test_a_column_that_counts_the_rows_is_pointed_at():
    frame = houses().assign(number=[str(i) for i in range(7, 47)])
    lines = describe(make_plan(frame, "price"))
    assert "column 'number' rises by 1 from row to row: --drop it if it only counts them" in lines
    assert sum("rises by 1" in line for line in lines) == 1


def test_the_seed_draws_the_folds(echo):
    rows = [
        next(plan.task.splits(plan.truth, 5, plan.seed))[1].tolist()
        for plan in (make_plan(houses(), "price", seed=seed) for seed in (0, 0, 1))
    ]
    assert rows[0] == rows[1] != rows[2]


@pytest.mark.parametrize(
    ("change", "arguments", "message", "option"),
    [
        (lambda f: f[["price"]], {}, "one column only, 'price'", "--separator"),
        (
            lambda f: f[["price"]].rename(columns={"price": "price;size"}),
            {},
            "'price;size'; try --separator \";\"",
            "--separator",
        ),
        (lambda f: f, {"target": "Price"}, "no column 'Price'; did you mean 'price'", "--target"),
        (lambda f: f, {"drop": ["sise"]}, "no column 'sise'; did you mean 'size'", "--drop"),
        (lambda f: f, {"categorical": ["x"]}, "no column 'x'; there are 'size', ", "--categorical"),
        (lambda f: f, {"drop": ["price"]}, "'price' is the target", "--drop"),
        (lambda f: f[["price", "size"]], {"drop": ["size"]}, "no column is left", "--drop"),
        (lambda f: f[:4], {}, "there are 4 rows: at least 5 are needed", None),
        (lambda f: f[:6], {"folds": 7}, "7 is more than the 6 rows", "--folds"),
        (
            lambda f: f.assign(price=[f"{i},5" for i in range(40)]),
            {},
            "'price' holds decimal commas, as in '0,5'",
            "--target",
        ),
        (lambda f: f.assign(price="3"), {}, "'price' is 3 in all rows", "--target"),
        (lambda f: f.assign(price="a"), {}, "'price' is 'a' in all rows", "--target"),
        (lambda f: f.assign(size="1")[["size", "price"]], {}, "no column but the target", None),
        (
            lambda f: f.assign(price=[*"ab" * 19, "c", "a"]),
            {},
            "'price': 1 of 3 class has one row only, two are needed: 'c'",
            "--target",
        ),
        (
            lambda f: f.assign(price=[*"ab" * 20]),
            {"folds": 21},
            "21 is more than the 20 rows of the largest class",
            "--folds",
        ),
        (
            lambda f: f.assign(price=[*"ab" * 20]),
            {"task": "regression"},
            "'price' holds 'a' in row 1: regression needs numbers",
            "--target",
        ),
        (
            lambda f: f.assign(price=[None, *map(str, range(37)), None, "1"]),
            {},
            "'price' is missing in 2 of 40 rows: rows 1, 39; leave such rows out",
            "--target",
        ),
        (
            lambda f: f.assign(price=["inf", *map(str, range(39))]),
            {},
            "'price' is infinite in row 1",
            "--target",
        ),
    ],
)
def test_plans_that_cannot_be_made(change, arguments, message, option):
    with pytest.raises(TableError) as caught:
        make_plan(change(houses()), **({"target": "price"} | arguments))
    assert message in str(caught.value)
    assert caught.value.option == option
