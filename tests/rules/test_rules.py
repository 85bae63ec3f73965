"""Criteria: what they say of data, how they explain it, and what is said about a bad one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.parse import MAX_DEPTH, MAX_LENGTH, MAX_NODES, parse
from rules.to_python import holds, to_python
from rules.trace import trace
from rules.tree import Node, RuleError, names_in
from rules.values import MISSING
from tests.conftest import MONDAY

DATA: dict[str, Any] = {
    "reply": {"intent": "interested", "certainty": 0.42, "certain": True},
    "contact": {
        "name": "Ann",
        "fields": {"employees": 12, "Tier One": "gold"},
        "tags": ["a", "b"],
        "seen": MONDAY - timedelta(days=3),
        "zip": None,
    },
    "now": MONDAY,
}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ('reply.intent == "interested" && reply.certainty >= 0.4', True),
        ("reply.certainty >= 0.8", False),
        ("!(reply.certainty >= 0.8)", True),
        ("contact.fields.employees * 2 + 1 == 25", True),
        ("2 + 3 * 4 == 14 && (2 + 3) * 4 == 20 && 7 % 4 == 3 && -3 + 4 == 1", True),
        ('"a" in contact.tags && !("c" in contact.tags)', True),
        ('contact.name.lower().startsWith("an") && contact.name.endsWith("nn")', True),
        ("contact.name.contains('n') && size(contact.name) == 3", True),
        ("contact.tags.size() == 2 && contact.tags[1] == 'b'", True),
        ('now - contact.seen > duration("2d")', True),
        ('contact.seen + duration("1w") > now', True),
        ('contact.fields["Tier One"] in ["gold", "silver"]', True),
        ("has(contact.name) && !has(contact.phone)", True),
        ('1 == 1.0 && 1 != "1" && !(true == 1)', True),
        (r"'it\'s' == " + '"it\'s"', True),
        # The third truth value.
        ("contact.phone == 1", MISSING),
        ("contact.phone != 1", MISSING),
        ("!(contact.phone == 1)", MISSING),
        ("contact.zip == null", MISSING),
        ("contact.phone == 1 && false", False),
        ("contact.phone == 1 || true", True),
        ("contact.phone == 1 || false", MISSING),
        ('contact.name < 3 || reply.certainty > "x"', MISSING),
        ("1 / 0 == 1", MISSING),
        ("1 in [contact.phone]", MISSING),
        ("1 in [contact.phone, 1]", True),
        ("now < contact.fields", MISSING),
        ("contact.tags[7] == 'b'", MISSING),
    ],
)
def test_a_criterion_says(source: str, value: object) -> None:
    tree = parse(source)
    assert to_python(tree)(DATA) is value
    assert trace(source, tree, DATA).value is value
    assert holds(tree, DATA) is (value is True)


@pytest.mark.parametrize(
    ("source", "reasons"),
    [
        ("reply.certainty >= 0.8", ["reply.certainty >= 0.8 is false: reply.certainty is 0.42"]),
        (
            'contact.name == "Ann" && (reply.certainty > 0.5 || has(contact.phone))',
            [
                "reply.certainty > 0.5 is false: reply.certainty is 0.42",
                "has(contact.phone) is false: contact.phone is missing",
            ],
        ),
        ('contact.phone == "1"', ['contact.phone == "1" is unknown: contact.phone is missing']),
        (
            "(contact.fields.employees + 1) * 2 > 3",
            [
                "(contact.fields.employees + 1) * 2 > 3 is true: contact.fields.employees is 12",
            ],
        ),
        ("true", ["true is true"]),
    ],
)
def test_a_trace_tells_what_decided(source: str, reasons: list[str]) -> None:
    assert trace(source, parse(source), DATA).reasons() == reasons


NAMES = {
    "reply.intent": "text",
    "reply.certainty": "number",
    "contact.tags": "list",
    "contact.fields.*": "any",
    "now": "time",
}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", 'line 1, column 1: The criterion is empty. Write for example "true".'),
        (
            "reply.certanty > 1",
            'line 1, column 1: There is no "reply.certanty". Did you mean "reply.certainty"?',
        ),
        (
            'reply.certainty > 0.5 &&\n reply.intent = "x"',
            'line 2, column 15: "=" has no meaning here. Write == here.',
        ),
        ('reply.intent == "x', "line 1, column 17: This text has no end."),
        ("reply.certainty > 1 and true", 'line 1, column 21: "and" is not expected here. Write &&'),
        ("(now == now", 'Here ")" is missing (found the end). Close the "(" of column 1.'),
        ("1 < 2 < 3", "line 1, column 7: Two comparisons in a row."),
        ('has("x")', 'line 1, column 5: "has" asks for a name.'),
        ('reply.intent.startswith("a")', 'Did you mean "startsWith"?'),
        ("length(reply.intent) == 1", 'There is no function "length".'),
        ('contains(reply.intent, "a")', 'Write "value.contains(…)".'),
        ('now > duration("5 days")', "line 1, column 16: This is not a duration."),
        ("reply.certainty", "This is a number and says neither yes nor no."),
        ('reply.certainty > "0.5"', "A number is compared with a text."),
        ("!reply.certainty", "Here a truth is needed, this is a number."),
        ('reply.intent + 1 == "x"', '"+" can\'t be used with a text and a number.'),
        ('"a" in reply.intent', "Here a list is needed, this is a text."),
        ("true ? 1 : 2", "There is no ?: here"),
        ("1 ==", "Something is missing at the end."),
        ("== 1", 'line 1, column 1: "==" is not expected here. Put a value before it'),
        (r'"\q" == "q"', r'line 1, column 2: "\q" has no meaning.'),
        ("1" * 19 + " == 1", "This number is too long."),
        ("1e999 == 1", "This number is too large."),
        (" " * (MAX_LENGTH + 1), f"Keep it under {MAX_LENGTH}."),
        ("(" * 2000, f"nested more than {MAX_DEPTH} deep"),
        ("!" * 2000, f"nested more than {MAX_DEPTH} deep"),
        ("1" + "+1" * 100 + " == 1", f"nested more than {MAX_DEPTH} deep"),
        ("1 in [" + "1," * 1000 + "1]", f"more than {MAX_NODES} parts"),
    ],
)
def test_a_bad_criterion_is_told_where_and_how_to_mend_it(source: str, said: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse(source, NAMES)
    assert said in caught.value.public


def test_a_name_with_a_star_stands_for_all_below_it() -> None:
    assert [".".join(n.path) for n in names_in(parse("contact.fields.a == now", NAMES))] == [
        "contact.fields.a",
        "now",
    ]


_ATOMS = st.sampled_from(
    [
        *("1", "0", "2.5", '"a"', "'b c'", "true", "false", "null", "[]", 'duration("5d")', "now"),
        *("reply.certainty", "reply.intent", "contact.tags", "contact.seen", "contact.phone"),
        "contact",
    ]
)


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from(
        ["&&", "||", "==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%"]
    )
    return st.one_of(
        st.builds("({} {} {})".format, inner, operators, inner),
        st.builds("(!{})".format, inner),
        st.builds("(-{})".format, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("size({})".format, inner),
        st.builds("{}.lower()".format, inner),
        st.builds("{}.contains({})".format, inner, inner),
        st.builds("{}[{}]".format, inner, inner),
        st.builds("has(contact[{}])".format, inner),
    )


_CRITERIA = st.recursive(_ATOMS, _grow, max_leaves=12)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.datetimes() | st.timedeltas(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)  # fmt: skip
_WORLD = st.fixed_dictionaries(
    {
        "reply": st.fixed_dictionaries({"certainty": _JSON, "intent": _JSON}) | _JSON,
        "contact": st.fixed_dictionaries({"tags": _JSON, "seen": _JSON, "phone": _JSON}) | _JSON,
        "now": st.datetimes(),
    }
)


@given(_CRITERIA, _WORLD)
@settings(max_examples=400)
def test_the_trace_is_the_function_and_neither_raises(source: str, data: dict[str, Any]) -> None:
    tree = parse(source)
    value, told = to_python(tree)(data), trace(source, tree, data)
    assert told.value is value or repr(told.value) == repr(value)
    assert told.reasons()


_SCRAPS = st.lists(
    st.sampled_from(
        [*"()[].,!&|=<>+-*/%'\"\\ \n?é0", "&&", "in", "has", "reply", "1.5", "1e9", "x"]
    ),
    max_size=30,
).map("".join)


@given(st.text(max_size=60) | _SCRAPS)
@settings(max_examples=400)
def test_any_text_is_a_criterion_or_a_rule_error(source: str) -> None:
    for names in (None, NAMES):
        found = _parsed(source, names)
        if isinstance(found, RuleError):
            assert min(found.line, found.column) >= 1
            assert found.what
            assert found.mend
        else:
            to_python(found)(DATA)


def _parsed(source: str, names: dict[str, str] | None) -> Node | RuleError:
    try:
        return parse(source, names)
    except RuleError as error:
        return error
