"""Few examples of what users like, for a language model that is asked and for models that are not (TALLRec).

    python experiments/language/few_shot.py                          # MovieLens-100K; hours on two CPU cores
    python experiments/language/few_shot.py --shots 16 --seeds 1 --test 200 --validation 50
    python experiments/language/few_shot.py --smoke                  # tiny random models, generated ratings, seconds

A rating above 3 is a like. Known of a user are the ten ratings before; examples in the order of time are split
8 : 1 : 1, shots are drawn from the first part by seed, the epoch is chosen by AUC on a random sample of the second, and
the AUC is of a random sample of the third, with a bootstrap interval over it. SmolLM2 reads titles in a prompt and is
asked for " Yes" or " No", as it is and with low-rank changes of queries and values that are learned from the
shots. Beside it stand what needs no training (the share of likes in a user's history), the share of likes of each item
in the shots, a GRU and a causal transformer of ids, and a logistic regression on frozen MiniLM vectors of titles.

The published rows are those of TALLRec's README, of a model of 7 billion parameters. Its script takes the last 10,000
examples in the order in which users first occur, where time alone decides here; so the rows are no reproduction.

A cached result holds the ranks of all test examples. A study that was killed goes on after the last of them, and the
training of a language model at its last epoch.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _few_shot import HISTORY, Examples, Problem, auc, generated, interval, problem
from _results import Result, config_hash
from runner import MARK, LongOptions, Study, run, stated

from recjax import data, fit, language, nn
from recjax.types import Array, Behaviour, Items, Observation, PyTree

ANSWERS = (" Yes", " No")
PUBLISHED = {
    "TALLRec, 7 B parameters (published)": {16: 67.24, 64: 67.48, 256: 71.98},
    "its best conventional model (published)": {16: 50.85, 64: 51.71, 256: 54.20},
}


@dataclasses.dataclass(frozen=True)
class Config(LongOptions):
    shots: tuple[int, ...] = (16, 64, 256)
    """Examples that are learned from."""
    ways: tuple[str, ...] = (
        "likes of the user",
        "zero-shot",
        "likes of the item",
        "gru",
        "attention",
        "text",
        "low-rank",
    )
    """Which rows are made."""
    test: int = 1000
    """Test examples, drawn at random."""
    validation: int = 100
    """Validation examples, drawn at random."""
    language_model: str = "smollm2-135m"
    """A decoder in ``recjax.language.pretrained``, or a folder."""
    epochs: int = 3
    """Of the language model at most; one is of 128 prompts at least, so that of few shots each occurs several times."""
    batch_size: int = 16
    """Prompts of a step of the language model."""
    learning_rate: float = 1e-3
    """Its peak."""
    rank: int = 8
    """Of the changes of the queries and values of each layer."""
    dim: int = 32
    """Width of the vectors of ids."""
    data: str = "ml-100k"
    """Named data set with titles and ratings."""


OF_LANGUAGE_MODELS = ("language_model", "epochs", "batch_size", "learning_rate", "rank")
UNTRAINED = ("likes of the user", "zero-shot")


@dataclasses.dataclass(frozen=True)
class Learned:
    """What a way made of its shots.

    Attributes:
      score: of examples, the higher the likelier a like.
      trained: how many numbers were learned.
      epoch: the best one, where there are epochs.
    """

    score: Callable[[Examples], np.ndarray]
    trained: int = 0
    epoch: int | None = None


@functools.cache
def language_model(name: str, smoke: bool) -> language.LanguageModel:
    if not smoke:
        return language.load(name)
    tokenizer = language.train_wordpiece(
        [language.PREFERENCE, "Yes No film 0 1 2 3 4 5 6 7 8 9"], vocab_size=120, max_length=96
    )
    shape = {"dim": 8, "num_layers": 2, "num_heads": 2, "feed_forward": 16, "vocab_size": 120, "max_length": 96}
    family = "bert" if name == "minilm" else "llama"
    return language.initialize(language.LanguageConfig(family, **shape), jax.random.key(0), tokenizer)


def by_likes_of_the_user(of: Problem) -> Learned:
    return Learned(lambda asked: asked.rated_high.mean(axis=1))


def by_likes_of_the_item(of: Problem, shots: Examples) -> Learned:
    """Shares of likes, of all ratings that the shots show, drawn to the mean by one rating of it."""
    item = np.concatenate([shots.history.ravel(), shots.candidate])
    high = np.concatenate([shots.rated_high.ravel(), shots.liked])
    likes = np.bincount(item, high, len(of.titles)) + high.mean()
    share = likes / (np.bincount(item, minlength=len(of.titles)) + 1)
    return Learned(lambda asked: share[asked.candidate], len(np.unique(item)))


def by_text(of: Problem, shots: Examples, config: Config) -> Learned:
    """Logistic regression on the sums of vectors of what was liked and what was not, the candidate's, and cosines."""
    vectors = language.encode(language_model("minilm", config.smoke), of.titles, normalize=True)

    def features(asked: Examples) -> np.ndarray:
        seen, candidate = vectors[asked.history], vectors[asked.candidate]
        sides = [np.where(side[..., None], seen, 0) for side in (asked.rated_high, ~asked.rated_high)]
        means = [side.sum(axis=1) / HISTORY for side in sides]
        cosines = [np.einsum("nd,nd->n", mean, candidate)[:, None] for mean in means]
        return np.concatenate([*means, candidate, *cosines, np.ones((len(candidate), 1))], axis=1)

    x, sign = features(shots), np.where(shots.liked, 1.0, -1.0)

    def loss(weights: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        margin = sign * (x @ weights)
        slope = -sign * expit(-margin)
        return np.logaddexp(0, -margin).mean() + penalty * weights @ weights, x.T @ slope / len(
            x
        ) + 2 * penalty * weights

    tried = [
        minimize(loss, np.zeros(x.shape[1]), (penalty,), "L-BFGS-B", jac=True).x for penalty in (1e-4, 1e-3, 1e-2, 1e-1)
    ]
    known = features(of.validation)
    best = max(tried, key=lambda weights: auc(of.validation.liked, known @ weights))
    return Learned(lambda asked: features(asked) @ best, len(best))


def by_ids(of: Problem, shots: Examples, config: Config, encoder: str, seed: int) -> Learned:
    """Binary cross-entropy of the inner product of a user's history of likes and dislikes with the candidate."""
    network = nn.Recommendation.of(len(of.titles), config.dim, encoder=encoder, normalized=False, temperature=1.0)
    items = Items(jnp.ones(len(of.titles)), jnp.zeros(len(of.titles), bool))

    def observed(asked: Examples) -> Observation:
        done = np.where(asked.rated_high, int(Behaviour.LIKE), int(Behaviour.RATING)).astype(np.int32)
        return Observation(jnp.asarray(asked.history), jnp.asarray(done))

    def logits(params: PyTree, observation: Observation, candidate: Array, **apply: Any) -> Array:
        users: Any = network.apply(params, observation, items, method="queries", **apply)
        return (users * network.apply(params, candidate, items, method="item_vectors")).sum(axis=1)

    def loss_fn(params: PyTree, batch: Any, key: Array) -> tuple[Array, dict[str, Array]]:
        observation, candidate, liked = batch
        found = logits(params, observation, candidate, rngs={"dropout": key})
        return optax.sigmoid_binary_cross_entropy(found, liked).mean(), {}

    ask = jax.jit(logits)

    def score(params: PyTree, asked: Examples) -> np.ndarray:
        return np.asarray(ask(params, observed(asked), jnp.asarray(asked.candidate)))

    known = (observed(shots), jnp.asarray(shots.candidate), jnp.asarray(shots.liked, jnp.float32))
    params = jax.jit(network.init)(jax.random.key(seed), known[0], items)
    plan = fit.TrainingPlan(epochs=2 if config.smoke else 30, batch_size=min(32, len(shots)))
    hooks = fit.Hooks(
        lambda epoch, params: {"auc": auc(of.validation.liked, score(params, of.validation))},
        fit.EarlyStopping("auc", 10),
    )
    optimizer = fit.adamw(3e-3, weight_decay=0.01)
    fitted = fit.fit_epochs(loss_fn, optimizer, params, known, plan, key=jax.random.key(seed), hooks=hooks)
    trained = sum(leaf.size for leaf in jax.tree.leaves(fitted.params))
    return Learned(functools.partial(score, fitted.params), trained, fitted.best_epoch)


def answered(of: Problem, model: language.LanguageModel, asked: Examples) -> np.ndarray:
    """``f32[n]``, the log-probability of the first answer among both."""
    return language.score_answers(model, of.prompts(asked), ANSWERS, normalize=True, batch_size=16)[:, 0]


def by_low_rank(of: Problem, shots: Examples, config: Config, seed: int, work: Path, progress: fit.Progress) -> Learned:
    """The language model with low-rank changes that make it answer the shots right."""
    pairs = list(zip(of.prompts(shots), np.where(shots.liked, *ANSWERS).tolist(), strict=True))
    rounds = max(1, 128 // len(shots))  # Few shots several times an epoch, as validation costs more than they do.
    training = language.TextConfig(
        "answers", epochs=config.epochs, batch_size=min(config.batch_size, len(pairs)),
        learning_rate=config.learning_rate, warmup_steps=4, weight_decay=0.0, num_buckets=1 if config.smoke else 3,
    )  # fmt: skip
    fitted = language.fit_text(
        language_model(config.language_model, config.smoke), pairs * rounds, training, key=jax.random.key(seed),
        adaptation=fit.lora(
            config.rank, lambda path: path[-2] in ("query", "value") and path[-1] == "kernel",
            stacked=language.in_layers,
        ),
        hooks=fit.Hooks(
            lambda epoch, now: {"auc": auc(of.validation.liked, answered(of, now, of.validation))},
            fit.EarlyStopping("auc", config.epochs), progress, fit.Checkpoints(work, keep=1),
        ),
    )  # fmt: skip
    return Learned(functools.partial(answered, of, fitted.model), fitted.num_trained, fitted.best_epoch)


def learn(of: Problem, way: str, shots: int, seed: int, config: Config, work: Path, progress: fit.Progress) -> Learned:
    if way == "likes of the user":
        return by_likes_of_the_user(of)
    if way == "zero-shot":
        model = language_model(config.language_model, config.smoke)
        return Learned(functools.partial(answered, of, model))
    chosen = of.shots(shots, seed)
    if way == "likes of the item":
        return by_likes_of_the_item(of, chosen)
    if way == "text":
        return by_text(of, chosen, config)
    if way == "low-rank":
        return by_low_rank(of, chosen, config, seed, work, progress)
    return by_ids(of, chosen, config, way, seed)


def main(study: Study) -> None:
    config: Any = study.config
    of = problem(generated() if config.smoke else data.load(config.data), config.validation, config.test)
    results: list[Result] = []
    with fit.Progress(enabled=not config.smoke) as progress:
        for way in config.ways:
            for shots in (0,) if way in UNTRAINED else config.shots:
                for seed in range(1 if way in UNTRAINED else config.seeds):
                    results.append(one(study, of, way, shots, seed, progress))
                    show_one(results[-1], MARK * study.is_of_other_code(results[-1]))
    show(study, of, results)


def one(study: Study, of: Problem, way: str, shots: int, seed: int, progress: fit.Progress) -> Result:
    """One training, cached."""
    config: Any = study.config
    others = {"low-rank": (), "zero-shot": OF_LANGUAGE_MODELS[1:]}.get(way, OF_LANGUAGE_MODELS)
    without = ("shots", "ways", *others)
    condition = {"way": way, "shots": shots, "prompt": language.PREFERENCE}

    def result() -> dict[str, Any]:
        start = time.perf_counter()
        work = config.work / f"{config_hash(condition, stated(config, *without))}-{seed}"
        learned = learn(of, way, shots, seed, config, work, progress)
        between = time.perf_counter()
        scores = learned.score(of.test)
        return {
            "auc": auc(of.test.liked, scores), "trained": learned.trained, "epoch": learned.epoch,
            "seconds": {"learning": between - start, "test": time.perf_counter() - between},
            # An AUC depends on no more of the scores.
            "ranks": rankdata(scores, method="dense").tolist(),
        }  # fmt: skip

    return study.result(result, seed, condition, without)


def show_one(result: Result, mark: str) -> None:
    condition, seconds = result.condition, result.found["seconds"]
    print(
        f"{condition['way']}, {condition['shots']} shots, seed {result.seed}: AUC {100 * result.found['auc']:.2f},"
        f" learned in {seconds['learning']:.0f} s, test in {seconds['test']:.0f} s,"
        f" {result.machine['hardware']}{mark}",
        flush=True,
    )


def show(study: Study, of: Problem, results: list[Result]) -> None:
    """AUC by shots, the mean over seeds, with the interval over test examples."""
    config: Any = study.config
    lines: list[Any] = []
    for way in config.ways:
        of_way = [each for each in results if each.condition["way"] == way]
        cells = []
        for shots in config.shots:
            ranks = [np.array(each.found["ranks"]) for each in of_way if each.condition["shots"] in (shots, 0)]
            found = interval(of.test.liked, ranks, 20 if config.smoke else 1000)
            cells.append(f"{100 * found.mean:.2f} [{100 * found.low:.2f}, {100 * found.high:.2f}]")
        lines.append(([way, *cells], of_way))
    for row, published in PUBLISHED.items():
        lines.append(([row, *(f"{published[n]:.2f}" if n in published else "" for n in config.shots)], []))
    study.show(
        f"{'generated ratings' if config.smoke else config.data}: AUC in % by shots",
        ["way", *map(str, config.shots)],
        lines,
        caption=f"{len(of.test)} of the test examples and {len(of.validation)} of the validation examples, drawn at"
        f" random; {of.test.liked.mean():.0%} of the former are likes. Means over draws of shots ({config.seeds}); in"
        " brackets 95 % of bootstrap samples of test examples.",
    )


if __name__ == "__main__":
    run(
        __file__, __doc__, Config, main,
        shots=(16,), test=20, validation=10, epochs=1, dim=8, rank=2, batch_size=8,
    )  # fmt: skip
