"""The page: everything is in it, nothing outside is needed, and no text of others is obeyed."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import jax
import numpy as np
import pytest

from recjax import agents, envs, loop, report
from recjax.display import printable
from recjax.study import Study

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; alert(1); '",
    "</style></title></svg><b>",
    "{{ 7 * 7 }}{% raw %}",
    "]]><!--",
    "$\\frac{1$",
    'var(--series-0) #00fe00 id="x url(#y',
    "\x1b[31m\u202eevil\x00",
)
VOID = ("meta", "br", "img", "input", "link", "path", "use", "rect")


class Outline(HTMLParser):
    """Tags, ids and text of a page; every tag must be closed in its place."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.ids, self.attributes, self.text, self._open = [], [], [], "", []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID or (tag == "rect" and ("class", "spot") in attributes):
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if self._open and self._open[-1] == tag and tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        if tag in VOID and tag != "rect":
            return
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


def without_script(page):
    return re.sub(r"<script>.*?</script>", "", page, count=1, flags=re.DOTALL)


def test_a_study_shows_slates_a_journey_exposure_curves_and_differences(make_study):
    page = report.render(make_study())
    seen = Outline(without_script(page))
    for heading in ("Policies in the loop", "Differences between policies", "Over loop time", "What users saw",
                    "One user’s journey", "Exposure", "The supervised model", "Definitions"):  # fmt: skip
        assert heading in seen.text
    assert "What dqn does." in seen.text
    assert "novelty information" in seen.text
    assert "bits per slot" in seen.text
    # Evaluations of four metrics, two of traffic, one of learning; differences, journey, Lorenz curves.
    assert page.count("<svg viewBox") == 4 + 2 + 1 + 3
    assert page.count("<title id=") == page.count("<desc id=") == page.count('role="img"') == 10
    assert "1. A" not in seen.text
    assert re.search(r"<ol><li>C</li><li>D</li></ol>", page)
    assert page.count("<mark>B</mark>") == 2  # The click of the second slate, once a policy.


def test_a_page_is_one_file_and_its_ids_are_its_own(make_study):
    for page in (
        report.render(make_study()),
        report.render_comparison({"a": make_study(), "b": make_study(shift=1.0)}),
    ):
        seen = Outline(without_script(page))
        assert len(set(seen.ids)) == len(seen.ids)
        links = [value for name, value in seen.attributes if name in ("src", "href", "xlink:href")]
        assert links
        assert all(link.startswith("#") and link[1:] in seen.ids for link in links)
        used = set(re.findall(r"url\(#([^)]*)\)", page))
        assert used
        assert used <= set(seen.ids)
        assert not re.search(r"@import|@font-face|https?://(?!www\.w3\.org/)", page)


def test_policies_can_be_hidden_without_a_script(make_study):
    page = without_script(report.render(make_study(policies=("a", "b", "c"))))
    for series in range(3):
        assert f'<input type="checkbox" id="show-{series}" checked' in page
        assert f'main:has(#show-{series}:not(:checked)) [data-series="{series}"] {{ display: none; }}' in page
        assert page.count(f'<g data-series="{series}">') > 5


def test_values_can_be_read_where_a_plot_is_pointed_at(make_study):
    results = make_study()
    page = report.render(results)
    value = np.mean(report.final_values(results, "dqn", "ctr"))
    spots = re.findall(r'<rect class="spot"[^>]*><title>([^<]*)</title>', page)
    last = [spot for spot in spots if spot.startswith("32 user-steps of a seed\n")]
    (found,) = {line.split("±")[0].split()[-1] for spot in last for line in
                spot.splitlines() if line.startswith("dqn") and line.split()[1].startswith(f"{value:.2f}")}  # fmt: skip
    assert float(found) == pytest.approx(value, abs=0.01)


def anatomy(page):
    """The kinds of tags and of attributes of a page."""
    seen = Outline(without_script(page))
    return set(seen.tags), {name for name, _ in seen.attributes}


def hostile(results):
    """Each of the texts in each of the places that others fill, by turns."""
    for number, text in enumerate(HOSTILE):
        run = results["policies"][text]
        run["description"] = text
        run["evaluations"][text] = run["evaluations"]["ctr"]
        run["online"][f"learn/{text}"] = run["online"]["ctr"]
        results["definitions"][text] = results["definitions"]["ctr"] | {"unit": text, "definition": text}
        results["config"][text] = text
        results["ranking"]["models"][text] = {"HR@10": 0.5}
        results["simulator"]["declared"].append({"name": text, "value": 1.0, "doc": text})
        for place in (results["data"], results["hardware"], results["ranking"], results["simulator"]):
            key = next(key for key, value in place.items() if isinstance(value, str))
            place[key] = place[key] + text if number else text
    return results


def test_hostile_text_is_shown_and_not_obeyed(make_study):
    names = [f"policy {number}" for number in range(len(HOSTILE))]
    results = hostile(make_study(policies=HOSTILE, titles=HOSTILE[:4]))
    plain = make_study(policies=names)
    plain["simulator"]["declared"].append({"name": "x", "value": 1.0, "doc": "y"})
    pages = report.render(results), report.render_comparison({HOSTILE[0]: results, HOSTILE[1]: results})
    benign = report.render(plain), report.render_comparison({"a": plain, "b": plain})
    for page, other in zip(pages, benign, strict=True):
        assert anatomy(page) == anatomy(other)
        assert page.count("<script") == 1
        assert not set(page) & {"\x1b", "\u202e", "\x00"}
    seen = Outline(without_script(pages[0])).text
    assert all(printable(text) in seen for text in HOSTILE)


@pytest.mark.parametrize("part", ["examples", "ranking", "simulator", "data", "definitions", "long_term_value"])
def test_what_old_results_lack_is_left_out(make_study, part):
    results = make_study()
    del results[part]
    Outline(without_script(report.render(results)))


def test_undefined_values_and_single_seeds_are_drawn(make_study):
    results = make_study(seeds=1)
    for run in results["policies"].values():
        run["evaluations"]["coverage"] = [[None], [None]]
        run["evaluations"]["ctr"][0] = [None]
    page = report.render(results)
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "one seed, so without intervals" in page


@pytest.fixture(scope="module")
def result():
    env = envs.synthetic(num_items=20, slate_size=2, history_length=3)
    config = loop.LoopConfig(steps=4, chunk=2, eval_every=2, users=4, eval_users=4, eval_steps=2, seeds=2)
    return loop.run(env, agents.random(), config, key=jax.random.key(0))


def test_runs_made_in_python_have_a_page(result, make_study, tmp_path):
    report.write(result, tmp_path / "one.html")
    report.write({"mine": result, "again": result}, tmp_path / "several.html", title="Two of a kind")
    one, several = ((tmp_path / name).read_text(encoding="utf-8") for name in ("one.html", "several.html"))
    assert "session reward" in Outline(without_script(one)).text
    assert "<h1>Two of a kind</h1>" in several
    assert re.search(r'<th scope="row">mine</th>', several)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.html", "several.html"]
    study = Study(make_study(), prepared=None, runs={}, agents={})
    report.write(study, tmp_path / "one.html")
    assert (tmp_path / "one.html").read_text(encoding="utf-8") == report.render(make_study())
    assert repr(study) == "Study(random, dqn on made: 3 s)"
    with pytest.raises(ValueError, match="no runs were given"):
        report.write({}, tmp_path / "none.html")
