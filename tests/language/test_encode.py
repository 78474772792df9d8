"""Embeddings of texts: the same however they are batched, cached, and found again after a kill."""

from __future__ import annotations

import dataclasses
import io
import signal
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from rich.console import Console

from recjax import language
from recjax.fit import Progress
from recjax.language import encoding


@pytest.fixture
def calls(monkeypatch):
    """The shapes that are computed, in order."""
    shapes, real = [], encoding._vectors

    def counted(module, params, ids, mask, *options):
        shapes.append(ids.shape)
        return real(module, params, ids, mask, *options)

    monkeypatch.setattr(encoding, "_vectors", counted)
    return shapes


apply = jax.jit(lambda module, params, ids: module.apply(params, ids), static_argnums=0)


def one_by_one(model, texts, pooling="mean"):
    """Without padding, sorting, batches or anything else of the module under test."""
    rows = []
    for ids in model.tokenizer(texts):
        if len(ids) == 0:
            rows.append(np.zeros(model.config.dim))
            continue
        hidden = np.asarray(apply(model.module, model.params, jnp.asarray(ids[None])))[0]
        rows.append({"mean": hidden.mean(axis=0), "cls": hidden[0], "last": hidden[-1]}[pooling])
    return np.stack(rows)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_as_each_alone_and_in_order(pooling, small, titles):
    found = language.encode(small, titles, pooling=pooling, batch_size=3)
    assert found.shape == (len(titles), 8)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, one_by_one(small, titles, pooling), rtol=1e-5, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 0.01


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_neither_batches_nor_order_matter(batch_size, small, titles):
    plain = language.encode(small, titles)
    order = np.random.default_rng(0).permutation(len(titles))
    found = language.encode(small, [titles[i] for i in order], batch_size=batch_size)
    np.testing.assert_allclose(found, plain[order], rtol=1e-5, atol=1e-6)


def test_normalized(small, titles):
    plain, unit = language.encode(small, titles), language.encode(small, titles, normalize=True)
    np.testing.assert_allclose(unit, plain / np.linalg.norm(plain, axis=1, keepdims=True), rtol=1e-5, atol=1e-6)


def test_texts_without_tokens_are_zero(models, tokenizer):
    """A decoder's tokenizer adds nothing to an empty text."""
    plain = type(tokenizer.backend).from_str(tokenizer.to_json())
    plain.post_processor = tokenizers.processors.Sequence([])
    model = dataclasses.replace(models["llama"], tokenizer=language.TextTokenizer(plain, 24))
    for normalize in (False, True):
        found = language.encode(model, ["toy", "", "story"], pooling="last", normalize=normalize)
        np.testing.assert_array_equal(found[1], np.zeros(16))
        assert np.abs(found[[0, 2]]).max(axis=1).min() > 0.01


def test_of_long_texts_the_beginning_counts(small):
    words = "the third man and the toy story " * 5
    one, other = language.encode(small, [words, words + "good morning"])
    np.testing.assert_array_equal(one, other)


def test_nothing(small, tmp_path):
    assert language.encode(small, [], cache=tmp_path).shape == (0, 8)
    assert not list(tmp_path.rglob("*.npz"))


def test_texts_that_occur_several_times_are_encoded_once(small, calls):
    found = language.encode(small, ["toy"] * 50 + ["story"], batch_size=2)
    assert calls == [(2, 6)]
    np.testing.assert_array_equal(found[:50], np.broadcast_to(found[0], (50, 8)))


def test_one_compilation_for_each_length(small, titles):
    some = [f"{title} {i}" for i in range(7) for title in titles]
    language.encode(small, some, batch_size=5)
    before = encoding._vectors._cache_size()
    language.encode(small, [" ".join(reversed(title.split())) for title in some], batch_size=5)
    assert encoding._vectors._cache_size() == before


def test_lengths_are_few_and_no_longer_than_the_positions(small, calls):
    texts = ["toy " * n for n in range(1, 60)]
    language.encode(small, texts, batch_size=4)
    assert {length for _, length in calls} <= {4, 6, 8, 10, 12, 14, 16, 20, 24}
    lengths = {0: 2, 1: 2, 13: 14, 16: 16, 17: 20, 33: 40, 512: 512, 513: 640, 1500: 1536}
    assert {length: encoding._padded(length, 10_000) for length in lengths} == lengths
    assert encoding._padded(300, 310) == 310


def test_settings_of_the_caller_hold(small, monkeypatch):
    found, real = [], encoding._vectors

    def seen(*arguments):
        found.append((jax.config.jax_default_matmul_precision, jax.config.jax_default_device))
        return real(*arguments)

    monkeypatch.setattr(encoding, "_vectors", seen)
    device = jax.devices()[-1]
    with jax.default_matmul_precision("highest"), jax.default_device(device):
        language.encode(small, ["toy"])
    language.encode(small, ["toy"])
    assert found == [("highest", device), (None, None)]


