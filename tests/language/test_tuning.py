"""Training of language models: that it learns, what it leaves alone, and that it can stop and go on."""

from __future__ import annotations

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import fit, language

TEXTS = [f"{title} {kind}" for title in ("toy story", "good morning", "space odyssey", "mad world") for kind in
         ("", "the third man", "vietnam", "2001 and the story", "a toy")] + ["", "m"]  # fmt: skip
FAST = {"batch_size": 8, "learning_rate": 0.02, "schedule": "constant", "weight_decay": 0.0}


def make(family, tokenizer, dropout=0.0, scale=0.02):
    shape = {"dim": 8, "num_layers": 2, "num_heads": 2, "feed_forward": 16}
    shape |= {"dropout": dropout, "initializer_range": scale}
    config = language.LanguageConfig(family, vocab_size=61, max_length=24, **shape)
    return language.initialize(config, jax.random.key(0), tokenizer)


@pytest.fixture(scope="session")
def bert(tokenizer):
    return make("bert", tokenizer, 0.1)


@pytest.fixture(scope="session")
def llama(tokenizer):
    return make("llama", tokenizer)


@pytest.mark.parametrize("objective", ["masked", "simcse", "pairs", "causal"])
def test_the_loss_falls_from_scratch(objective, bert, llama):
    model = llama if objective == "causal" else bert
    texts = [(one, one[::-1]) for one in TEXTS] if objective == "pairs" else TEXTS
    config = language.TextConfig(objective, epochs=25, num_buckets=1, **FAST)
    fitted = language.fit_text(model, texts, config, key=jax.random.key(1))
    losses = [row["loss"] for row in fitted.history]
    assert np.mean(losses[-3:]) < 0.75 * losses[0]
    if objective in ("masked", "causal"):
        # Of nearly even logits.
        np.testing.assert_allclose(losses[0], np.log(61), rtol=0.25)
        before, after = (language.evaluate_text(each, TEXTS, objective).loss for each in (model, fitted.model))
        np.testing.assert_allclose(before, np.log(61), rtol=0.1)
        assert after < 0.75 * before
        assert fitted.model.fresh == ()
    assert fitted.num_trained == model.num_params


@pytest.mark.parametrize("dropout", [None, 0.0])
def test_without_learning_and_dropout_the_loss_of_training_is_that_of_evaluation(dropout, tokenizer):
    """In whatever batches, parts and lengths; with the dropout of the model it is not."""
    model, texts = make("llama", tokenizer, 0.3, scale=0.5), [one for one in TEXTS if one][:20]
    config = language.TextConfig(
        "causal", batch_size=10, accumulate=2, num_buckets=3, learning_rate=1e-12, schedule="constant",
        weight_decay=0.0, dropout=dropout,
    )  # fmt: skip
    (row,) = language.fit_text(model, texts, config, key=jax.random.key(0)).history
    apart = abs(row["loss"] - language.evaluate_text(model, texts, "causal").loss)
    assert apart > 0.02 if dropout is None else apart < 1e-3


def test_resumed_training_equals_that_which_never_stopped(bert, tmp_path):
    """Low-rank layers and a head trained whole, deeper layers more slowly; nothing is compiled again."""
    adaptation = fit.chain(
        fit.lora(2, lambda path: path[-2:] == ("query", "kernel"), stacked=language.in_layers),
        fit.only(lambda path: "head" in path),
    )
    config = language.TextConfig(epochs=4, layer_decay=0.5, optimizer="adafactor", num_buckets=2, accumulate=2, **FAST)

    class Killed(Exception):
        pass

    def kill(epoch, model):
        if epoch == 3:
            raise Killed

    def run(**hooks):
        hooks = fit.Hooks(**hooks)
        return language.fit_text(bert, TEXTS, config, key=jax.random.key(1), adaptation=adaptation, hooks=hooks)

    whole = run(callback=lambda epoch, model: {"held_out": language.evaluate_text(model, TEXTS, "masked").loss})
    with pytest.raises(Killed):
        run(checkpoints=fit.Checkpoints(tmp_path), callback=kill)
    resumed = run(checkpoints=fit.Checkpoints(tmp_path))
    jax.tree.map(np.testing.assert_array_equal, resumed.model.params, whole.model.params)
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]
    assert whole.history[-1]["held_out"] == language.evaluate_text(whole.model, TEXTS, "masked").loss

    moved = jax.tree.map(lambda one, other: bool(jnp.any(one != other)), whole.model.params, bert.params)["params"]
    assert all(jax.tree.leaves(moved["head"]))
    assert moved["layers"]["attention"].pop("query") == {"kernel": True, "bias": False}
    assert not any(jax.tree.leaves({part: moved[part] for part in moved if part != "head"}))
    assert "head" not in whole.model.fresh
    assert "words" in whole.model.fresh
    # A and B of two layers; transform, norm and bias of the head.
    assert whole.num_trained == 2 * 2 * (8 * 2) + (8 * 8 + 8) + 2 * 8 + 61


