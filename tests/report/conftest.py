"""Results of a study as small as they get, made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recjax.eval import describe

METRICS = ("ctr", "session_reward", "coverage", "novelty_information")


def exposure(counts):
    slots, items = np.unique(counts, return_counts=True)
    return {
        "slots": int(np.sum(counts)),
        "items_by_slots": np.stack([slots, items], 1).tolist(),
        "most_shown": [[int(np.argmax(counts)), int(np.max(counts))]],
    }


def study(policies=("random", "dqn"), seeds=3, titles=("A", "B", "C", "D"), shift=0.0, **options):
    """Results as ``metrics.json`` holds them: two evaluations, two chunks, three slates of a journey."""
    rng = np.random.default_rng(7)
    table = {name: (rng.random((2, seeds)) + shift * rng.random((2, seeds))).tolist() for name in METRICS}
    journey = {
        "stay": 3, "left": True, "slates": [[0, 1], [2, 1], [3, 0]], "clicked": [[], [1], [0]],
        "reward": [0.0, 1.0, 1.0], "satisfaction": [0.0, 0.5, 0.75],
    }  # fmt: skip
    return {
        "config": {"reward": "click", "seeds": seeds, "steps": 8, "users": 4, "eval_users": 4, "eval_steps": 3,
                   "seed": 0, "agent": list(policies), "learn": {"discount": 0.9}} | options,
        "data": {"name": "made", "users": 5, "items": 4, "events": 20},
        "policies": {
            name: {
                "description": f"What {name} does.", "evaluated_at": [0, 8], "online_at": [4, 8], "seconds": 1.5,
                "evaluations": {metric: (np.array(values) + 0.1 * i).tolist() for metric, values in table.items()},
                "online": {"reward": table["ctr"], "ctr": table["ctr"]} | ({"learn/loss": table["ctr"]} if i else {}),
            }
            for i, name in enumerate(policies)
        },
        "examples": {
            "users": 128, "steps": 50, "histories": [[3, 2], [0]],
            "policies": {
                name: {"slates": [[0, 1], [2, 3]], "journey": journey, "exposure": exposure([0, 1, 2, 5])}
                for name in policies
            },
            "titles": {str(item): title for item, title in enumerate(titles)},
        },
        "definitions": {name: vars(describe(name)) for name in METRICS},
        "simulator": {"text": "Made by hand.", "fit": None, "declared": []},
        "ranking": {"protocol": "full ranking", "models": {"popularity": {"HR@10": 0.5}}},
        "long_term_value": None,
        "date": "2026-01-01", "recjax": "0.1.0", "hardware": {"summary": "cpu"}, "seconds": {"total": 3.2},
    }  # fmt: skip


@pytest.fixture
def make_study():
    return study
