"""Masks are drawn as BERT's code draws them; losses are those of NumPy on PyTorch's logits."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import language
from recjax.language.objectives import num_masked

V = 50
VOCABULARY = language.Vocabulary(jnp.array(4), jnp.arange(5, V), jnp.arange(V) >= 5)
mask_all = jax.jit(jax.vmap(lambda key, ids, mask: language.mask_tokens(key, ids, mask, VOCABULARY)))


@pytest.fixture(scope="module")
def drawn():
    """Texts of every length up to 40, special tokens inside, and the same masked."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, V, (4000, 40)).astype(np.int32)
    ids[:, 0], ids[rng.random(ids.shape) < 0.1] = 2, 1
    mask = np.arange(40) < rng.integers(0, 41, 4000)[:, None]
    masked = mask_all(jax.random.split(jax.random.key(0), 4000), jnp.asarray(ids), jnp.asarray(mask))
    return ids, mask, language.MaskedTokens(*map(np.asarray, masked))


def is_masked(ids, masked):
    where = np.zeros(ids.shape, bool)
    rows, columns = np.nonzero(masked.valid)
    where[rows, masked.positions[rows, columns]] = True
    return where


def test_fifteen_percent_of_ordinary_tokens_are_masked_and_nothing_else_changes(drawn):
    ids, mask, masked = drawn
    where, ordinary = is_masked(ids, masked), (ids >= 5) & mask
    assert not (where & ~ordinary).any()
    # As BERT's code has it: max(1, int(round(n * 0.15))).
    expected = [max(1, round(0.15 * n)) if n else 0 for n in ordinary.sum(axis=1).tolist()]
    np.testing.assert_array_equal(where.sum(axis=1), expected)
    np.testing.assert_array_equal(masked.valid.sum(axis=1), expected)
    np.testing.assert_array_equal(masked.ids[~where], ids[~where])
    rows, columns = np.nonzero(masked.valid)
    np.testing.assert_array_equal(masked.targets[rows, columns], ids[rows, masked.positions[rows, columns]])


def test_eighty_ten_ten(drawn):
    ids, _, masked = drawn
    where = is_masked(ids, masked)
    shown, original, n = masked.ids[where], ids[where], where.sum()
    bound = lambda p: 4 * np.sqrt(p * (1 - p) / n)  # noqa: E731
    assert abs((shown == 4).mean() - 0.8) < bound(0.8)
    # One of the random tokens in 45 is the original one.
    unchanged = 0.1 + 0.1 / 45
    assert abs((shown == original).mean() - unchanged) < bound(unchanged)
    others = shown[(shown != 4) & (shown != original)]
    assert others.min() == 5
    assert others.max() == V - 1
    assert np.bincount(others, minlength=V)[5:].max() < 3 * len(others) / 45


def test_every_ordinary_token_is_as_likely(drawn):
    ids = jnp.tile(jnp.array([[2, *range(5, 12), 3, 0]]), (6000, 1))
    masked = mask_all(jax.random.split(jax.random.key(1), 6000), ids, jnp.tile(jnp.arange(10) < 9, (6000, 1)))
    share = is_masked(np.asarray(ids), language.MaskedTokens(*map(np.asarray, masked))).mean(axis=0)
    np.testing.assert_array_equal(share[[0, 8, 9]], 0)
    np.testing.assert_allclose(share[1:8], 1 / 7, atol=0.02)


def test_masks_depend_on_their_key_alone():
    ids, mask = jnp.arange(5, 25), jnp.ones(20, bool)
    keys = jax.random.split(jax.random.key(0), 3)
    three = mask_all(keys, jnp.tile(ids, (3, 1)), jnp.tile(mask, (3, 1)))
    alone = mask_all(keys[1:2], ids[None], mask[None])
    np.testing.assert_array_equal(three.ids[1], alone.ids[0])
    assert (three.positions[0] != three.positions[1]).any()


def test_the_vocabulary_of_a_model(small):
    found = language.vocabulary(small)
    assert small.tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert int(found.mask_id) == small.tokenizer.mask_id == 4
    rows = len(small.tokenizer.backend.get_vocab())
    np.testing.assert_array_equal(found.ordinary, np.arange(5, rows))
    np.testing.assert_array_equal(np.flatnonzero(found.is_ordinary), found.ordinary)


