"""The closed loop on MovieLens-100K, step by step: a script to edit.

`recjax loop` does this, more of it, and with a report. Here every step is in plain sight.

Run:     python experiments/loop/closed_loop.py
Smoke:   python experiments/loop/closed_loop.py --smoke     (a synthetic catalogue, no data)
Expect:  a table of policies; DQN and its myopic twin well above random and the supervised model.
         About two minutes on two CPU cores, most of it compilation.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import jax
import optax
import tyro
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _results import Row, machine, write_rows

from recjax import agents, data, envs, loop, nn, rewards, study
from recjax.eval import label, paired_difference
from recjax.fit import Hooks, Progress
from recjax.models import TwoTowerConfig, fit_recommendation
from recjax.report import interval_text, rich_table


@dataclasses.dataclass(frozen=True)
class Config:
    smoke: bool = False
    """Seconds instead of minutes, on a synthetic catalogue."""
    json: Path | None = None
    """File to which rows of name, value, unit and hardware are written."""
    data: str = "ml-100k"
    """A named data set with ratings."""
    slate_size: int = 5
    history_length: int = 20
    dim: int = 32
    discount: float = 0.95
    conversion_weight: float = 5.0
    """What a purchase is worth, in clicks."""
    loop: loop.LoopConfig = dataclasses.field(default_factory=loop.LoopConfig)
    seed: int = 0


def logged_users(config: Config, key: jax.Array) -> tuple[envs.Environment, data.Interactions]:
    """Users whose tastes are fitted to a log, and the part of the log that policies may learn from."""
    dataset = data.load(config.data)
    split = data.leave_one_out(dataset.interactions)
    preference, report = envs.fit_preference(dataset, key=key)
    print(split, report, sep="\n")
    env = envs.logged(
        # User features are left out here, so that policies represent users by their histories alone.
        dataclasses.replace(dataset, context=None), preference=preference, train=split.train,
        slate_size=config.slate_size, history_length=config.history_length,
    )  # fmt: skip
    return env, split.train


def synthetic_users(config: Config, key: jax.Array) -> tuple[envs.Environment, data.Interactions]:
    """Random users over a random catalogue, and a log collected by showing random slates."""
    env = envs.synthetic(num_items=100, slate_size=config.slate_size, history_length=config.history_length, key=key)
    return env, study.collect_log(env, users=100, steps=20, key=key).interactions


def main(config: Config) -> dict[str, loop.Result]:
    env_key, train_key, loop_key = jax.random.split(jax.random.key(config.seed), 3)
    env, log = (synthetic_users if config.smoke else logged_users)(config, env_key)
    schedule = config.loop
    if config.smoke:
        schedule = loop.LoopConfig(
            steps=20, chunk=10, eval_every=20, users=16, eval_users=16, eval_steps=10, seeds=2, learn_start=5
        )

    # Represent: items by id, genres, year and title; users by their history.
    items = env.items
    model = nn.Recommendation.of(env.spec.num_items, config.dim)
    training = TwoTowerConfig(history_length=config.history_length, epochs=1 if config.smoke else 10)
    sequences = data.sequences(log, num_users=int(log.user.max()) + 1)
    with Progress() as progress:
        fitted = fit_recommendation(model, sequences, items, training, key=train_key, hooks=Hooks(progress=progress))

        # Close the loop. The reward is any function of the response.
        reward = rewards.weighted(click=1.0, conversion=config.conversion_weight)
        dqn = agents.dqn(
            nn.DotProductQ(item=model.item, user=model.user),
            optax.adam(1e-3),
            n_step=3,
            discount=config.discount,
            policy=agents.SlatePolicy(epsilon=(0.3, 0.05, 200)),
        )
        program = loop.Program(env, dqn, schedule, reward)
        myopic = dqn.hparams.replace(discount=0.0)
        run = {"key": loop_key, "progress": progress, "params": fitted.params}
        results = {
            "random": loop.run(env, agents.random(), schedule, reward=reward, name="random", **run),
            "myopic": loop.run_program(program, hparams=myopic, name="myopic", **run),
            "dqn": loop.run_program(program, name="dqn", **run),
        }
        if not config.smoke:
            greedy = agents.supervised_greedy(model)
            results["greedy"] = loop.run(env, greedy, schedule, reward=reward, name="greedy", **run)

    metrics = ("session_reward", "click_rate", "conversion_rate", "satisfaction", "session_length", "coverage")
    rows = [[name, *(interval_text(result.final()[metric]) for metric in metrics)] for name, result in results.items()]
    caption = f"mean ± 95 % interval over {schedule.seeds} seeds"
    Console().print(rich_table("Policies", ["policy", *map(label, metrics)], rows, caption=caption))
    gain = paired_difference(*(results[name].final()["session_reward"] for name in ("dqn", "myopic")))
    print(f"Long-term value (dqn - myopic, reward per session): {gain}")
    finals = {name: result.final() for name, result in results.items()}
    means = {f"{name}/{metric}": float(final[metric].mean()) for name, final in finals.items() for metric in metrics}
    write_rows(
        config.json, [Row(f"closed_loop/{name}", mean, "", machine()["hardware"]) for name, mean in means.items()]
    )
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
