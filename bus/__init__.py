"""Hands work from station to station: the stream of events and the places of its readers."""
