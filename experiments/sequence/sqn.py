"""Whether Q-learning beside the next item helps: SASRec, SQN and SNQN on sessions of a shop, and what controls them.

    python experiments/sequence/sqn.py --data-dir PATH   # RetailRocket below PATH
    python experiments/sequence/sqn.py --smoke           # generated sessions, seconds

Sessions are the events of a visitor between pauses of half an hour; of items and of sessions those with three events
and more are kept. Eight of ten sessions are trained on, one chooses the epoch, one tests. As in Xin et al. (SIGIR 2020)
views are clicks, which earn .2, and what is put into the cart or purchased are purchases, which earn 1; γ is .5. Every
event of a test session but its first is predicted from those before it, and the whole catalogue is ranked, by the same
softmax for every row:

* ``SASRec``: the next item alone.
* ``SQN``, ``SNQN``: with the Q-loss beside, without and with ten negatives.
* ``..., reward drawn``: rewards drawn for each event with the frequencies of the log, whatever the event was. A head
  and a loss as in the row above, with nothing to learn about purchases.
* ``SQN, reward 1``: every event earns the same, so that values count the events that are left.

What a row gains over SASRec *and* its control is owed to the rewards; what the control gains is owed to the loss
beside. Prints one table of purchases and one of clicks, mean and half the range over seeds, and paired differences.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _results import Result
from runner import Options, Study, mean_and_spread, paired_text, run

from recjax import data, nn
from recjax.data import Interactions
from recjax.eval import Protocol, evaluate
from recjax.fit import EarlyStopping, Hooks
from recjax.models.sequence import Auxiliary, SequenceConfig, behaviour_rewards, fit_sequences, self_supervised_q
from recjax.types import PAD_ID, Array, Behaviour, Items, Observation, PyTree

PAUSE = 30 * 60
"""Seconds without an event after which a session is over."""

CLICK, PURCHASE = 0.2, 1.0
REWARDS = {Behaviour.VIEW: CLICK, Behaviour.CART: PURCHASE, Behaviour.PURCHASE: PURCHASE}
BOUGHT = (Behaviour.CART, Behaviour.PURCHASE)
KS = (5, 10, 20)
METRICS = {f"{short}@{k}": f"{name}@{k}" for short, name in (("HR", "hit_rate"), ("NDCG", "ndcg")) for k in KS}
MODELS = ("SASRec", "SQN", "SQN, reward drawn", "SQN, reward 1", "SNQN", "SNQN, reward drawn")


@dataclasses.dataclass(frozen=True)
class Config(Options):
    seeds: int = 5
    """Results of each model, one for each seed."""
    data_dir: Path | None = None
    """Folder that holds the data set's own folder; RECJAX_DATA by default."""
    history_length: int = 50
    """Events that the model sees."""
    dim: int = 64
    """Width of the vectors."""
    epochs: int = 60
    """At most; training stops after ten without a better NDCG@10 of the validation sessions."""
    models: tuple[str, ...] = MODELS
    """Rows of the table."""


@dataclasses.dataclass(frozen=True)
class Sessions:
    """Sessions of a shop, cut into those to train on, to choose by and to test with.

    Attributes:
      parts: three logs, whose users are the sessions of each.
      num_items: items that are left.
    """

    parts: tuple[Interactions, Interactions, Interactions]
    num_items: int


def generated() -> Interactions:
    """Visitors who view neighbouring items and buy some of them."""
    rng, events = np.random.default_rng(0), 1_200
    user = np.sort(rng.integers(0, 60, events))
    item = (rng.integers(0, 40, 60)[user] + np.arange(events) % 4) % 40
    time = np.arange(events) * 60 + user * 10_000
    kind = rng.choice([Behaviour.VIEW, Behaviour.CART, Behaviour.PURCHASE], events, p=[0.7, 0.2, 0.1])
    return Interactions(user, item, time=time, behaviour=kind.astype(np.int8))


def sessions(log: Interactions) -> Sessions:
    """The sessions of a log, of frequent items and long enough."""
    assert log.time is not None
    log = log.take(np.bincount(log.item)[log.item] >= 3)
    log = log.take(log.order())
    assert log.time is not None
    is_first = np.ones(len(log.user), bool)
    is_first[1:] = (np.diff(log.user) != 0) | (np.diff(log.time) > PAUSE)
    session = np.cumsum(is_first) - 1
    long = np.bincount(session)[session] >= 3
    items, item = np.unique(log.item[long], return_inverse=True)
    _, session = np.unique(session[long], return_inverse=True)
    log = dataclasses.replace(log.take(long), user=session, item=item)
    place = np.random.default_rng(0).permutation(session.max() + 1) * 10 // (session.max() + 1)
    part = np.maximum(place[session] - 7, 0)
    return Sessions(tuple(_alone(log.take(part == number)) for number in range(3)), len(items))  # type: ignore[arg-type]


def _alone(log: Interactions) -> Interactions:
    """The log with its users counted from 0."""
    return dataclasses.replace(log, user=np.unique(log.user, return_inverse=True)[1])


