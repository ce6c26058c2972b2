"""Models of the user's tables: from a CSV file to a saved model, and from there to predictions.

``reading`` turns files into data frames and ``values`` reads single columns. ``kinds`` decides
which columns hold numbers, ``columns`` turns columns into features, and ``target`` chooses between
the ``tasks``, regression and classification. A fit is a ``plan``, ``training`` and a
``fit_report``; ``predict`` applies a ``saved`` model. ``files`` writes the results. pandas is
needed (extra ``cli``).
"""
