"""Greedy continuation: PyTorch's, and the same as without a cache."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import language

DECODERS = ["gpt2", "llama", "llama-untied"]


@functools.partial(jax.jit, static_argnames="module")
def likeliest(module, params, ids):
    return jnp.argmax(module.apply(params, module.apply(params, ids), method="logits"), axis=-1)


@pytest.mark.parametrize("name", DECODERS)
def test_continuation_is_that_of_pytorch(name, models, frozen, expected):
    ids = frozen.inputs()[0][:2, :6]
    np.testing.assert_array_equal(language.generate(models[name], ids, 10), expected[name]["greedy"])
    assert len(np.unique(expected[name]["greedy"])) > 3


@pytest.mark.parametrize("name", DECODERS)
def test_prompts_of_unlike_lengths_continue_as_each_alone(name, models):
    model, prompts = models[name], [[5], [7, 8, 9, 10, 11], [3, 30]]
    together = language.generate(model, prompts, 6)
    for prompt, found in zip(prompts, together, strict=True):
        ids = list(prompt)
        for _ in range(6):  # Without a cache: the whole text again for each token.
            padded = jnp.asarray([ids + [0] * (12 - len(ids))])
            ids.append(int(likeliest(model.module, model.params, padded)[0, len(ids) - 1]))
        assert found.tolist() == ids[len(prompt) :]


def test_one_token(models):
    assert language.generate(models["llama"], [[5, 6]], 1).shape == (1, 1)


@pytest.mark.parametrize(
    ("prompts", "num_tokens", "message"),
    [
        ([[]], 3, r"prompt_ids\[0\] has shape \(0,\)"),
        ([[1], [61]], 3, r"prompt_ids\[1\] holds ids outside of 0 to 60"),
        ([[-1]], 3, r"prompt_ids\[0\] holds ids outside"),
        ([[1]], 0, "num_tokens is 0"),
        ([[1, 2]], 23, "2 tokens and 23 more are above the 24"),
    ],
)
def test_bad_prompts_are_refused(prompts, num_tokens, message, models):
    with pytest.raises(ValueError, match=message):
        language.generate(models["llama"], prompts, num_tokens)


def test_encoders_do_not_continue(models):
    with pytest.raises(ValueError, match="needs a decoder, gpt2 or llama, but the model is a bert"):
        language.generate(models["bert"], [[1]], 3)
