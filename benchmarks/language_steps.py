"""What a language model costs: encoding, a low-rank step and a whole step, in time, memory and arithmetic.

Run:    python benchmarks/language_steps.py --peer-python PATH     (about 5 minutes on two CPU cores)
Smoke:  python benchmarks/language_steps.py --smoke
Prints: one table. All work is on the same random tokens without padding: 32 texts of 32. MiniLM trains on 16 pairs of
        texts ("pairs"), SmolLM2 on next tokens ("causal"), both by AdamW; low rank is 8 for queries and values. Memory
        is what the compiled program needs beside its arguments, and the optimiser's state with the parameters and
        gradients that are trained. Arithmetic counts the multiplications of matrices: a forward pass, twice that where
        gradients pass through frozen weights, three times where weights have gradients; its share is of what a matrix
        product of the same type reaches here. PATH is the interpreter of an environment with the peer, PyTorch, which
        does the same: ``python -m venv peers; peers/bin/pip install transformers peft``.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import tyro
from _measure import Options, measure, megabytes, milliseconds, number, ratio, show, temporary_megabytes

from recjax import fit, language

WORK = ("encode", "low rank", "whole")
PASSES = {"encode": 1, "low rank": 2, "whole": 3}
"""Forward passes that the arithmetic of each is worth."""
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Config(Options):
    models: tuple[str, ...] = ("minilm", "smollm2-135m")
    """Names in ``recjax.language.pretrained``."""
    texts: int = 32
    tokens: int = 32
    rank: int = 8
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the arithmetic; parameters are float32."""
    remat: bool = False
    """Compute layers again in the backward pass, for less memory; the arithmetic of that is not counted."""
    seconds: float = 10.0
    """For each measurement."""
    peer_python: str | None = None
    """Interpreter of an environment with PyTorch, transformers and peft; without it the peer is left out."""


def read(name: str, config: Config) -> language.LanguageModel:
    if not config.smoke:
        return language.load(name, dtype=DTYPES[config.dtype], remat=config.remat)
    tokenizer = language.train_wordpiece(["the toy story", "the third man"], vocab_size=40, max_length=config.tokens)
    shape = {"dim": 8, "num_layers": 2, "num_heads": 2, "feed_forward": 16, "max_length": config.tokens}
    family = "bert" if name == "minilm" else "llama"
    return language.initialize(language.LanguageConfig(family, vocab_size=40, **shape), jax.random.key(0), tokenizer)


def matrix_product(size: int, dtype: str) -> tuple[Callable[[], Any], float | None]:
    """A product of square matrices, a contender of the measurements."""
    one = jnp.ones((size, size), DTYPES[dtype])
    product = jax.jit(jnp.matmul)
    return lambda: product(one, one).block_until_ready(), None


def gigaflop(model: language.LanguageModel, config: Config) -> float:
    """Of a forward pass: matrices of layers, attention, and the head of next tokens, which "encode" is without."""
    shape = model.config
    matrices = sum(leaf.size for leaf in jax.tree.leaves(model.params["params"]["layers"]) if leaf.ndim > 2)
    attention = 2 * config.tokens * shape.dim * shape.num_layers
    return 2 * config.texts * config.tokens * (matrices + attention) / 1e9


def head_gigaflop(model: language.LanguageModel, config: Config) -> float:
    return 2 * config.texts * (config.tokens - 1) * model.config.dim * model.config.vocab_size / 1e9


