"""The notebooks have the outputs of a run without errors, and run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import pytest

import recjax

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))
SMALL = {
    "own_data": {
        "steps=300, users=64, seeds=3, eval_every=100, eval_users=128": "steps=2, users=8, seeds=2, eval_users=8,"
        " eval_steps=2, batch_size=8, learn_start=1",
        "TwoTowerConfig(": "TwoTowerConfig(epochs=1, ",
        "np.arange(500)": "np.arange(60)",
        "10_000": "1_200",
    },
    "simulator": {
        "steps=600, users=64, seeds=8, eval_every=100, learn_start=10": "steps=2, users=8, seeds=2,"
        " eval_users=8, eval_steps=2, batch_size=8, learn_start=1",
    },
}


def code_cells(path: Path) -> list[dict]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stored_in_order_and_name_no_machine(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.get("name") == "stderr"]
    texts = json.dumps([{**output.get("data", {}), "image/png": "", "text": output.get("text")} for output in outputs])
    assert not re.search(r"/(tmp|home|root|Users|work)/|site-packages|0x[0-9a-f]{6}", texts)
    assert path.stat().st_size < 300_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_run(path, run_small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recjax, "enable_compilation_cache", lambda: None)  # tests have one of their own
    code = "\n".join("".join(cell["source"]) for cell in code_cells(path))
    with jax.numpy_rank_promotion("allow"):
        run_small(code, SMALL[path.stem])
    plt.close("all")


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == sorted(SMALL)