def jitted(function):
    return jax.jit(function, static_argnums=0, static_argnames=("temperature", "pooling"))


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def test_masked_loss_equals_that_on_the_logits_of_pytorch(frozen, models, expected):
    """Masked positions whose tokens stay as they are, so that the model reads what PyTorch was given."""
    ids, mask, segments = map(jnp.asarray, frozen.inputs())
    logits = np.zeros((*ids.shape, frozen.VOCABULARY))
    logits[np.asarray(mask)] = expected["bert"]["logits"]
    rng = np.random.default_rng(0)
    positions = np.stack([rng.permutation(ids.shape[1])[:5] for _ in ids])
    valid = np.take_along_axis(np.asarray(mask), positions, axis=1) & (rng.random(positions.shape) < 0.7)
    targets = rng.integers(0, frozen.VOCABULARY, positions.shape)
    masked = language.MaskedTokens(ids, *map(jnp.asarray, (positions, targets, valid)))
    loss = jitted(language.masked_lm_loss)
    found = loss(models["bert"].module, models["bert"].params, masked, mask, types=segments)
    log_p = np.take_along_axis(log_softmax(logits), positions[..., None], axis=1)
    losses = -np.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    assert valid.sum() > 3
    np.testing.assert_allclose(found, np.where(valid, losses, 0).sum(axis=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_causal_loss_equals_that_on_the_logits_of_pytorch(name, frozen, models, expected):
    ids, mask, _ = frozen.inputs()
    logits = np.zeros((*ids.shape, frozen.VOCABULARY))
    logits[mask] = expected[name]["logits"]
    loss = jitted(language.causal_lm_loss)
    found = loss(models[name].module, models[name].params, jnp.asarray(ids), jnp.asarray(mask))
    assert found[2] == 0, "a text of one token has no next token"
    for row, one in enumerate(found):
        length = mask[row].sum()
        log_p = log_softmax(logits[row, : length - 1])
        np.testing.assert_allclose(one, -log_p[np.arange(length - 1), ids[row, 1:length]].sum(), rtol=1e-4)


def test_contrastive_loss_knows_equal_texts(small):
    """Of three pairs two have the same partner, so the third is their only negative."""
    ids = jnp.array([[[2, 9, 3], [2, 8, 3], [2, 7, 3]], [[2, 6, 3], [2, 6, 3], [2, 5, 3]]])
    info_nce = jitted(language.contrastive_loss)
    loss = lambda ids: info_nce(small.module, small.params, ids, ids > 0, temperature=0.5, pooling="mean")  # noqa: E731
    whole = loss(ids)
    np.testing.assert_allclose(whole[0], loss(ids[:, [0, 2]])[0], rtol=1e-5)
    np.testing.assert_allclose(whole[1], loss(ids[:, [1, 2]])[0], rtol=1e-5)
    assert abs(whole[2] - loss(ids[:, [0, 2]])[1]) > 0.01


def test_pooled_is_what_encode_gives(small, titles):
    (ids,) = small.tokenizer(titles[:1])
    found = language.pooled(small.module, small.params, jnp.asarray(ids)[None], jnp.ones((1, len(ids)), bool), "last")
    np.testing.assert_allclose(found, language.encode(small, titles[:1], pooling="last"), rtol=1e-5, atol=1e-6)


def test_held_out_loss_is_the_mean_over_tokens_however_texts_are_batched(models, small, tokenizer, titles):
    model = dataclasses.replace(models["gpt2"], tokenizer=tokenizer)
    apply = jax.jit(
        lambda ids: model.module.apply(model.params, model.module.apply(model.params, ids), method="logits")
    )
    total = count = 0.0
    for ids in tokenizer(titles):
        log_p = log_softmax(apply(jnp.pad(ids, (0, 24 - len(ids)))[None])[0])
        total -= log_p[np.arange(len(ids) - 1), ids[1:]].sum()
        count += len(ids) - 1
    evaluation = language.evaluate_text(model, titles, "causal")
    np.testing.assert_allclose(evaluation.loss, total / count, rtol=1e-4)
    assert evaluation.num_tokens == count
    np.testing.assert_allclose(evaluation.perplexity, np.exp(total / count), rtol=1e-4)
    found = [
        language.evaluate_text(small, titles, "masked", key=jax.random.key(3), batch_size=size).loss for size in (2, 32)
    ]
    np.testing.assert_allclose(*found, rtol=1e-5)
    assert abs(found[0] - language.evaluate_text(small, titles, "masked", key=jax.random.key(4)).loss) > 1e-3
    assert num_masked([0, 1, 10, 20], 0.15).tolist() == [0, 1, 2, 3]


def test_what_cannot_be_is_said(small, models):
    headless = dataclasses.replace(small, params={"params": {**small.params["params"]}})
    del headless.params["params"]["head"]
    for model, objective, message in (
        (small, "next", "objective is 'next'; a loss per token is that of masked, causal or answers"),
        (small, "causal", "'causal', but 'bert' attends to later tokens"),
        (models["llama"], "masked", "'masked', but 'llama' attends to earlier tokens only; use 'causal'"),
        (headless, "masked", r"no head for masked tokens; .* with_head\(model, key\)"),
        (dataclasses.replace(small, tokenizer=None), "masked", "has no tokenizer; give LanguageModel.tokenizer"),
    ):
        with pytest.raises(ValueError, match=message):
            language.evaluate_text(model, ["toy"], objective)
    for options, message in (
        ({"batch_size": -1}, "batch_size is -1; it must be at least 1"),
        ({"mask_share": float("nan")}, r"mask_share is nan; it must lie in \(0, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            language.evaluate_text(small, ["toy"], "masked", **options)
    with pytest.raises(ValueError, match="None of the 2 texts has a token to predict"):
        language.evaluate_text(small, ["", ""], "masked")
    backend = type(small.tokenizer.backend)(small.tokenizer.backend.model.__class__({"a": 0}, unk_token="a"))
    with pytest.raises(ValueError, match=r"neither \[MASK\] nor <mask>"):
        language.vocabulary(dataclasses.replace(small, tokenizer=language.TextTokenizer(backend, 9)))
