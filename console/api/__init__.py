"""`/api/v1`: what apps do. Tokens name the company; errors are problem+json (RFC 9457)."""

from console.api.calls import CALLS
from console.api.problems import problem

__all__ = ["CALLS", "problem"]
