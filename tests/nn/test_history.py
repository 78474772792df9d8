"""History encoders against naive float64 NumPy, and what all registered ones must hold."""

from __future__ import annotations

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.nn import (
    BidirectionalEncoder,
    GRUEncoder,
    HistoryEncoder,
    MeanEncoder,
    SelfAttentionEncoder,
    UserTower,
    history_encoders,
)

B, L, D = 4, 5, 6
LENGTHS = (0, 1, 3, 5)


@pytest.fixture(scope="module")
def histories():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(B, L, D)).astype(np.float32)
    mask = np.array([[position >= L - length for position in range(L)] for length in LENGTHS])
    return jnp.asarray(vectors), jnp.asarray(mask)


@pytest.fixture(scope="module", params=list(history_encoders))
def encoder(request, histories):
    """``(name, encode, params)``; every parameter is moved from its initial value, biases too."""
    module = history_encoders.make(request.param)
    return request.param, jax.jit(module.apply), _random_params(module, histories)


def _random_params(module, inputs):
    params = jax.jit(module.init)(jax.random.key(0), *inputs)
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves) + 1)
    moved = [leaf + 0.3 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=False)]
    return jax.tree.unflatten(treedef, moved)


def _float64(params):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])


def test_masked_positions_do_not_matter(encoder, histories):
    _, encode, params = encoder
    vectors, mask = histories
    expected = encode(params, vectors, mask)
    assert expected.shape == (B, D)
    assert jnp.isfinite(expected).all()
    noise = jnp.where(mask[:, :, None], vectors, 1e6)
    np.testing.assert_array_equal(encode(params, noise, mask), expected)


def test_extra_padding_on_the_left_does_not_matter(encoder, histories):
    _, encode, params = encoder
    vectors, mask = histories
    longer = encode(params, jnp.pad(vectors, ((0, 0), (3, 0), (0, 0))), jnp.pad(mask, ((0, 0), (3, 0))))
    np.testing.assert_allclose(longer[1:], encode(params, vectors, mask)[1:], atol=1e-5)
    assert jnp.isfinite(longer).all()


def test_only_sequence_encoders_see_the_order(encoder, histories):
    name, encode, params = encoder
    vectors, mask = histories
    swapped = vectors.at[3, 0].set(vectors[3, 1]).at[3, 1].set(vectors[3, 0])
    change = jnp.abs(encode(params, swapped, mask)[3] - encode(params, vectors, mask)[3]).max()
    assert (change > 1e-3) == (name != "mean")


def test_gradients_are_finite_and_zero_at_padding(encoder, histories):
    _, encode, params = encoder
    vectors, mask = histories
    gradient = jax.jit(jax.grad(lambda p, v: (encode(p, v, mask) ** 2).sum(), argnums=(0, 1)))
    for_params, for_vectors = gradient(params, vectors)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((for_params, for_vectors)))
    assert not for_vectors[~mask].any()
    assert (jnp.abs(for_vectors).max(-1) > 0)[mask].all()


def test_bfloat16_stays_close(encoder, histories):
    name, encode, params = encoder
    vectors, mask = histories
    half = jax.jit(history_encoders.make(name, dtype=jnp.bfloat16).apply)(params, vectors.astype(jnp.bfloat16), mask)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32)[1:], encode(params, vectors, mask)[1:], atol=0.1)


def test_mean_equals_numpy(histories):
    vectors, mask = histories
    encoded = MeanEncoder().apply({}, vectors, mask)
    for row, length in enumerate(LENGTHS):
        kept = np.asarray(vectors, np.float64)[row, L - length :]
        np.testing.assert_allclose(encoded[row], kept.mean(0) if length else np.zeros(D), atol=1e-6)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_gru_equals_numpy(histories):
    vectors, mask = histories
    params = _random_params(GRUEncoder(), histories)
    encoded = jax.jit(GRUEncoder().apply)(params, vectors, mask)
    weights = _float64(params)
    w, b = np.split(weights["input"]["kernel"], 3, axis=1), np.split(weights["input"]["bias"], 3)
    u, c = np.split(weights["recurrent"], 3, axis=1), weights["candidate_bias"]
    for row, length in enumerate(LENGTHS):
        h = np.zeros(D)
        for x in np.asarray(vectors, np.float64)[row, L - length :]:
            r = _sigmoid(x @ w[0] + b[0] + h @ u[0])
            z = _sigmoid(x @ w[1] + b[1] + h @ u[1])
            n = np.tanh(x @ w[2] + b[2] + r * (h @ u[2] + c))
            h = (1 - z) * n + z * h
        np.testing.assert_allclose(encoded[row], h, atol=1e-5)


def test_gru_recurrence_starts_orthogonal(histories):
    weights = _float64(jax.jit(GRUEncoder().init)(jax.random.key(0), *histories))["recurrent"]
    for block in np.split(weights, 3, axis=1):
        np.testing.assert_allclose(block @ block.T, np.eye(D), atol=1e-5)