def next_events(log: Interactions, length: int, kinds: tuple[Behaviour, ...]) -> tuple[Observation, np.ndarray]:
    """What was known before each event of some kinds that is no first of its session, and its item."""
    start = np.searchsorted(log.user, log.user)
    at = np.flatnonzero(np.isin(log.behaviour, kinds) & (np.arange(len(start)) > start))
    before = at[:, None] - length + np.arange(length)[None]
    known = before >= start[at, None]
    history, behaviour = (np.where(known, x[np.maximum(before, 0)], PAD_ID) for x in (log.item, log.behaviour))
    seen = Observation(jnp.asarray(history, jnp.int32), jnp.asarray(behaviour, jnp.int32))
    return seen, log.item[at].astype(np.int32)


def q_loss(module: nn.QRecommendation, model: str, log: Interactions) -> tuple[Auxiliary, ...]:
    """What is learned beside the next item."""
    if model == "SASRec":
        return ()
    share = float(np.isin(log.behaviour, BOUGHT).mean())

    def drawn(window: Observation, key: Array) -> Array:
        return jnp.where(jax.random.uniform(key, window.history.shape) < share, PURCHASE, CLICK)

    def alike(window: Observation, key: Array) -> Array:
        return jnp.ones(window.history.shape)

    name, _, control = model.partition(", ")
    reward = {"": behaviour_rewards(REWARDS), "reward drawn": drawn, "reward 1": alike}[control]
    return (self_supervised_q(module, reward, negatives=10 if name == "SNQN" else 0),)


def result(shop: Sessions, model: str, seed: int, config: Config) -> dict[str, Any]:
    """What one model scores, ready for JSON."""
    learned, chosen, tested = shop.parts
    module = nn.QRecommendation(
        item=nn.ItemTower(shop.num_items, config.dim, initial_norm=0.2),
        user=nn.UserTower(
            config.dim,
            functools.partial(nn.SelfAttentionEncoder, num_blocks=1, num_heads=1, dropout=0.3, norm="query"),
            project=False,
            use_behaviour=False,
        ),
        normalized=False,
        temperature=1.0,
    )
    items = Items(popularity=jnp.ones(shop.num_items), is_new=jnp.zeros(shop.num_items, bool))
    training = SequenceConfig(
        epochs=config.epochs,
        batch_size=128,
        history_length=config.history_length,
        learning_rate=2e-3,
        loss="softmax",
        accumulate=1,
        num_buckets=1 if config.smoke else 3,
    )

    def metrics(params: PyTree, log: Interactions, kinds: tuple[Behaviour, ...]) -> dict[str, float]:
        seen, targets = next_events(log, config.history_length, kinds)
        protocol = Protocol(split="sessions, 8:1:1", history_length=config.history_length, ks=KS, seen="kept")
        found = evaluate(nn.scorer(module, params, items), seen, targets, protocol, batch_size=512).metrics
        return {short: found[name] for short, name in METRICS.items()}

    fitted = fit_sequences(
        module,
        data.sequences(learned, int(learned.user.max()) + 1),
        items,
        training,
        key=jax.random.key(seed),
        auxiliary=q_loss(module, model, learned),
        hooks=Hooks(lambda _, params: metrics(params, chosen, tuple(REWARDS)), EarlyStopping("NDCG@10", 10)),
    )
    kinds = {"purchase": BOUGHT, "click": (Behaviour.VIEW,)}
    return {
        f"{name} {short}": value
        for name, of in kinds.items()
        for short, value in metrics(fitted.params, tested, of).items()
    } | {"epochs": len(fitted.history)}


def main(study: Study) -> None:
    config: Any = study.config
    log = generated() if config.smoke else data.load("retailrocket", data_dir=config.data_dir).interactions
    shop = sessions(log)
    found = {
        model: [
            study.result(
                functools.partial(result, shop, model, seed, config), seed, {"model": model}, ["data_dir", "models"]
            )
            for seed in range(config.seeds)
        ]
        for model in config.models
    }
    counts = [int(part.user.max()) + 1 for part in shop.parts]
    for kind in ("purchase", "click"):
        title = f"next {kind}: {counts[0]:,} sessions, tested on {counts[2]:,}, {shop.num_items:,} items"
        lines = [
            ([model, *(mean_and_spread(values(each, f"{kind} {metric}")) for metric in METRICS)], each)
            for model, each in found.items()
        ]
        study.show(title, ["model", *METRICS], lines)
    differences(study, found)


def values(results: list[Result], name: str) -> list[float]:
    return [each.found[name] for each in results]


def differences(study: Study, found: dict[str, list[Result]]) -> None:
    """What each row has over SASRec and over its control, in NDCG@10 of the same seeds."""
    pairs = [(model, "SASRec") for model in found if model != "SASRec"]
    pairs += [(name, f"{name}, reward drawn") for name in ("SQN", "SNQN")]
    lines = []
    for model, other in pairs:
        if model in found and other in found:
            both = [
                paired_text(values(found[model], f"{kind} NDCG@10"), values(found[other], f"{kind} NDCG@10"))
                for kind in ("purchase", "click")
            ]
            lines.append(([model, other, *both], [*found[model], *found[other]]))
    study.show("Differences in NDCG@10", ["model", "less", "purchase", "click"], lines, left=2)


if __name__ == "__main__":
    run(__file__, __doc__, Config, main, history_length=6, dim=8, epochs=2, models=("SNQN, reward drawn",))
