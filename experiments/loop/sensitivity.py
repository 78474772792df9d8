"""What each declared parameter of the simulator does to what a platform measures.

Every declared parameter is lowered and raised in turn, and four policies serve one session of
each of the same users under the same random numbers: random, popularity, and two oracles that no
real policy can be, since they read the users' hidden tastes. The first shows what a user likes
best; the second also knows what the user has had enough of.

    python experiments/loop/sensitivity.py                 # MovieLens-100K, 2 min on 2 busy cores (40 s of CPU)
    python experiments/loop/sensitivity.py --smoke         # synthetic users, 25 s of CPU, most of it compilation

Prints the fit of the preference and one table, and writes ``sensitivity.md`` (the table of ``docs/simulator.md``)
to ``--out``.
Expected with the defaults on MovieLens-100K, in clicks per slate: random 0.21, popularity 0.30, preference
oracle 0.47, attraction oracle 0.57, each within 0.02; and the policies in that order of clicks in every row.
"""

from __future__ import annotations

import dataclasses
import datetime
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _results import Row, machine, write_rows

from recjax import agents, data, envs
from recjax.catalogue import BlockScorer, ItemIndex, top_k
from recjax.envs.choice import dynamics
from recjax.eval import mean_interval

METRICS = {"clicks": "per slate", "conversion": "per click", "satisfaction": "per click", "length": "slates"}


@dataclasses.dataclass(frozen=True)
class Config:
    data: str = "ml-100k"
    """Named data set whose users are simulated."""
    users: int = 512
    """Sessions per policy and setting."""
    groups: int = 8
    """Groups of users between which intervals are taken."""
    slate_size: int = 5
    """Slots of a slate."""
    history_length: int = 20
    """Items of the history that a policy sees and does not show again."""
    seed: int = 0
    """Seed of the fit, the users and their responses."""
    out: Path = Path("runs/sensitivity")
    """Where the table goes."""
    json: Path | None = None
    """File to which rows of name, value, unit and hardware are written."""
    smoke: bool = False
    """Few synthetic users and no data: checks that the script runs."""


def settings() -> Iterator[tuple[str, str, envs.ResponseModel]]:
    """``(parameter, what was done to it, values)``: the defaults first, then one change at a time.

    A rate is halved and doubled. Where that has no meaning the change is the nearest thing: a decay
    gets half and twice the half-life, a discount half and twice the logarithm, a logit half and twice the odds, and
    bait, of which there is none, one and two logits.
    """
    default = envs.ResponseModel()
    yield "default", "", default
    for name, value, _ in envs.describe(default):
        low, high = value / 2, value * 2
        if name in ("memory_decay", "position_discount"):
            low, high = value**2, value**0.5
        if name == "no_click_logit":
            low, high = value - float(np.log(2)), value + float(np.log(2))
        if name == "bait":
            low, high = 1.0, 2.0
        for change in (low, high):
            yield name, f"{value:g} → {change:.3g}", dataclasses.replace(default, **{name: change})


def policies(env: envs.Environment) -> dict[str, Callable]:
    """Functions ``(key, observation, users, params) -> slate`` of a batch of users."""

    def from_agent(name: str) -> Callable:
        agent = agents.agents.make(name)
        state = agent.init(jax.random.key(0), env.spec, env.items)
        return lambda key, observation, users, params: agent.act(key, state, observation, explore=False)[0]

    def preference_oracle(key: Any, observation: Any, users: dynamics.User, params: Any) -> jax.Array:
        index = ItemIndex(params.factors.vectors, params.factors.bias)
        return top_k(users.vector, index, env.spec.slate_size, exclude=observation.history)[1]

    def attraction_oracle(key: Any, observation: Any, users: dynamics.User, params: Any) -> jax.Array:
        def attraction(user: dynamics.User, ids: jax.Array) -> jax.Array:
            bored = dynamics.boredom(user, ids, params.factors)
            return dynamics.preference_logits(user, ids, params.factors) - params.response_model.boredom_weight * bored

        def score_block(users: dynamics.User, start: Any, size: int) -> jax.Array:
            return jax.vmap(attraction, in_axes=(0, None))(users, start + jnp.arange(size))

        scorer = BlockScorer(score_block, env.spec.num_items)
        return top_k(users, scorer, env.spec.slate_size, exclude=observation.history)[1]

    return {
        "random": from_agent("random"),
        "popularity": from_agent("popularity"),
        "preference oracle": preference_oracle,
        "attraction oracle": attraction_oracle,
    }