def _layer_norm(x, weights):
    return (x - x.mean()) / math.sqrt(x.var() + 1e-6) * weights["scale"] + weights["bias"]


def _gelu(x):
    return np.array([0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in x])


def _transformer(weights, history, num_blocks, num_heads, max_length, positions):
    """A causal pre-norm transformer with loops over positions and heads; the last output."""
    steps = len(history)
    number = [i if positions == "from_start" else steps - 1 - i for i in range(steps)]
    x = [history[i] + weights["position"][min(number[i], max_length - 1)] for i in range(steps)]
    for index in range(num_blocks):
        block = weights[f"block_{index}"]
        normed = [_layer_norm(v, block["attention_norm"]) for v in x]
        after = []
        for i in range(steps):
            mixed = block["attention"]["out"]["bias"].copy()
            for head in range(num_heads):
                query, key, value = (
                    lambda v, part=block["attention"][name], head=head: v @ part["kernel"][:, head] + part["bias"][head]
                    for name in ("query", "key", "value")
                )
                logits = np.array([query(normed[i]) @ key(normed[j]) for j in range(i + 1)])
                weight = np.exp(logits / math.sqrt(D / num_heads))
                weight /= weight.sum()
                attended = sum(weight[j] * value(normed[j]) for j in range(i + 1))
                mixed += attended @ block["attention"]["out"]["kernel"][head]
            y = x[i] + mixed
            wide = _gelu(_layer_norm(y, block["feed_forward_norm"]) @ block["wide"]["kernel"] + block["wide"]["bias"])
            after.append(y + wide @ block["narrow"]["kernel"] + block["narrow"]["bias"])
        x = after
    return _layer_norm(x[-1], weights["norm"])


@pytest.mark.parametrize("positions", ["from_start", "from_end"])
@pytest.mark.parametrize(("num_blocks", "num_heads", "max_length"), [(1, 2, 256), (2, 3, 4)])
def test_attention_equals_numpy(histories, num_blocks, num_heads, max_length, positions):
    module = SelfAttentionEncoder(num_blocks, num_heads, max_length, positions)
    params = _random_params(module, histories)
    encoded = jax.jit(module.apply)(params, *histories)
    for row, length in enumerate(LENGTHS):
        if length:
            history = np.asarray(histories[0], np.float64)[row, L - length :]
            expected = _transformer(_float64(params), history, num_blocks, num_heads, max_length, positions)
            np.testing.assert_allclose(encoded[row], expected, atol=2e-5)


def test_attention_names_bad_fields(histories):
    with pytest.raises(ValueError, match="num_heads is 4, which does not divide the width 6"):
        SelfAttentionEncoder(num_heads=4).init(jax.random.key(0), *histories)
    with pytest.raises(ValueError, match="num_blocks is 0"):
        SelfAttentionEncoder(num_blocks=0).init(jax.random.key(0), *histories)


def test_encoders_are_modules_that_declare_what_they_predict():
    for name in history_encoders:
        made = history_encoders.make(name)
        assert isinstance(made, HistoryEncoder)
        assert hash(made) == hash(history_encoders.make(name))
        assert made.is_bidirectional == UserTower(8, name).is_bidirectional == (name == "bidirectional")
    assert UserTower(8, functools.partial(BidirectionalEncoder, num_blocks=1)).is_bidirectional
    with pytest.raises(ValueError, match=r"The encoder .*Dense.* made a Dense; derive it from nn\.HistoryEncoder"):
        _ = UserTower(8, functools.partial(nn.Dense, 8)).is_bidirectional


def test_every_position_is_the_history_that_ends_there(encoder, histories):
    name, encode, params = encoder
    if name == "bidirectional":
        pytest.skip("an encoder that sees both sides looks at the whole history once")
    vectors, mask = histories
    everywhere = history_encoders.make(name).apply(params, vectors, mask, every_position=True)
    assert everywhere.shape == (B, L, D)
    np.testing.assert_allclose(everywhere[1:, -1], encode(params, vectors, mask)[1:], atol=1e-5)
    for position in range(L - 1):
        shift = L - 1 - position
        earlier = jnp.pad(vectors, ((0, 0), (shift, 0), (0, 0)))[:, :L]
        shown = jnp.pad(mask, ((0, 0), (shift, 0)))[:, :L]
        some = np.asarray(shown.any(-1))
        alone = encode(params, earlier, shown)
        np.testing.assert_allclose(everywhere[some, position], alone[some], atol=1e-5)


def test_later_events_do_not_change_earlier_positions(encoder, histories):
    name, _, params = encoder
    if name == "bidirectional":
        pytest.skip("an encoder that sees both sides looks at the whole history once")
    vectors, mask = histories
    module = history_encoders.make(name)
    changed = vectors.at[:, -1].set(7.0)
    some = np.asarray(jnp.cumsum(mask, 1) > 0)[:, :-1]
    before = module.apply(params, vectors, mask, every_position=True)[:, :-1][some]
    np.testing.assert_allclose(
        module.apply(params, changed, mask, every_position=True)[:, :-1][some], before, atol=1e-6
    )