def test_cached_embeddings_are_not_recomputed(small, titles, calls, tmp_path):
    first = language.encode(small, titles[:4], cache=tmp_path)
    done = len(calls)
    np.testing.assert_array_equal(language.encode(small, titles[:4][::-1], cache=tmp_path), first[::-1])
    assert len(calls) == done
    both = language.encode(small, titles, cache=tmp_path)
    np.testing.assert_array_equal(both[:4], first)
    assert len(calls) > done


@pytest.mark.parametrize("change", ["params", "config", "pooling", "normalize", "max_length", "dtype", "tokenizer"])
def test_what_was_made_otherwise_is_not_found(change, small, tokenizer, calls, tmp_path):
    model, options = small, {}
    if change == "params":
        params = jax.tree.map(lambda leaf: leaf, small.params)
        params["params"]["words"]["embedding"] = params["params"]["words"]["embedding"].at[3, 3].add(1e-6)
        model = dataclasses.replace(small, params=params)
    elif change == "config":
        config = dataclasses.replace(small.config, norm_eps=0.1)
        model = dataclasses.replace(small, config=config, module=language.Transformer(config))
    elif change == "dtype":
        model = dataclasses.replace(small, module=language.Transformer(small.config, dtype=jnp.bfloat16))
    elif change in ("max_length", "tokenizer"):
        backend = type(tokenizer.backend).from_str(tokenizer.to_json())
        if change == "tokenizer":
            backend.normalizer = tokenizers.normalizers.NFC()
        model = dataclasses.replace(
            small, tokenizer=language.TextTokenizer(backend, 20 if change == "max_length" else 24)
        )
    else:
        options = {"pooling": "last"} if change == "pooling" else {"normalize": True}
    language.encode(small, ["toy"], cache=tmp_path)
    done = len(calls)
    language.encode(model, ["toy"], cache=tmp_path, **options)
    assert len(calls) == done + 1


def test_a_damaged_file_is_named(small, tmp_path):
    language.encode(small, ["toy"], cache=tmp_path)
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"{path.name} are damaged .*; delete the file"):
        language.encode(small, ["toy"], cache=tmp_path)


def test_an_error_leaves_no_part_of_a_file(small, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space left"):
        language.encode(small, ["toy"], cache=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


RUN = """
import sys, time
from recjax import language
from recjax.language import embedding_cache, encoding
folder, cache = sys.argv[1:]
embedding_cache.FLUSH_SECONDS = 0.0
real = encoding._vectors
def slow(*arguments):
    time.sleep(0.2)
    print("batch\\n", end="", flush=True)
    return real(*arguments)
encoding._vectors = slow
language.encode(language.load(folder), [f"toy story {i}" for i in range(40)], batch_size=4, cache=cache)
"""


def test_a_run_that_is_killed_goes_on_where_it_was(small, calls, tmp_path):
    language.save(small, tmp_path / "model")
    texts, cache = [f"toy story {i}" for i in range(40)], tmp_path / "cache"
    command = [sys.executable, "-c", textwrap.dedent(RUN), str(tmp_path / "model"), str(cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        for _ in range(4):
            assert run.stdout.readline() == "batch\n"
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    found = language.encode(language.load(tmp_path / "model"), texts, batch_size=4, cache=cache)
    assert 4 <= len(calls) <= 8, "of ten batches two or more were saved"
    np.testing.assert_allclose(found, language.encode(small, texts), rtol=1e-5, atol=1e-6)


def test_progress_counts_texts(small, titles):
    shown = io.StringIO()
    clock = iter(range(0, 10_000, 5))
    with Progress(console=Console(file=shown, width=200), every=1, clock=lambda: next(clock)) as progress:
        language.encode(small, titles, batch_size=2, progress=progress)
    lines = shown.getvalue().splitlines()
    assert lines[-1].startswith("encode 100%")
    assert "texts/s" in shown.getvalue()


def test_what_cannot_be_is_said(small, models):
    with pytest.raises(ValueError, match="no tokenizer"):
        language.encode(dataclasses.replace(small, tokenizer=None), ["toy"])
    with pytest.raises(ValueError, match="batch_size is 0"):
        language.encode(small, ["toy"], batch_size=0)
    with pytest.raises(ValueError, match=r"texts\[1\] is 3, a int"):
        language.encode(small, ["toy", 3])
    with pytest.raises(ValueError, match="texts is one string"):
        language.encode(small, "toy")
    with pytest.raises(ValueError, match="pooling is 'max'"):
        language.encode(small, ["toy"], pooling="max")
