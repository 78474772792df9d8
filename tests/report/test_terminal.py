"""Tables of the terminal: at any width nothing is lost, and nothing of others is obeyed."""

from __future__ import annotations

import io

import pytest

from recjax import report
from recjax.cli.terminal import Terminal


def shown(renderable, width=80, terminal=False):
    stream = io.StringIO()
    Terminal(file=stream, width=width, force_terminal=terminal, color_system=None).print(renderable)
    return stream.getvalue()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_columns_that_do_not_fit_go_below(width):
    headings = ["policy", *(f"metric {i}" for i in range(9))]
    rows = [["similarity_prior", *(f"12.0{i}±0.03{i}" for i in range(9))], ["dqn", *(f"1.{i}" for i in range(9))]]
    text = shown(report.rich_table("Title", headings, rows, caption="A caption."), width)
    assert max(map(len, text.splitlines())) <= width
    words = text.split()
    assert all(cell in words for row in rows for cell in row[1:])
    assert words.count("similarity_prior") == words.count("dqn") == {40: 5, 80: 2, 200: 1}[width]


def test_names_of_options_are_whole_beside_long_values():
    rows = [["response_model.no_click_logit", "a value " * 30, "x" * 100], ["date", "1", "2"]]
    text = shown(report.rich_table("Runs", ["option", "runs/one", "runs/two"], rows, text=True))
    assert max(map(len, text.splitlines())) <= 80
    assert "response_model.no_click_logit" in text
    assert text.count("value") == 30
    assert text.count("x") == 100


@pytest.mark.parametrize("terminal", [False, True])
def test_markup_and_escape_codes_are_text(terminal):
    name = "[rec] [/b] :smile: \x1b[31mred\x07\u202e"
    visible = r"[rec] [/b] :smile: \x1b[31mred\x07\u202e"
    table = report.rich_table(name, [name, "b"], [[name, name]], caption=name)
    for text in (shown(table, 200, terminal), shown(name, 200, terminal)):
        assert visible in text
        assert "\x07" not in text
        assert "\u202e" not in text
        assert "\x1b[31m" not in text
    assert shown(table, 200, terminal).count(visible) == 5
