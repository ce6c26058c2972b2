"""Models of the user's tables: from a CSV file to a saved model, and from there to predictions.

A fit is a ``plan``, ``training`` and a ``fit_report``; ``predict`` applies a ``saved`` model.
"""
