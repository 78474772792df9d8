"""Measures RecSim's own code anew: the numbers that ``_recsim.py`` holds under "of ours".

    python experiments/simulators/_recsim_original.py ~/recsim     (minutes; needs the packages gym and six)

A checkout of google-research/recsim is run as it is, one user at a time, with new candidates at every step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from _recsim_steps import imported

Policy = Callable[[dict[str, Any], np.random.Generator], list[int]]
SEED = 0


class Session(NamedTuple):
    """Sums over one user's session."""

    reward: float
    slates: int
    clicks: int
    quality: float


class Always:
    """A generator of documents of one clickbait."""

    def __init__(self, clickbait: float) -> None:
        self.clickbait = clickbait

    def random_sample(self) -> float:
        """The clickbait of the next document."""
        return self.clickbait


def uniform(slots: int) -> Policy:
    """Random slates."""
    return lambda seen, rng: rng.permutation(len(seen["doc"]))[:slots].tolist()


def extreme(sign: int) -> Policy:
    """The document of the most clickbait, or of the least."""
    return lambda seen, rng: [int(np.argmax([sign * float(c[0]) for c in seen["doc"].values()]))]


def by_affinity(seen: dict[str, Any], rng: np.random.Generator) -> list[int]:
    """The three documents that a user likes best."""
    return np.argsort([-seen["user"] @ document for document in seen["doc"].values()])[:3].tolist()


def follow(env: Any, policy: Policy, sessions: int, steps: int = 10**9) -> list[Session]:
    """Sessions, one after the other."""
    # Of NumPy's global generator, from which choices are drawn.
    env.seed(SEED)
    rng, found = np.random.default_rng(SEED), []
    for _ in range(sessions):
        seen, total, done = env.reset(), Session(0.0, 0, 0, 0.0), False
        while not done and total.slates < steps:
            seen, reward, done, _ = env.step(policy(seen, rng))
            clicked = [answer for answer in seen["response"] if answer["click"]]
            quality = sum(float(answer.get("quality", 0.0)) for answer in clicked)
            total = Session(
                total.reward + reward, total.slates + 1, total.clicks + len(clicked), total.quality + quality
            )
        found.append(total)
    return found


def show(setting: str, values: np.ndarray) -> None:
    """Prints a mean and its standard error."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    print(f"{setting:48} {values.mean():10.4f} ± {error:.4f}  ({len(values):,} sessions)", flush=True)


def make(module: Any, slots: int, candidates: int) -> Any:
    """One of RecSim's environments."""
    options = {"slate_size": slots, "num_candidates": candidates, "seed": SEED, "resample_documents": True}
    return module.create_environment(options)


def evolution(module: Any) -> None:
    """Random slates, and users who go down the slate."""
    found = follow(make(module, 3, 10), uniform(3), 1000)
    reward, slates, clicks, quality = np.array(found, float).T
    ratio = quality.sum() / clicks.sum()
    show("interest evolution, random, watch time", reward)
    show("interest evolution, random, slates", slates)
    show("interest evolution, random, quality of a click", ratio + (quality - ratio * clicks) / clicks.mean())
    for name, policy, sessions in (("random", uniform(3), 250), ("myopic", by_affinity, 200)):
        env = make(module, 3, 10)
        user = env.environment.user_model
        cascade = module.choice_model.ExponentialCascadeChoiceModel
        user.choice_model = cascade(user._user_state.choice_features)
        show(f"cascade, {name}, watch time", np.array([one.reward for one in follow(env, policy, sessions)]))


def exploration(module: Any) -> None:
    """Random slates."""
    found = follow(make(module, 2, 5), uniform(2), 400, steps=100)
    show("interest exploration, clicks a slate", np.array([one.clicks / one.slates for one in found]))


def satisfaction(module: Any) -> None:
    """By sensitivity and policy."""
    policies = {"random": uniform(1), "highest of 5": extreme(1), "lowest of 5": extreme(-1)}
    for sensitivity in (0.01, 0.1, 0.2):
        for name, policy in policies.items():
            env = make(module, 1, 5)
            env.environment.user_model._user_sampler._state_parameters["sensitivity"] = sensitivity
            found = follow(env, policy, 1000)
            show(f"sensitivity {sensitivity}, {name}", np.array([one.reward for one in found]))
        for clickbait in (0.0, 1.0):
            env = make(module, 1, 1)
            env.environment.user_model._user_sampler._state_parameters["sensitivity"] = sensitivity
            env.environment._document_sampler._rng = Always(clickbait)
            found = follow(env, uniform(1), 600)
            show(f"sensitivity {sensitivity}, always {clickbait:.0f}", np.array([one.reward for one in found]))


if __name__ == "__main__":
    for name, measure in (
        ("interest_evolution", evolution),
        ("interest_exploration", exploration),
        ("long_term_satisfaction", satisfaction),
    ):
        with imported(Path(sys.argv[1]), name) as module:
            measure(module)
