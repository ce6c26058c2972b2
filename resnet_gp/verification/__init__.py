"""The verification lab: the theory, and this package's kernels, against finite random networks.

``experiments``  all of them; each module has a function ``run`` from a ``Lab`` to a ``Result``
``checks``       predictions against measurements, and the verdict on a family of them
``report``       one HTML page, figures and ``results.json`` of any list of results
``advice``       how wide and deep a network must be
``predictions``  what the kernels say; ``fluctuations``: how far one network is from them

It reads networks and kernels; nothing in the package reads it.
"""
