"""Telling companies' own servers of events: signed, in order, at least once."""
