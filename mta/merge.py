"""The language of merge fields: a small part of Jinja2 in which nothing can run away.

People of a company write templates, so a template may not loop for hours, grow without end or look
around in the process. Jinja2's sandbox closes the last of these; the first two are closed by
allowing only constructs whose cost is bounded by the size of the template times that of the values:
output, `if`, `for` (two deep), comparisons, sums and a few filters. No calls, no `set`, no macros.

A field that is used but has no value is an error ("Dear ," is worse than no mail); tests and
`{{ name or "reader" }}` or `{{ name|default("reader") }}` are how a template says what else to do.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from jinja2 import TemplateError, TemplateSyntaxError, Undefined, nodes
from jinja2.exceptions import SecurityError, UndefinedError
from jinja2.sandbox import SandboxedEnvironment

from mail.errors import PermanentError

MAX_SOURCE = 512 << 10
"""Characters of one field of a template; a mail of half a megabyte of text is cut by receivers."""

MAX_RENDERED = 2 << 20
"""Characters that a field may grow to with its values."""

MAX_NESTED_LOOPS = 2

_ALLOWED: tuple[type[nodes.Node], ...] = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Filter,
    nodes.Test,
    nodes.If,
    nodes.For,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Add,
    nodes.Sub,
    nodes.List,
    nodes.Tuple,
    nodes.Concat,
    nodes.Keyword,
)

_FILTERS = (
    "capitalize", "d", "default", "e", "escape", "first", "float", "int", "last", "length",
    "lower", "round", "string", "title", "trim", "truncate", "upper", "urlencode",
)  # fmt: skip


class _Missing(Undefined):
    """A field without a value: false in tests, an error where it would be printed."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UndefinedError(f"'{self._undefined_name}' has no value")

    __str__ = _refuse
    __html__ = _refuse


def _join(value: Any, separator: str = ", ") -> str:
    if not isinstance(value, (list, tuple)):
        raise TypeError("join needs a list")
    return str(separator).join(str(part) for part in value)


def _environment(*, autoescape: bool) -> SandboxedEnvironment:
    made = SandboxedEnvironment(
        autoescape=autoescape, undefined=_Missing, keep_trailing_newline=True, cache_size=0
    )
    made.filters = {name: made.filters[name] for name in _FILTERS} | {"join": _join}
    made.globals = {}
    return made


_ENVIRONMENTS = {True: _environment(autoescape=True), False: _environment(autoescape=False)}

Rewrite = Callable[[str], str]


class MergeField:
    """One text of a template (subject, text, html), compiled."""

    def __init__(
        self, name: str, source: str, *, html: bool = False, rewrite: Rewrite | None = None
    ) -> None:
        """`name` is for error messages; `rewrite` changes the source after it was checked.

        Raises `PermanentError` saying which field and line is wrong.
        """
        self.name = name
        if len(source) > MAX_SOURCE:
            raise PermanentError(f"{name}: is longer than {MAX_SOURCE >> 10} KiB. Shorten it.")
        environment = _ENVIRONMENTS[html]
        self.constant: str | None = None
        if "{" not in source:  # Most texts of plain submissions: nothing to fill in.
            self.constant = rewrite(source) if rewrite else source
            if "{" not in self.constant:
                return
        try:
            self._check(environment.parse(source))
            changed = rewrite(source) if rewrite else source
            self._template = environment.from_string(changed)
            self.constant = None
        except TemplateSyntaxError as error:
            raise PermanentError(f"{name}, line {error.lineno}: {error.message}.") from None
        except RecursionError:
            raise PermanentError(f"{name}: is nested too deeply.") from None

    def fill(self, values: Mapping[str, Any]) -> str:
        """The text with its values. Raises `PermanentError` naming the field and line."""
        if self.constant is not None:
            return self.constant
        try:
            text = self._template.render(values)
        except (TemplateError, SecurityError, TypeError, ValueError, ArithmeticError) as error:
            raise PermanentError(f"{self.name}{_line(error)}: {_say(error)}.") from None
        except (AttributeError, LookupError, RecursionError) as error:
            raise PermanentError(f"{self.name}{_line(error)}: {_say(error)}.") from None
        if len(text) > MAX_RENDERED:
            raise PermanentError(f"{self.name}: its values make it larger than 2 MiB.")
        return text

    def _check(self, tree: nodes.Node) -> None:
        waiting = [(tree, 0)]
        while waiting:
            node, loops = waiting.pop()
            line = f"{self.name}, line {getattr(node, 'lineno', 1)}"
            if not isinstance(node, _ALLOWED):
                what = re.sub(r"(?<!^)(?=[A-Z])", " ", type(node).__name__).lower()
                raise PermanentError(
                    f"{line}: templates have no {what}. "
                    "They know {{ field }}, {% if %}, {% for %} and a few filters."
                )
            if isinstance(node, nodes.Filter) and node.name not in _ENVIRONMENTS[False].filters:
                known = ", ".join(sorted(_ENVIRONMENTS[False].filters))
                raise PermanentError(f"{line}: no filter is called {node.name}. Known: {known}.")
            if isinstance(node, nodes.For):
                loops += 1
                if loops > MAX_NESTED_LOOPS or node.recursive:
                    raise PermanentError(f"{line}: loops may be nested twice at the most.")
            waiting += [(child, loops) for child in node.iter_child_nodes()]


def _say(error: Exception) -> str:
    if isinstance(error, TemplateError):
        return (error.message or "the template fails").rstrip(".")
    return str(error).rstrip(".")[:200]


def _line(error: Exception) -> str:
    """The line of the template at which it happened, as Jinja2 puts it into the traceback."""
    line = 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return f", line {line}" if line else ""
