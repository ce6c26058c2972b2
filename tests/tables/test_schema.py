import json

import pytest

pd = pytest.importorskip("pandas")

from resnet_gp.tables.kinds import choose_kinds
from resnet_gp.tables.reading import TableError
from resnet_gp.tables.schema import ColumnType, Schema


def table(**columns):
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def learn(frame, categorical=()):
    return Schema.learn(frame, choose_kinds(frame, categorical))


def categories(frame, name="code"):
    schema, _ = learn(frame, [name])
    return schema.read(frame)[name].cat.categories.tolist()


def test_texts_become_numbers_and_categories_in_the_order_of_training():
    schema, unused = learn(table(x=["1", None, "-3e2"], c=["a", None, "b"], y=["1", "2", "2.5"]))
    assert unused == []
    read = schema.read(table(y=["3", "4"], c=[None, "z"], z=["?", "?"], x=["5", None]))
    assert list(read) == ["x", "c", "y"]
    assert read["x"].tolist()[0] == 5
    assert read.isna().to_numpy().tolist() == [[False, True, False], [True, False, False]]
    assert read["c"].tolist()[1] == "z"
    assert read.dtypes.astype(str).tolist() == ["float64", "category", "float64"]


def test_truth_values_are_read_as_pandas_reads_them():
    schema, _ = learn(table(b=["True", "False", None, "TRUE"]))
    assert schema.read(table(b=["false", None, "true"]))["b"].tolist()[::2] == [0, 1]
    assert schema.read(table(b=["1", "0"]))["b"].tolist() == [1, 0]
    booleans = pd.DataFrame({"b": [True, False]})
    assert schema.read(booleans)["b"].tolist() == [1, 0]
    with pytest.raises(TableError, match="not a number"):
        schema.read(table(b=["True", "yes"]))


def test_the_same_after_json():
    schema, _ = learn(table(x=["1", "2"], c=["a", "b"], k=["1", "2"]), ["k"])
    assert schema.columns[2] == ColumnType("k", "category", True)
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    for content in (None, [{}], [{"name": "x", "wheel": 1}]):
        with pytest.raises(TypeError):
            Schema.from_json(content)


def test_integer_codes_may_be_written_as_floats():
    schema, _ = learn(table(code=["1", "2", "1", "2"]), ["code"])
    read = schema.read(table(code=["1.0", "2", "02", "x"]))
    assert read["code"].tolist() == ["1", "2", "02", "x"]


@pytest.mark.parametrize(
    "codes",
    [
        ["90071992547409931", "90071992547409932", "90071992547409933"],
        ["9007199254740992.0", "9007199254740993.0"],
        ["01067", "1067", "1067.00"],
        ["5E3", "5000"],
        ["1_0", "10"],
        ["+7", "7", " 7"],
        ["0.1", "0.10"],
    ],
)
def test_codes_that_are_written_differently_are_different(codes):
    assert categories(table(code=codes * 2)) == sorted(codes)


def test_texts_stay_as_they_are_written():
    assert categories(table(code=["01", "b", "01", "b"])) == ["01", "b"]


def test_columns_without_variation_are_not_used():
    frame = table(
        x=["1", "2"], one=["1", "1"], none=[None, None], text=["a", "a"],
        rounded=["0.30000000000000004", "0.3"], gap=["7", None], textgap=["a", None],
    )  # fmt: skip
    schema, unused = learn(frame)
    assert schema.names == ["x", "gap", "textgap"]
    assert unused == ["one", "none", "text", "rounded"]
    schema.read(frame[["x", "gap", "textgap"]])
    with pytest.raises(TableError, match="no column but the target varies"):
        learn(frame[["one", "text"]])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (table(X=["1"], z=["1"]), "the model needs the columns 'x', 'c'; did you mean 'X'?"),
        (table(x=["1"]), "the model needs the column 'c'; there are 'x'"),
        (table(x=["1", "low"], c=["a", "a"]), "column 'x' holds 'low' in row 2, not a number"),
        (table(x=["1", "-inf"], c=["a", "a"]), "column 'x' is infinite in row 2"),
    ],
)
def test_tables_that_cannot_be_read(frame, message):
    schema, _ = learn(table(x=["1", "2", "3", "4"], c=["a", "b", "a", "b"]))
    with pytest.raises(TableError) as caught:
        schema.read(frame)
    assert str(caught.value) == message
