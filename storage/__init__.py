"""Keeps things: the engine, the scoped sessions, the tables and their migrations."""
