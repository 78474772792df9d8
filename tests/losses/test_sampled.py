"""Sampled losses against float64 NumPy, PyTorch, the full softmax, and the expectation they promise."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.catalogue import accidental_hits
from recjax.catalogue import negatives as samplers
from recjax.losses import bce, bpr, gbce, losses, sampled_softmax
from recjax.types import PAD_ID

NUM_ITEMS = 41


def softplus(x):
    return np.logaddexp(0.0, x)


def softmax_oracle(positive, negatives, logq, hits):
    total = []
    for s, row, log_q, removed in zip(positive, negatives, np.broadcast_to(logq, negatives.shape), hits, strict=True):
        terms = [s] + [x - lq - np.log(len(row)) for x, lq, gone in zip(row, log_q, removed, strict=True) if not gone]
        total.append(np.logaddexp.reduce(terms) - s)
    return np.array(total)


def bpr_oracle(positive, negatives, logq, hits):
    pairs = [softplus(row[~gone] - s) for s, row, gone in zip(positive, negatives, hits, strict=True)]
    return np.array([pair.mean() if len(pair) else 0.0 for pair in pairs])


def bce_oracle(positive, negatives, logq, hits, beta=1.0):
    terms = [
        np.append(beta * softplus(-s), softplus(row[~gone]))
        for s, row, gone in zip(positive, negatives, hits, strict=True)
    ]
    return np.array([term.mean() for term in terms])


def gbce_oracle(positive, negatives, logq, hits, t=0.75):
    alpha = negatives.shape[1] / (NUM_ITEMS - 1)
    return bce_oracle(positive, negatives, logq, hits, beta=alpha * (t * (1 - 1 / alpha) + 1 / alpha))


ORACLES = {"sampled_softmax": softmax_oracle, "bpr": bpr_oracle, "bce": bce_oracle, "gbce": gbce_oracle}


def problem(seed=0, rows=6, width=9, scale=3.0):
    """Scores, logq and hits; the last row keeps no negative, the first keeps all."""
    rng = np.random.default_rng(seed)
    positive, negatives = scale * rng.normal(size=rows), scale * rng.normal(size=(rows, width))
    logq = np.log(rng.dirichlet(np.ones(width), rows))
    hits = rng.random((rows, width)) < 0.4
    hits[0], hits[-1] = False, True
    return positive, negatives, logq, hits


def as_float32(*arrays):
    return [jnp.asarray(array, None if array.dtype == bool else jnp.float32) for array in arrays]


def test_the_registry_is_complete():
    assert [(name, losses[name].__name__) for name in losses] == [(name, name) for name in ORACLES]


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("shared", [False, True])
def test_values_and_gradients_are_those_of_float64(name, shared):
    loss = jax.jit(functools.partial(losses[name], num_items=NUM_ITEMS))
    for seed in range(3):
        positive, negatives, logq, hits = problem(seed)
        logq = logq[0] if shared else logq
        s_pos, s_neg, log_q, removed = as_float32(positive, negatives, logq, hits)
        found = loss(s_pos, s_neg, logq=log_q, hits=removed)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, ORACLES[name](positive, negatives, logq, hits), rtol=2e-5, atol=1e-6)

        def total(s_pos, s_neg, log_q=log_q, removed=removed):
            return loss(s_pos, s_neg, logq=log_q, hits=removed).sum()

        of_positive, of_negatives = jax.grad(total, argnums=(0, 1))(s_pos, s_neg)
        oracle = functools.partial(ORACLES[name], logq=logq, hits=hits)
        step = 1e-5
        up, down = (oracle(positive + d, negatives) for d in (step, -step))
        np.testing.assert_allclose(of_positive, (up - down) / (2 * step), atol=1e-5)
        for j in range(negatives.shape[1]):
            nudge = step * np.eye(negatives.shape[1])[j]
            up, down = (oracle(positive, negatives + d) for d in (nudge, -nudge))
            np.testing.assert_allclose(of_negatives[:, j], (up - down) / (2 * step), atol=1e-5)


@pytest.mark.parametrize("name", ORACLES)
def test_removed_negatives_leave_no_trace(name):
    positive, negatives, logq, hits = as_float32(*problem())
    loss = functools.partial(losses[name], logq=logq, hits=hits, num_items=NUM_ITEMS)
    gradient = jax.grad(lambda s_pos, s_neg: loss(s_pos, s_neg).sum(), argnums=(0, 1))
    expected, expected_gradient = loss(positive, negatives), gradient(positive, negatives)
    np.testing.assert_array_equal(jnp.where(hits, expected_gradient[1], 0.0), np.zeros(hits.shape))
    for poison in (np.nan, np.inf, -np.inf, 1e30):
        poisoned = jnp.where(hits, poison, negatives)
        np.testing.assert_array_equal(loss(positive, poisoned), expected)
        for found, clean in zip(gradient(positive, poisoned), expected_gradient, strict=True):
            np.testing.assert_array_equal(found, clean)


def test_rows_without_negatives_by_hand():
    positive, negatives, hits = jnp.array([0.7]), jnp.array([[4.0, -2.0]]), jnp.ones((1, 2), bool)
    logq = jnp.array([-0.5, -0.9])
    log_sigmoid = np.log(1 / (1 + np.exp(-0.7)))
    beta = 1 - 0.75 * (1 - 2 / 10)
    expected = {"sampled_softmax": 0.0, "bpr": 0.0, "bce": -log_sigmoid, "gbce": -beta * log_sigmoid}
    for name, value in expected.items():
        loss = functools.partial(losses[name], logq=logq, hits=hits, num_items=11)
        np.testing.assert_allclose(loss(positive, negatives), [value], rtol=1e-6)
        of_positive, of_negatives = jax.grad(lambda p, n, f=loss: f(p, n).sum(), argnums=(0, 1))(positive, negatives)
        assert of_negatives.tolist() == [[0.0, 0.0]]
        assert (of_positive[0] == 0.0) == (value == 0.0)
        assert np.isfinite(of_positive).all()


@pytest.mark.parametrize("name", ORACLES)
def test_large_scores_neither_overflow_nor_lose_the_gradient(name):
    positive, negatives = np.array([1e4, -1e4, 1e4, -1e4]), np.array([[1e4], [1e4], [-1e4], [-1e4]])
    hits, logq = np.zeros((4, 1), bool), np.zeros((4, 1))
    loss = functools.partial(losses[name], num_items=NUM_ITEMS, logq=jnp.zeros((4, 1)))
    value, gradient = jax.value_and_grad(lambda p, n: loss(p, n).sum(), argnums=(0, 1))(
        *as_float32(positive, negatives)
    )
    expected = ORACLES[name](positive, negatives, logq, hits)
    np.testing.assert_allclose(loss(*as_float32(positive, negatives)), expected, rtol=1e-6, atol=1e-30)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in gradient)
    assert gradient[0][1] < 0, "a positive far below its negative is pulled up"


def test_tiny_losses_are_not_rounded_to_zero():
    found = sampled_softmax(jnp.array([30.0]), jnp.array([[0.0, 1.0]]))
    np.testing.assert_allclose(found, [np.exp(-30.0) + np.exp(-29.0)], rtol=1e-6)


@pytest.mark.parametrize("name", ORACLES)
def test_bfloat16_scores_are_computed_in_float32(name):
    positive, negatives, logq, hits = as_float32(*problem())
    half = positive.astype(jnp.bfloat16), negatives.astype(jnp.bfloat16)
    loss = functools.partial(losses[name], logq=logq, hits=hits, num_items=NUM_ITEMS)
    found = loss(*half)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, loss(*(scores.astype(jnp.float32) for scores in half)))
    gradient = jax.grad(lambda p, n: loss(p, n).sum(), argnums=(0, 1))(*half)
    assert all(leaf.dtype == jnp.bfloat16 and np.isfinite(leaf.astype(jnp.float32)).all() for leaf in gradient)


@pytest.mark.parametrize("name", ORACLES)
def test_float64_scores_stay_so(name):
    positive, negatives, logq, hits = problem()
    with jax.enable_x64(True):
        s_pos, s_neg, log_q, removed = (jnp.asarray(array) for array in (positive, negatives, logq, hits))
        found = losses[name](s_pos, s_neg, logq=log_q, hits=removed, num_items=NUM_ITEMS)
        assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, ORACLES[name](positive, negatives, logq, hits), rtol=1e-12)


@pytest.mark.parametrize("name", ORACLES)
def test_the_order_of_negatives_does_not_matter_and_vmap_is_a_loop(name):
    positive, negatives, logq, hits = as_float32(*problem())
    loss = functools.partial(losses[name], num_items=NUM_ITEMS)
    order = jnp.array([4, 0, 8, 2, 1, 3, 7, 5, 6])
    expected = loss(positive, negatives, logq=logq, hits=hits)
    shuffled = loss(positive, negatives[:, order], logq=logq[:, order], hits=hits[:, order])
    np.testing.assert_allclose(shuffled, expected, rtol=1e-5, atol=1e-7)
    one = functools.partial(loss, logq=logq, hits=hits)
    seeds = jax.vmap(one)(jnp.stack([positive, positive + 1]), jnp.stack([negatives, negatives]))
    for found, alone in zip(seeds, (expected, one(positive + 1, negatives)), strict=True):
        np.testing.assert_allclose(found, alone, rtol=1e-6)


def test_every_item_drawn_once_is_the_full_softmax():
    rng = np.random.default_rng(7)
    scores, positives = 5 * rng.normal(size=(8, NUM_ITEMS)), rng.integers(0, NUM_ITEMS, 8)
    ids = jnp.arange(NUM_ITEMS)
    positive = jnp.asarray(scores[np.arange(8), positives], jnp.float32)
    found = sampled_softmax(
        positive,
        jnp.asarray(scores, jnp.float32),
        logq=jnp.full(NUM_ITEMS, -np.log(NUM_ITEMS)),
        hits=accidental_hits(jnp.asarray(positives), ids),
    )
    expected = np.logaddexp.reduce(scores, axis=1) - scores[np.arange(8), positives]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_without_logq_it_is_a_softmax_of_what_is_kept():
    torch = pytest.importorskip("torch")
    positive, negatives, _, hits = problem()
    logits = torch.tensor(np.column_stack([positive, np.where(hits, -np.inf, negatives)]))
    expected = torch.nn.functional.cross_entropy(logits, torch.zeros(6, dtype=torch.long), reduction="none")
    s_pos, s_neg, removed = as_float32(positive, negatives, hits)
    np.testing.assert_allclose(sampled_softmax(s_pos, s_neg, hits=removed), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_correcting_the_positive_too_is_the_batch_softmax_of_yi_et_al():
    rng = np.random.default_rng(8)
    scores = 2 * rng.normal(size=(5, 5))
    q = rng.dirichlet(np.ones(30))
    positives = rng.permutation(30)[:5]
    corrected = scores - np.log(q[positives])
    expected = np.logaddexp.reduce(corrected, axis=1) - np.diag(corrected)
    batch = samplers.in_batch(jnp.asarray(positives), jnp.asarray(np.log(q), jnp.float32))
    found = sampled_softmax(
        jnp.asarray(np.diag(scores), jnp.float32),
        jnp.asarray(scores, jnp.float32),
        logq=batch.logq,
        hits=accidental_hits(jnp.asarray(positives), batch.ids),
        positive_logq=batch.logq,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_gradient_is_that_of_the_corrected_logq_correction():
    """Khrylchenko et al.: ``sg(1 - P̂) (log Σ exp(sⱼ - log q'ⱼ) - s⁺)``, ``q' = q / (1 - q⁺)``, ``n`` kept draws."""
    positive, negatives, logq, hits = (array[:-1] for array in as_float32(*problem(3)))
    q_positive, kept = jnp.linspace(0.01, 0.5, 5), (~hits).sum(1, dtype=jnp.float32)
    conditional = logq - jnp.log1p(-q_positive)[:, None]

    def theirs(s_pos, s_neg):
        corrected = jnp.where(hits, -jnp.inf, s_neg - conditional)
        mean = jnp.exp(corrected).sum(1) / kept
        weight = jax.lax.stop_gradient(1 - jnp.exp(s_pos) / (jnp.exp(s_pos) + mean))
        return (weight * (jnp.log(jnp.exp(corrected).sum(1)) - s_pos)).sum()

    def ours(s_pos, s_neg):
        same_count = conditional + jnp.log(kept / negatives.shape[1])[:, None]
        return sampled_softmax(s_pos, s_neg, logq=same_count, hits=hits).sum()

    for expected, found in zip(*(jax.grad(f, (0, 1))(positive, negatives) for f in (theirs, ours)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


SCORES = np.random.default_rng(11).normal(size=12)
COUNTS = np.array([1.0, 30.0, 4.0, 4.0, 1.0, 2.0, 9.0, 1.0, 1.0, 3.0, 50.0, 2.0])
OWN = 6


def draw_batch(key, distribution):
    """A batch as a log gives it: the first positive is ours, two examples are padding, the others are drawn."""
    others = samplers.popularity(key, (7,), distribution).ids
    return jnp.concatenate([jnp.array([OWN, PAD_ID, PAD_ID]), others])


def draw_mixed(key, distribution):
    batch_key, uniform_key = jax.random.split(key)
    return samplers.mixed(uniform_key, draw_batch(batch_key, distribution), 5, distribution)


@pytest.mark.parametrize(
    ("draw", "known"),
    [
        (lambda key, law: samplers.uniform(key, (1, 8), law.num_items), None),
        (lambda key, law: samplers.popularity(key, (8,), law), None),
        (lambda key, law: samplers.popularity(key, (1, 8), law), [10, 1, PAD_ID]),
        (lambda key, law: samplers.in_batch(draw_batch(key, law), law), None),
        (draw_mixed, None),
        (draw_mixed, [10, PAD_ID, 2]),
    ],
    ids=["uniform", "popularity", "popularity-known", "in_batch", "mixed", "mixed-known"],
)
def test_the_estimated_denominator_is_unbiased(draw, known):
    law, trials = samplers.popularity_distribution(COUNTS, smoothing=0.0), 40_000
    scores, positives = jnp.asarray(SCORES, jnp.float32), jnp.array([OWN])
    liked = None if known is None else jnp.array([known])

    def estimate(key):
        drawn = draw(key, law)
        hits = accidental_hits(positives, drawn.ids, known=liked)
        s_neg = jnp.atleast_2d(scores[drawn.ids])
        return jnp.exp(sampled_softmax(scores[positives], s_neg, logq=drawn.logq, hits=hits)[0] + scores[OWN])

    found = np.asarray(jax.jit(jax.vmap(estimate))(jax.random.split(jax.random.key(5), trials)), np.float64)
    expected = np.exp(np.delete(SCORES, [item for item in known or [] if item >= 0])).sum()
    error = found.std() / np.sqrt(trials)
    assert abs(found.mean() - expected) < 3.5 * error
    assert error < 0.01 * expected, "a bias of 4 % would be seen"


def test_gbce_follows_its_source():
    torch = pytest.importorskip("torch")
    positive, negatives, _, _ = problem()
    logits = torch.tensor(np.column_stack([positive, negatives]))
    targets = torch.zeros_like(logits)
    targets[:, 0] = 1.0
    terms = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    s_pos, s_neg = as_float32(positive, negatives)
    np.testing.assert_allclose(bce(s_pos, s_neg), terms.mean(1).numpy(), rtol=1e-5)
    np.testing.assert_array_equal(gbce(s_pos, s_neg, num_items=NUM_ITEMS, t=0.0), bce(s_pos, s_neg))
    for t in (0.3, 1.0):
        alpha = 9 / (NUM_ITEMS - 1)
        weights = torch.ones_like(logits)
        weights[:, 0] = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
        expected = (weights * terms).mean(1).numpy()
        np.testing.assert_allclose(gbce(s_pos, s_neg, num_items=NUM_ITEMS, t=t), expected, rtol=1e-5)
    np.testing.assert_array_equal(gbce(s_pos, s_neg, num_items=3, t=1.0), bce(s_pos, s_neg))


def test_gbce_takes_back_overconfidence():
    """With ``t = 1`` the best score of an item whose probability is p is the logit of p, as with every negative."""
    share, num_items, num_negatives = 0.3, 101, 2
    candidates = jnp.linspace(-4.0, 4.0, 8001)
    # Averaged over examples, the item is the positive with its share, else a negative as often as it is drawn.
    rate = num_negatives / (num_items - 1)
    positive = gbce(candidates, jnp.full((8001, 2), -1e4), num_items=num_items, t=1.0)
    negative = gbce(jnp.full(8001, 1e4), jnp.stack([candidates, jnp.full(8001, -1e4)], 1), num_items=num_items, t=1.0)
    best = candidates[jnp.argmin(share * positive + (1 - share) * rate * negative)]
    assert float(best) == pytest.approx(np.log(share / (1 - share)), abs=5e-3)


def test_bpr_of_one_negative_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    positive, negatives, _, _ = problem(width=1)
    expected = -torch.nn.functional.logsigmoid(torch.tensor(positive - negatives[:, 0])).numpy()
    np.testing.assert_allclose(bpr(*as_float32(positive, negatives)), expected, rtol=1e-5)


def naive_hits(positives, ids, known=None):
    ids = np.broadcast_to(ids, (len(positives), np.shape(ids)[-1]))
    return [
        [j < 0 or j == positives[i] or (known is not None and j in known[i]) for j in row.tolist()]
        for i, row in enumerate(ids)
    ]


def test_accidental_hits_are_positives_known_items_and_padding():
    rng = np.random.default_rng(9)
    positives, known = rng.integers(-1, 8, 5), rng.integers(-1, 8, (5, 3))
    for ids in (rng.integers(-2, 8, 12), rng.integers(-2, 8, (5, 12))):
        found = accidental_hits(jnp.asarray(positives), jnp.asarray(ids))
        assert found.dtype == jnp.bool_
        np.testing.assert_array_equal(found, naive_hits(positives, ids))
        found = jax.jit(accidental_hits)(jnp.asarray(positives), jnp.asarray(ids), known=jnp.asarray(known))
        np.testing.assert_array_equal(found, naive_hits(positives, ids, known))
    found = accidental_hits(jnp.asarray(positives), jnp.asarray(ids), known=jnp.zeros((5, 0), jnp.int32))
    np.testing.assert_array_equal(found, naive_hits(positives, ids))


def test_known_items_are_compared_without_holding_every_pair():
    rows, width, liked = 64, 256, 256
    shapes = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((rows,), (width,), (rows, liked))]
    compiled = jax.jit(lambda p, n, known: accidental_hits(p, n, known=known)).lower(*shapes).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < rows * width * liked / 4


@pytest.mark.parametrize("name", ORACLES)
def test_bad_scores_are_named(name):
    loss = functools.partial(losses[name], num_items=NUM_ITEMS)
    positive, negatives = jnp.ones(2), jnp.ones((2, 3))
    for wrong in ((positive, jnp.ones(2)), (positive, jnp.ones((3, 3))), (positive, jnp.ones((2, 0)))):
        with pytest.raises(ValueError, match=r"Scores must have shapes \[B\].*\[B, M\]"):
            loss(*wrong)
    with pytest.raises(ValueError, match="negatives must be floating scores; got int32"):
        loss(positive, jnp.ones((2, 3), jnp.int32))
    with pytest.raises(ValueError, match=r"hits must be bool\(2, 3\).*got bool\(3,\)"):
        loss(positive, negatives, hits=jnp.zeros(3, bool))
    with pytest.raises(ValueError, match="got float32"):
        loss(positive, negatives, hits=jnp.zeros((2, 3)))


def test_bad_arguments_are_named():
    positive, negatives = jnp.ones(2), jnp.ones((2, 3))
    with pytest.raises(ValueError, match=r"logq must have shape \(3,\) or \(2, 3\); got \(2,\)"):
        sampled_softmax(positive, negatives, logq=jnp.zeros(2))
    with pytest.raises(ValueError, match="positive_logq is given without logq"):
        sampled_softmax(positive, negatives, positive_logq=jnp.zeros(2))
    with pytest.raises(ValueError, match=r"positive_logq must have shape \(2,\).*got \(3,\)"):
        sampled_softmax(positive, negatives, logq=jnp.zeros(3), positive_logq=jnp.zeros(3))
    with pytest.raises(ValueError, match="num_items is None"):
        gbce(positive, negatives)
    with pytest.raises(ValueError, match="num_items is 1"):
        gbce(positive, negatives, num_items=1)
    for t in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=f"t is {t}"):
            gbce(positive, negatives, num_items=9, t=t)
    with pytest.raises(ValueError, match="There is no loss named 'softmax'"):
        losses["softmax"]
    ids = jnp.array([0, 1])
    for wrong in (
        (ids[:, None], ids),
        (ids, jnp.zeros((3, 4), jnp.int32)),
        (ids, jnp.int32(1)),
        (ids, ids[None, None]),
    ):
        with pytest.raises(ValueError, match=r"positives must have shape \[B\]"):
            accidental_hits(*wrong)
    with pytest.raises(ValueError, match=r"known must have shape \[B, P\] with B = 2"):
        accidental_hits(ids, ids, known=ids)
    with pytest.raises(ValueError, match="negative_ids must be integers; got float32"):
        accidental_hits(ids, jnp.ones(3))
