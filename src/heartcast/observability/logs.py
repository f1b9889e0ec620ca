"""Logs: one line per start, stop and error; never one per message.

In a terminal a line is key=value with colours, for people; anywhere else it is one
JSON object, for machines. Lines of libraries (uvicorn, asyncio, Litestar) go through
the same renderer, so that there is one format. Values whose key says that they are a
secret, and texts that look like a token, are replaced before anything is written.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN = "[hidden]"

_SECRET_KEY = re.compile(
    r"secret|token|password|passwd|api_?key|authorization|cookie|credential", re.IGNORECASE
)
# A JWT wherever it stands: in an exception's text, in a URL, in a header.
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
# The password in a URL of a database or proxy: scheme://user:password@host.
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+@")
_BEARER = re.compile(r"\b(bearer|apikey)\s+[^\s\"',;]+", re.IGNORECASE)


def hide_secrets(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """The processor that keeps secrets out of every line."""
    return {key: HIDDEN if _is_secret(key, value) else _cleaned(value) for key, value in event.items()}


def _is_secret(key: object, value: object) -> bool:
    # Counts and switches about secrets ("tokens=3", "has_token=True") are not secrets.
    is_harmless = value is None or isinstance(value, int | float)
    return not is_harmless and isinstance(key, str) and _SECRET_KEY.search(key) is not None


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        value = _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", _JWT.sub(HIDDEN, value))
        return _BEARER.sub(rf"\1 {HIDDEN}", value)
    if isinstance(value, dict):
        return {key: HIDDEN if _is_secret(key, inner) else _cleaned(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(inner) for inner in value]
    return value


def configure(*, level: str = "info", stream: TextIO | None = None, is_terminal: bool | None = None) -> None:
    """Send every line of this process to one place in one format. Call it once, at start.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; lines below it are not made.
        stream: Where lines go; None: standard error, since standard output is the command's.
        is_terminal: Force the format for people (True) or machines (False); None: look at ``stream``.

    Raises:
        ValueError: there is no such level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"level: must be debug, info, warning or error, got {level!r}")
    target = stream if stream is not None else sys.stderr
    for_people = target.isatty() if is_terminal is None else is_terminal
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_shared(), processors=_last(for_people))
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    # A line per request is what metrics are for.
    logging.getLogger("uvicorn.access").setLevel(logging.CRITICAL)


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]


def _last(for_people: bool) -> list[Processor]:
    if for_people:
        # The console renderer prints tracebacks itself, so what it prints is cleaned as text.
        render: list[Processor] = [
            structlog.processors.format_exc_info,
            hide_secrets,
            structlog.dev.ConsoleRenderer(
                colors=True, timestamp_key="at", exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    else:
        render = [
            structlog.processors.format_exc_info,
            hide_secrets,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    return [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render]


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry ``part=name``: ``get("push").error("worker failed", worker=3)``."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger("heartcast").bind(part=name)
    return logger
