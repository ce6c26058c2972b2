"""Tables of the user's: from a CSV file to a saved model, and from there to predictions.

``reading`` makes data frames of files, ``columns`` makes features of columns, ``tasks`` knows what
differs between regression and classification, ``fit`` and ``predict`` do what the command line
offers, ``saved`` is what lies in a model's folder. pandas is needed (extra ``cli``).
"""
