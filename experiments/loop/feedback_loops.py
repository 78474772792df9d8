"""What a recommender does to itself and to its users by learning from its own traffic, over many seeds at once.

All learners begin with the same random slates. Then the loop is closed: each serves users, and goes on learning from
what they click. After every round a cohort whom nobody learns from is shown the policy as it is, without exploration:
how popular is what they are shown, how much of the catalogue, how alike are the slates of two people and what they
consume, and what do they get out of it by their own true taste?

* supervised: predicts clicks; explores with probability ε in every slot.
* corrected: the same, with clicks weighed by their inverse propensity.
* SlateQ: reinforcement learning, myopic (γ = 0) and looking ahead.

Controls: an oracle that knows true tastes, random slates, popularity, and the learner that stays as it was when the
loop was closed. One more tells the loop from mere learning: **random traffic** (ε = 1), the same learner with as many
steps and updates, whose data never depend on what it has learned. What the loop does is the difference to it.

    python experiments/loop/feedback_loops.py                     # 20 seeds, minutes on 2 cores
    python experiments/loop/feedback_loops.py --boredom 4         # users tire of topics
    python experiments/loop/feedback_loops.py --catalogue 1       # other items
    python experiments/loop/feedback_loops.py --smoke             # seconds

Prints the policies, differences paired by seed with 95 % intervals, and known results beside what is found here; draws
curves, and what the loop does as a function of exploration, below ``--out``. Options of the learners were chosen with
``--seed 100``.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

import jax
import optax
import tyro
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _feedback import METRICS, Cohort, Found, close_loop, exploring, never_learning, weighed
from _feedback_results import FIRST, At, Effect, Known, draw, effect_table, known_table, policy_table
from _results import Row, machine, write_rows

from recjax import agents, envs, nn
from recjax.cache import enable_compilation_cache
from recjax.loop import LoopConfig
from recjax.report import rich_table

EPSILON = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of the supervised learner; the corrected one has those in between. 1 is random traffic."""

EXPLORING = 0.1
"""Of those that explore, outside of the sweep."""

CURVES = ("popularity_lift", "coverage", "inter_user", "jaccard_alike", "intra_user", "pleasure")
"""What the figure shows."""


@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 20
    """Independent repetitions, of users, chance and initial networks."""
    seed: int = 0
    """Of the whole, catalogue aside."""
    catalogue: int = 0
    """Seed of the items, which all seeds share."""
    items: int = 200
    """Of the catalogue."""
    boredom: float = 0.0
    """Weight of boredom: at 0 tastes stand still, as where known results come from; 4 is the environment's default."""
    users: int = 64
    """Users served in parallel, of each seed."""
    start: int = 200
    """Random slates shown to every user before the loop is closed; a multiple of --round."""
    rounds: int = 8
    """Of the closed loop."""
    round: int = 50
    """Slates that every user is shown in a round."""
    people: int = 128
    """Of the cohort that is followed after each round, of each seed."""
    slates: int = 20
    """Shown to each of them."""
    dim: int = 16
    """Width of item and user vectors."""
    batch_size: int = 128
    """Windows drawn from replay for one update."""
    updates: int = 2
    """Done after each step."""
    learning_rate: float = 3e-3
    """Of Adam."""
    discount: float = 0.95
    """γ of the SlateQ that looks ahead."""
    most: float = 20.0
    """The largest weight of a click that is corrected."""
    out: Path = Path("runs/feedback_loops")
    """Folder of the figure."""
    json: Path | None = None
    """File to which rows of name, value, unit and hardware are written."""
    smoke: bool = False
    """The same at the smallest size: checks that the script runs."""

    def schedule(self) -> LoopConfig:
        """Of all steps and updates."""
        steps = self.start + self.rounds * self.round
        return LoopConfig(
            steps=steps, users=self.users, seeds=self.seeds, chunk=self.round, eval_every=self.round,
            batch_size=self.batch_size, updates=self.updates, replay_capacity=steps * self.users,
            learn_start=self.round,
        )  # fmt: skip


def supervised(epsilon: float) -> str:
    """Name of a policy, as of the two below."""
    return "supervised, random traffic" if epsilon == 1 else f"supervised, ε={epsilon:g}"


def corrected(epsilon: float) -> str:
    return f"corrected, ε={epsilon:g}"


