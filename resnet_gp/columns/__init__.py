"""Tables of numbers and categories with missing values, as features: learnt once, then applied."""

from resnet_gp.columns.encoding import CategoryColumn, Columns, NumberColumn

__all__ = ["CategoryColumn", "Columns", "NumberColumn"]
