"""One language for criteria: a typed subset of CEL, parsed once, computed and explained.

`parse` gives a tree or says what is wrong; `to_python` makes a function of it; `trace` computes the
same and says why. See `rules/values.py` for what happens where a value is missing.
"""