def sessions(env: envs.Environment, policy: Callable, num_users: int) -> Callable:
    """A compiled ``(key, params) -> totals``: one session of each user, until all have left."""
    reset = jax.vmap(env.reset, in_axes=(0, None, None))
    step = jax.vmap(env.step, in_axes=(0, 0, 0, None, None))

    @jax.jit
    def run(key: jax.Array, params: Any) -> dict[str, jax.Array]:
        observation, users = reset(jax.random.split(key, num_users), params, None)
        zeros = jnp.zeros(num_users)
        totals = dict.fromkeys(("slates", "clicks", "conversions", "satisfaction"), zeros)

        def serve(carry: tuple) -> tuple:
            time, observation, users, active, totals = carry
            act_key, step_key = jax.random.split(jax.random.fold_in(key, time))
            slate = policy(act_key, observation, users, params)
            step_keys = jax.random.split(step_key, num_users)
            observation, users, response, terminated, truncated, _ = step(step_keys, users, slate, params, None)
            amounts = {
                "slates": jnp.ones(num_users),
                "clicks": response["click"].sum(-1),
                "conversions": response["conversion"].sum(-1),
                "satisfaction": response["satisfaction"].sum(-1),
            }
            totals = {name: totals[name] + jnp.where(active, amounts[name], 0.0) for name in totals}
            return time + 1, observation, users, active & ~(terminated | truncated), totals

        start = jnp.zeros((), jnp.int32), observation, users, jnp.ones(num_users, bool), totals
        return jax.lax.while_loop(lambda carry: carry[3].any(), serve, start)[-1]

    return run


def summarise(totals: dict[str, jax.Array], groups: int) -> dict[str, Any]:
    """Mean and half width of the 95 % interval of each metric, between groups of users."""
    sums = {name: np.asarray(value, np.float64).reshape(groups, -1).sum(1) for name, value in totals.items()}
    users = len(totals["slates"]) / groups
    per_group = {
        "clicks": sums["clicks"] / sums["slates"],
        "conversion": sums["conversions"] / sums["clicks"],
        "satisfaction": sums["satisfaction"] / sums["clicks"],
        "length": sums["slates"] / users,
    }
    intervals = {name: mean_interval(values) for name, values in per_group.items()}
    return {name: (interval.mean, (interval.high - interval.low) / 2) for name, interval in intervals.items()}


def main(config: Config) -> None:
    if config.smoke:
        config = dataclasses.replace(config, users=32, groups=4)
        shape = {"slate_size": config.slate_size, "history_length": config.history_length}
        env, report = envs.synthetic(num_items=200, **shape), "synthetic users"
    else:
        dataset = data.load(config.data)
        preference, report = envs.fit_preference(dataset, key=jax.random.key(config.seed))
        train = data.leave_one_out(dataset.interactions).train
        shape = {"slate_size": config.slate_size, "history_length": config.history_length}
        env = envs.logged(dataset, preference=preference, train=train, **shape)
    console = Console()
    console.print(str(report))

    runs = {name: sessions(env, policy, config.users) for name, policy in policies(env).items()}
    rows = []
    with console.status("") as status:
        for name, change, response_model in settings():
            status.update(f"{name} {change}")
            params = env.params.replace(response_model=envs.as_arrays(response_model))
            for policy, run in runs.items():
                results = summarise(run(jax.random.key(config.seed), params), config.groups)
                rows.append({"parameter": name, "change": change, "policy": policy, **results})

    console.print(table(rows, list(runs)))
    write(config, rows, list(runs), str(report))
    console.print(f"Written to {config.out}")
    write_rows(config.json, as_rows(rows))


def cell(results: dict[str, Any]) -> str:
    """One policy under one setting, short enough for a table."""
    values = [results[name][0] for name in METRICS]
    return "{:.3f} · {:.3f} · {:.2f} · {:.1f}".format(*values)


def cells(rows: list[dict], names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(rows), len(names)):
        group = rows[start : start + len(names)]
        yield [group[0]["parameter"], group[0]["change"], *(cell(row) for row in group)]


def table(rows: list[dict], names: list[str]) -> Table:
    caption = " · ".join(f"{name} {unit}" for name, unit in METRICS.items())
    result = Table("parameter", "change", *names, title="Sensitivity of the simulator", caption=caption)
    for row in cells(rows, names):
        result.add_row(*row)
    return result


def write(config: Config, rows: list[dict], names: list[str], report: str) -> None:
    config.out.mkdir(parents=True, exist_ok=True)
    made = f"{machine()['hardware']}, JAX {jax.__version__}, {datetime.date.today().isoformat()}"
    header = ["parameter", "change", *names]
    lines = [header, ["---"] * len(header), *cells(rows, names)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    note = f"{report}. {config.users} sessions a cell. {made}."
    (config.out / "sensitivity.md").write_text(f"{text}\n\n{note}\n")


def as_rows(rows: list[dict]) -> Iterator[Row]:
    """The means and half widths of all cells."""
    for row in rows:
        name = "/".join(filter(None, ("sensitivity", row["parameter"], row["change"], row["policy"])))
        for metric, unit in METRICS.items():
            for part, value in zip((metric, f"{metric}, half width"), row[metric], strict=True):
                yield Row(f"{name}/{part}", float(value), unit, machine()["hardware"])


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
