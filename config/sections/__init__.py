"""The tables of the configuration file, one class each; a docstring under a field is its help."""
