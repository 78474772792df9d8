"""Tiny models whose weights are made from a seed, as Hugging Face folders, and PyTorch's outputs for them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from recjax import language

SCRIPT = Path(__file__).parents[2] / "scripts" / "freeze_language_models.py"

TITLES = [
    "The Third Man", "Toy Story", "Amélie", "七人の侍", "", "The Third Man", "It's a Mad, Mad, Mad, Mad World",
    "Good Morning, Vietnam", "2001: A Space Odyssey", "M", "the third man and the toy story " * 12,
]  # fmt: skip


@pytest.fixture(scope="session")
def frozen():
    """The script that froze PyTorch's outputs, as a module."""
    spec = importlib.util.spec_from_file_location("freeze_language_models", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def titles():
    return TITLES


@pytest.fixture(scope="session")
def tokenizer():
    return language.train_wordpiece(TITLES, vocab_size=61, max_length=24)


@pytest.fixture(scope="session")
def folders(frozen, tokenizer, tmp_path_factory):
    """A Hugging Face folder for each of the frozen models, by name."""
    made = {}
    for name, config in frozen.CONFIGS.items():
        folder = made[name] = tmp_path_factory.mktemp(name)
        (folder / "config.json").write_text(json.dumps(config))
        save_file(frozen.tensors(name), folder / "model.safetensors")
        (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    return made


@pytest.fixture(scope="session")
def models(folders):
    return {name: language.load(folder) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def expected(frozen):
    return {name: dict(np.load(frozen.FROZEN / f"{name}.npz")) for name in frozen.CONFIGS}


@pytest.fixture(scope="session")
def small(tokenizer):
    """A model from scratch with a tokenizer."""
    shape = {"dim": 8, "num_layers": 2, "num_heads": 2, "feed_forward": 16}
    config = language.LanguageConfig("bert", vocab_size=61, max_length=24, initializer_range=0.5, **shape)
    return language.initialize(config, jax.random.key(0), tokenizer)


@pytest.fixture(scope="session")
def refusal():
    """The message of the ValueError by which a file is refused, or None; no other error is caught."""

    def load(path):
        try:
            language.load(path)
        except ValueError as error:
            return str(error)
        return None

    return load