def ours(name: str, work: str, config: Config) -> tuple[Callable[[], Any], float | None]:
    """One call of the work, and the memory of its program; in a process of its own."""
    model = read(name, config)
    ids = jax.random.randint(jax.random.key(0), (config.texts, config.tokens), 5, model.config.vocab_size)
    there = jnp.ones_like(ids, bool)
    if work == "encode":
        encode = jax.jit(lambda params: language.pooled(model.module, params, ids, there, "mean"))
        compiled = encode.lower(model.params).compile()
        return lambda: compiled(model.params).block_until_ready(), temporary_megabytes(compiled)

    causal = model.config.traits.causal
    training = language.TextConfig("causal" if causal else "pairs")
    fields = ids[None] if causal else ids.reshape(2, config.texts // 2, config.tokens)
    adaptation = adapted(work, config)
    loss, optimizer = language.text_loss(model, training), fit.adamw(5e-5)

    def loss_fn(variables: Any, base: Any, key: jax.Array) -> tuple[jax.Array, dict]:
        params = variables if adaptation is None else adaptation.expand(base, variables)
        return loss(params, fields, jnp.ones_like(fields, bool), key).mean(), {}

    base = None if adaptation is None else model.params
    variables = model.params if adaptation is None else adaptation.init(jax.random.key(0), model.params)
    state = fit.TrainState.create(variables, optimizer)
    update = jax.jit(fit.gradient_step(loss_fn, optimizer), donate_argnums=0)
    compiled = update.lower(state, base, jax.random.key(0)).compile()

    def step() -> None:
        nonlocal state
        state, metrics = compiled(state, base, jax.random.key(0))
        jax.block_until_ready(metrics)

    return step, temporary_megabytes(compiled)


def adapted(work: str, config: Config) -> fit.Adaptation | None:
    """What is trained; None is everything."""
    if work == "whole":
        return None
    return fit.lora(
        config.rank, lambda path: path[-2] in ("query", "value") and path[-1] == "kernel", stacked=language.in_layers
    )


def num_trained(model: language.LanguageModel, work: str, config: Config) -> int:
    adaptation = adapted(work, config)
    if adaptation is None:
        return model.num_params
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(adaptation.init, jax.random.key(0), model.params)))


def peer(model: language.LanguageModel, config: Config) -> dict[str, float]:
    """Seconds of PyTorch, by work."""
    if config.peer_python is None:
        return {}
    script = Path(__file__).with_name("_torch_language_steps.py")
    with tempfile.TemporaryDirectory() as folder:
        language.save(model, Path(folder, "model"))
        numbers = map(str, (config.texts, config.tokens, config.rank, config.seconds))
        command = [config.peer_python, str(script), str(Path(folder, "model")), config.dtype, *numbers]
        lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    found = json.loads(lines[-1])
    print(", ".join(f"{name} {version}" for name, version in found["versions"].items()), flush=True)
    return found["seconds"]


def main(config: Config) -> None:
    if config.smoke:
        config = dataclasses.replace(config, texts=8, tokens=8, rank=2, seconds=0.0, peer_python=None)
    size = 64 if config.smoke else 2048 if jax.default_backend() == "cpu" else 8192
    run = functools.partial(measure, seconds=config.seconds, alone=not config.smoke)
    product = run(matrix_product, size=size, dtype=config.dtype)["seconds"]
    rate = 2 * size**3 / product / 1e9
    rows = []
    for name in config.models:
        model = read(name, config)
        theirs = peer(model, config)
        for work in WORK:
            found = run(ours, name=name, work=work, config=config)
            head = head_gigaflop(model, config) if model.config.traits.causal and work != "encode" else 0.0
            arithmetic = PASSES[work] * (gigaflop(model, config) + head)
            trained = 0 if work == "encode" else num_trained(model, work, config)
            seconds = found["seconds"]
            rows.append([
                f"{name}: {work}", f"{trained:,} ({trained / model.num_params:.2%})" if trained else "",
                milliseconds(seconds), megabytes(found["temporary"]), megabytes(4 * 4 * trained / 1e6),
                number(arithmetic, "GFLOP", 1), number(100 * arithmetic / seconds / rate, "%"),
                ratio(theirs[work] / seconds if theirs else None, 2),
            ])  # fmt: skip
    title = (
        f"{config.texts} texts of {config.tokens} tokens, {config.dtype} on {jax.devices()[0].device_kind};"
        f" a product of {size:,} × {size:,} matrices reaches {rate:,.0f} GFLOP/s"
    )
    headings = ["", "trained", "ms", "temporary MB", "state MB", "GFLOP", "% of the product's rate", "PyTorch"]
    show(config, "language_steps", title, headings, rows, ["jax", "flax", "optax"])


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