def test_epochs_are_compiled_once(bert, caplog):
    seen = []

    def count(epoch, model):
        seen.append(sum("Compiling jit(epoch)" in record.getMessage() for record in caplog.records))

    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        config = language.TextConfig(epochs=3, num_buckets=3, **FAST)
        language.fit_text(bert, TEXTS, config, key=jax.random.key(0), hooks=fit.Hooks(count))
    assert seen == [1, 1, 1]


def test_low_rank_changes_of_smollm2_are_under_a_percent_of_it():
    """By shapes alone: the config of SmolLM2-135M, low-rank changes of queries and values, and of all layers."""
    config = language.LanguageConfig(
        "llama", vocab_size=49_152, dim=576, num_layers=30, num_heads=9, num_kv_heads=3, feed_forward=1536,
        max_length=8192, rope_theta=1e5,
    )  # fmt: skip
    params = jax.eval_shape(language.Transformer(config).init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    assert size(params) == 134_515_008
    two = fit.lora(8, lambda path: path[-2] in ("query", "value") and path[-1] == "kernel", stacked=language.in_layers)
    variables = jax.eval_shape(two.init, jax.random.key(0), params)
    # r (in + out) for each layer: 30 * 8 * (2 * 576 + 576 + 192).
    assert size(variables) == 460_800
    assert size(variables) < 0.01 * size(params)
    merged = jax.eval_shape(two.expand, params, variables)
    assert jax.tree.map(lambda leaf: leaf.shape, merged) == jax.tree.map(lambda leaf: leaf.shape, params)
    every = fit.lora(4, stacked=language.in_layers)
    assert size(jax.eval_shape(every.init, jax.random.key(0), params)) < 0.01 * size(params)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "mlm"}, "objective is 'mlm'; choose one of masked, causal, simcse, pairs, answers"),
        ({"optimizer": "lion"}, "optimizer is 'lion'; choose one of adamw, adafactor"),
        ({"pooling": "max"}, "pooling is 'max'; choose one of mean, cls, last"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; it must be above 0"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"mask_share": 0.0}, r"mask_share is 0.0; it must lie in \(0, 1\]"),
        ({"layer_decay": 1.5}, r"layer_decay is 1.5; it must lie in \(0, 1\]"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0, e.g. 0.05"),
        ({"dropout": 1.0}, r"dropout is 1.0; it must lie in \[0, 1\), or be None"),
    ],
)
def test_errors_of_the_config(options, message):
    with pytest.raises(ValueError, match=message):
        language.TextConfig(**options)


@pytest.mark.parametrize(
    ("family", "texts", "options", "message"),
    [
        ("bert", ["toy"], {"objective": "causal"}, "'causal', but 'bert' attends to later tokens"),
        ("bert", ["", ""], {}, "None of the 2 examples has enough tokens to learn from"),
        ("bert", ["toy", 3], {}, r"texts\[1\] is 3, a int"),
        ("bert", [("toy", "story"), ("toy",)], {"objective": "pairs"}, r"texts\[1\] is \('toy',\);.*needs two texts"),
        (
            "bert",
            ["toy"] * 4,
            {"objective": "simcse", "batch_size": 4, "accumulate": 4},
            "batch_size 4 and accumulate 4 a part",
        ),
        ("bert", ["toy"] * 2, {"objective": "simcse", "accumulate": 8}, "batch_size 2 and accumulate 8 a part has one"),
        ("bert", ["toy"] * 4, {"objective": "simcse", "dropout": 0.0}, "the model has none; set TextConfig.dropout"),
        ("llama", ["toy"], {}, "'masked', but 'llama' attends to earlier tokens only"),
    ],
)
def test_errors(family, texts, options, message, bert, llama):
    with pytest.raises(ValueError, match=message):
        language.fit_text(
            {"bert": bert, "llama": llama}[family], texts, language.TextConfig(**options), key=jax.random.key(0)
        )
