"""What the pages show in Python runs: the front page, the tutorial, the gallery's plots."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from recjax import rewards
from recjax.response import Response

ROOT = Path(__file__).parents[2]
SMALL = "steps=2, seeds=2, users=8, eval_users=8, eval_steps=2, batch_size=8, learn_start=1"


def test_ten_lines_of_the_front_page(blocks, run_small, write_files):
    (code,) = blocks("index.md", "python")
    assert len([line for line in code.splitlines() if line]) == 10
    write_files([])
    small = {"steps=400, seeds=5": SMALL, "num_items=1000": "num_items=60", '"popularity": agents.popularity(), ': ""}
    assert set(run_small(code, small)["results"]) == {"random", "dqn"}
    assert "<h1>" in Path("report.html").read_text(encoding="utf-8")


@pytest.fixture
def tutorial(blocks, write_files, monkeypatch):
    """The Python blocks of the tutorial beside its log, made smaller; what its files register is forgotten."""
    monkeypatch.setattr(rewards.rewards, "_factories", dict(rewards.rewards._factories))
    found = blocks("tutorial.md", "python")
    make_log = next(i for i, code in enumerate(found) if code.startswith("# make_log.py"))
    found[make_log] = found[make_log].replace("range(400)", "range(40)")
    others = write_files(found)
    exec(compile(Path("make_log.py").read_text(encoding="utf-8"), "make_log.py", "exec"), {})
    return others


def block(found: list[str], text: str) -> str:
    (code,) = (code for code in found if text in code)
    return code


def test_tutorial_reads_its_log(tutorial, run_small):
    dataset = run_small(block(tutorial, "print(file.dataset)"), {})["file"].dataset
    assert (dataset.num_users, dataset.users.names[0][:5]) == (40, "Žofie")
    assert dataset.genres == ("Crime", "Poésie", "Science fiction", "歴史")
    assert set(np.unique(dataset.interactions.rating)) == {1, 2, 3, 4, 5}


def test_tutorial_from_pieces(tutorial, run_small):
    result = run_small(block(tutorial, "loop.LoopConfig("), {"steps=300, seeds=3": SMALL})["result"]
    assert result.final()["ctr"].shape == (2,)


def test_tutorial_from_a_study_to_an_artifact(tutorial, run_small):
    small = {
        "    steps=300,\n    seeds=3,": f"    {SMALL}, oracles=False,\n    training=models.TwoTowerConfig(epochs=1),",
        '"random", "popularity", "greedy", "slate_q"': '"greedy",',
        '{"slate_q": books.policy("slate_q")}': '{"greedy": books.policy("greedy")}',
        "import data,": "import data, models,",
    }
    study, saved, served = (block(tutorial, text) for text in ("run_study(", "export.save(", "serve.load("))
    run_small(study + saved, small)
    assert Path("books.html").exists()
    found = run_small(served, {"runs/books/artifact": "artifact", '"slate_q"': '"greedy"'})["found"]
    assert len(found) == 2
    assert found.to_csv().splitlines()[0] == "user,rank,item,title,score"
    assert found.to_csv().splitlines()[1].startswith("Žofie 7,1,книга-")


def test_reward_of_the_tutorial(tutorial):
    import finished

    response = Response(click=np.array([1.0, 1.0, 0.0]), satisfaction=np.array([0.9, 0.2, 0.0]))
    np.testing.assert_array_equal(finished.finished(response), [1, 0, 0])


def test_plots_of_the_gallery_are_drawn_from_the_results(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "scripts" / "gallery.py")
    gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gallery)
    monkeypatch.setattr("sys.argv", ["gallery.py", str(tmp_path)])
    gallery.main()
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"images/(\w+\.svg)", page))
    assert shown == {path.name for path in tmp_path.iterdir()}
    for name in shown:
        drawn, kept = ((folder / name).read_text() for folder in (tmp_path, ROOT / "docs" / "images"))
        texts = [re.findall(r"<text[^>]*>([^<]+)</text>", text) for text in (drawn, kept)]
        assert texts[0] == texts[1], f"{name} is of other results: run scripts/gallery.py"


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "images").glob("*.png")), ids=lambda path: path.name)
def test_pictures_are_small(path):
    assert path.stat().st_size < 200_000


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_pictures_are_there_and_described(path):
    page = path.read_text(encoding="utf-8")
    for name, options in re.findall(r"^```\{image\} (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        assert (path.parent / name).exists()
        assert len(re.findall(r":alt: .{40,}", options)) == 1
