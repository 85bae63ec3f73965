"""A PostgreSQL server for the tests that want one: started once, a fresh database for each."""

from __future__ import annotations

import atexit
import itertools
import os
from functools import cache

import psycopg

from waypost.own_postgresql import OwnPostgresql

_numbers = itertools.count(1)


@cache
def _server() -> OwnPostgresql:
    server = OwnPostgresql()
    server.__enter__()
    atexit.register(server.stop)
    return server


def fresh_database() -> str:
    """The URL of a new, empty database."""
    server = _server()
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return server.url.rpartition("/")[0] + f"/{name}"
