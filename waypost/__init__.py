"""The command `waypost`, and how all parts are wired together."""

__version__ = "0.1.0"
