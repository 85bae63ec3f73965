"""One line per decision on standard error, as JSON or for people."""

from __future__ import annotations

import logging
import sys

import structlog

from config.sections.host import LogSettings


def set_up(settings: LogSettings) -> None:
    """Points all loggers to standard error in the chosen form."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shape = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            shape,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr)
