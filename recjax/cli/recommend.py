"""``recjax recommend``: what a trained policy would show to a user of the log, and why."""

from __future__ import annotations

import importlib
from pathlib import Path

from rich.console import Console

from recjax import report
from recjax.cli.loop import CHECKPOINTS, CONFIG
from recjax.study import Recommender, StudyConfig


def recommend(run: Path, user: str, policy: str = "dqn", k: int = 10, plugins: tuple[str, ...] = ()) -> None:
    """Recommend items to a user of the log, with scores and the items of their history that each follows from.

    Args:
      run: Directory that `recjax loop --out` has written.
      user: Name of the user, as in the data set.
      policy: Which policy of the run.
      k: How many items.
      plugins: Python modules to import first, as for `recjax loop`.
    """
    for module in plugins:
        importlib.import_module(module)
    if not (run / CONFIG).is_file():
        raise ValueError(
            f"{run} has no {CONFIG}, so it is not the directory of a run; give the --out of `recjax loop`."
        )
    recommender = Recommender.restore(StudyConfig.from_json(run / CONFIG), run / CHECKPOINTS, policy)
    history, recommendations = recommender.recommend(user, k)
    console = Console()
    console.print(f"The last items of user {user}, newest first: {'; '.join(history)}\n", markup=False, highlight=False)
    rows = [
        [str(i + 1), r.title, report.number(r.score), ", ".join(f"{t} ({s:.2f})" for t, s in r.follows_from)]
        for i, r in enumerate(recommendations)
    ]
    headings = ["", "recommended", "score", "follows from (cosine)"]
    caption = (
        f"Scores are what {policy} ranks items by (Q-values for dqn and myopic, logits for supervised models)."
        " Items the user has had are left out."
    )
    console.print(report.rich_table(f"For user {user}, by {policy}", headings, rows, caption=caption, text=True))
