"""Mail in a theme is one column, safe from what stands in the text, and keeps merge fields."""

from __future__ import annotations

import pytest

from content.theme import Theme, dress, paragraphs, theme_named
from mail.errors import PermanentError


def test_text_becomes_paragraphs_with_links() -> None:
    html = paragraphs("Hello {{ name or 'there' }},\n\nsee https://a.test/x?b=1&c=2.\n<script>")
    assert html == (
        "<p>Hello {{ name or 'there' }},</p>\n"
        '<p>see <a href="https://a.test/x?b=1&amp;c=2">https://a.test/x?b=1&amp;c=2</a>.<br>\n'
        "&lt;script&gt;</p>"
    )


def test_a_mail_has_the_colours_of_its_theme_and_fits_a_phone() -> None:
    mail = dress('<p><a href="https://a.test">a</a></p>', theme_named("bright"), preview="<b>")
    assert '<a style="color:#d9480f" href="https://a.test">' in mail
    assert "width=device-width" in mail
    assert "max-width:600px" in mail
    assert "&lt;b&gt;" in mail


def test_an_unknown_theme_is_the_calm_one_and_a_wrong_colour_is_refused() -> None:
    assert theme_named("nothing").name == "calm"
    with pytest.raises(PermanentError, match="accent is a colour"):
        Theme("bad", accent="red;}")