def slate_q(discount: float, epsilon: float) -> str:
    return f"SlateQ γ={discount:g}, ε={epsilon:g}"


def grid(config: Config) -> list[tuple[agents.Agent, dict[str, dict[str, float]]]]:
    """Learners, each with its settings by name: those of one share a compiled program."""
    optimizer, policy = optax.adam(config.learning_rate), agents.SlatePolicy(epsilon=1.0)
    clicks = agents.ClickPrediction(nn.Recommendation.of(config.items, config.dim))
    network = nn.DotProductSlateQ.of(config.items, config.dim)
    by_clicks = {supervised(epsilon): exploring(epsilon) for epsilon in EPSILON}
    by_clicks |= {corrected(epsilon): exploring(epsilon) | {"most": config.most} for epsilon in EPSILON[1:-1]}
    by_rewards = {
        slate_q(discount, epsilon): exploring(epsilon) | {"discount": discount}
        for discount, epsilon in (
            (config.discount, 0.0),
            (config.discount, EXPLORING),
            (config.discount, 1.0),
            (0.0, 0.0),
        )
    }
    return [
        (weighed(agents.supervised(clicks, optimizer, policy=policy)), by_clicks),
        (agents.slate_q(network, optimizer, n_step=5, loss="mse", search="top_k", policy=policy), by_rewards),
    ]


def measure(config: Config) -> dict[str, Found]:
    """All policies and their metrics."""
    model = envs.ResponseModel(boredom_weight=config.boredom)
    env = envs.synthetic(num_items=config.items, response_model=model, key=jax.random.key(config.catalogue))
    key, people_key = jax.random.split(jax.random.key(config.seed))
    cohort = Cohort(env, config.people, config.slates, config.seeds, people_key)
    still = {
        "oracle": agents.oracle(env.oracles["myopic"].choose, env.oracles["myopic"].each_setting()[0]),
        "random": agents.random(),
        "popularity": agents.popularity(),
    }
    found = {name: never_learning(agent, cohort) for name, agent in still.items()}
    for agent, settings in grid(config):
        begun = time.perf_counter()
        runs = close_loop(agent, list(settings.values()), config.schedule(), config.start, cohort, key)
        found |= dict(zip(settings, runs, strict=True))
        names = f"{next(iter(settings))} and {len(settings) - 1} others"
        print(f"{names}: {config.seeds} seeds each, {time.perf_counter() - begun:.0f} s", flush=True)
    return found


def lines(config: Config) -> list[tuple[str, At]]:
    """Of the table of policies."""
    learned = [*map(supervised, (1.0, 0.0, EXPLORING)), corrected(EXPLORING)]
    learned += [slate_q(config.discount, epsilon) for epsilon in (0.0, EXPLORING, 1.0)] + [slate_q(0.0, 0.0)]
    return [
        *((name, At(name)) for name in ("oracle", "random", "popularity")),
        ("supervised, once", At(supervised(0.0), FIRST)),
        *((name, At(name)) for name in learned),
    ]


def effects(config: Config) -> dict[str, Effect]:
    """What each part of a loop does, by name."""
    own, alone = At(supervised(0.0)), At(supervised(1.0))
    explored, right, ahead = At(supervised(EXPLORING)), At(corrected(EXPLORING)), At(slate_q(config.discount, 0.0))
    return {
        "loop: ε=0 − random traffic": Effect(own, alone),
        "retraining: last − first, ε=0": Effect(own, At(own.policy, FIRST)),
        "learning: last − first, random traffic": Effect(alone, At(alone.policy, FIRST)),
        "exploration: ε=0.1 − 0": Effect(explored, own),
        "more exploration: ε=0.5 − 0.1": Effect(At(supervised(0.5)), explored),
        "correction, ε=0.1": Effect(right, explored),
        "loop, corrected, ε=0.1": Effect(right, alone),
        "loop of SlateQ": Effect(ahead, At(slate_q(config.discount, 1.0))),
        "SlateQ − supervised, ε=0": Effect(ahead, own),
        "looking ahead: γ − 0": Effect(ahead, At(slate_q(0.0, 0.0))),
        "true taste: ε=0 − oracle": Effect(own, At("oracle")),
    }


def known() -> list[Known]:
    """What the literature has found, asked as it was asked there, and as what the loop adds to learning."""
    chaney, jiang, mansoury = "Chaney et al. 2018", "Jiang et al. 2019", "Mansoury et al. 2020"
    loop, retraining, truth = "loop: ε=0 − random traffic", "retraining: last − first, ε=0", "true taste: ε=0 − oracle"
    explored, more = "exploration: ε=0.1 − 0", "more exploration: ε=0.5 − 0.1"
    return [
        Known(chaney, "the like-minded consume more alike than by taste", "jaccard_alike", 1, truth),
        Known(chaney, "more so trained again than once", "jaccard_alike", 1, retraining),
        Known(chaney, "more so in a loop", "jaccard_alike", 1, loop),
        Known(chaney, "consumption is less equal than by taste", "gini_consumed", 1, truth),
        Known(chaney, "consumption is less equal in a loop", "gini_consumed", 1, loop),
        Known(chaney, "utility is lost in a loop", "pleasure", -1, loop),
        Known(jiang, "exploration slows narrowing", "coverage", 1, explored),
        Known(jiang, "the more the slower", "coverage", 1, more),
        Known(jiang, "exploration keeps users' slates wide", "intra_user", 1, explored),
        Known(mansoury, "recommendations grow more popular", "popularity_lift", 1, retraining),
        Known(mansoury, "… more so in a loop", "popularity_lift", 1, loop),
        Known(mansoury, "fewer items are recommended", "coverage", -1, retraining),
        Known(mansoury, "… more so in a loop", "coverage", -1, loop),
        Known(mansoury, "users are shown more of the same", "inter_user", -1, retraining),
        Known(mansoury, "… more so in a loop", "inter_user", -1, loop),
        Known(mansoury, "the minority has more to bear", "niche_gap", -1, loop),
    ]


def main(config: Config) -> dict[str, Found]:
    """Measures, prints and draws."""
    if config.smoke:
        config = dataclasses.replace(
            config, seeds=2, items=40, users=8, start=4, rounds=2, round=4, people=8, slates=3, dim=4, batch_size=8
        )
    else:
        enable_compilation_cache()
    found, differences = measure(config), effects(config)
    console = Console(width=170)
    caption = f"Mean ± 95 % interval over {config.seeds} seeds, after the last round."
    console.print(rich_table("Policies", *policy_table(found, lines(config)), caption=caption))
    caption = "Paired by seed; * the 95 % interval does not hold zero."
    console.print(rich_table("Differences", *effect_table(found, differences), caption=caption))
    title = "Known results"
    console.print(rich_table(title, *known_table(found, known(), differences), text=True))
    path = config.out / "feedback_loops.svg"
    curves = [
        supervised(0.0),
        supervised(EXPLORING),
        corrected(EXPLORING),
        supervised(1.0),
        slate_q(config.discount, 0.0),
    ]
    draw(found, curves, ("oracle", "popularity"), CURVES, sweeps(), path)
    print(f"Figure: {path}")
    write_rows(config.json, rows(found, differences))
    return found


def sweeps() -> dict[str, list[tuple[float, Effect]]]:
    """What the loop does, as a function of exploration."""
    alone = At(supervised(1.0))
    return {
        "supervised": [(epsilon, Effect(At(supervised(epsilon)), alone)) for epsilon in EPSILON[:-1]],
        "corrected": [(epsilon, Effect(At(corrected(epsilon)), alone)) for epsilon in EPSILON[1:-1]],
    }


def rows(found: dict[str, Found], differences: dict[str, Effect]) -> list[Row]:
    """Means after the last round, and differences with their ends and what could have been seen."""
    hardware = machine()["hardware"]
    numbers = {
        f"{policy}/{metric}": float(values[-1].mean())
        for policy, metrics in found.items()
        for metric, values in metrics.items()
    }
    for name, effect in differences.items():
        for metric in METRICS:
            interval, limit = effect.interval(found, metric), effect.detectable(found, metric)
            parts = {"": interval.mean, ", low": interval.low, ", high": interval.high, ", detectable": limit}
            numbers |= {f"{name}/{metric}{part}": value for part, value in parts.items()}
    return [Row(f"feedback_loops/{name}", value, "", hardware) for name, value in numbers.items()]


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
