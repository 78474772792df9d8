"""RQ-VAE: an autoencoder and the codebooks between its halves, learned together."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jax import lax

from recjax.fit import Hooks, LossFn, TrainingPlan, adamw, fit_epochs
from recjax.models.semantic_ids.autoencoder import Autoencoder
from recjax.models.semantic_ids.ids import SemanticIds
from recjax.models.semantic_ids.kmeans import learn_codebooks
from recjax.models.semantic_ids.quantize import check_codebooks, check_vectors, levels_of, residual_codes
from recjax.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class RQVAEConfig:
    """What is learned, and how.

    Attributes:
      levels: how many codes an id has.
      codebook_size: codes of each level (``K``).
      latent: width of what is quantised.
      hidden: widths of the encoder's layers; the decoder has them in reverse.
      epochs: passes over all items.
      batch_size: items in a batch; at most as many as there are, and at least ``codebook_size``.
      learning_rate: of the autoencoder.
      weight_decay: decoupled, of the autoencoder.
      commitment: weight of the loss that keeps latents near their codes.
      decay: of the moving averages that codebooks are.
      revive_below: a code starts again at a vector of the batch once its moving use falls below this
        share of ``batch_size / codebook_size``, which it would have if all were used alike.
    """

    levels: int = 3
    codebook_size: int = 256
    latent: int = 32
    hidden: tuple[int, ...] = (256, 128)
    epochs: int = 200
    batch_size: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    commitment: float = 0.25
    decay: float = 0.99
    revive_below: float = 0.1

    def __post_init__(self) -> None:
        for name in ("latent", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"RQVAEConfig.{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("decay", "revive_below"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"RQVAEConfig.{name} is {getattr(self, name)}; it must lie in (0, 1).")
        if self.commitment < 0:
            raise ValueError(f"RQVAEConfig.commitment is {self.commitment}; it must be at least 0.")


def fit_rq_vae(
    vectors: Array,
    config: RQVAEConfig = RQVAEConfig(),
    *,
    key: Array,
    hooks: Hooks = Hooks(),
) -> SemanticIds:
    """Semantic ids by residual quantisation of latents that are learned for it.

    With latents ``z = encode(v)``, residuals ``r_l`` and chosen codes ``e_l``, the loss is::

        |v - decode(z_q)|² + commitment Σ_l |r_l - sg(e_l)|²,    z_q = z + sg(Σ_l e_l - z)

    summed over features and averaged over the batch; ``sg`` stops gradients. Codebooks start as
    k-means of the first batch's latents and follow as moving averages of the residuals that choose
    each code.

    Args:
      vectors: ``f32[N, D]`` one vector an item.
      config: what is learned, and how.
      key: of the initial parameters, the shuffles and revived codes.
      hooks: callback, early stopping, e.g. ``EarlyStopping("loss", maximise=False)``, progress, which shows the
        loss, its parts, and ``revived``, codes an update, and checkpoints.

    Returns:
      Ids that several items may share, see :func:`recjax.models.semantic_ids.with_extra_level`.

    Raises:
      ValueError: vectors are not finite or not ``[N, D]``, or there are fewer of them, or of a batch,
        than codes of a level.
      RuntimeError: the loss became infinite or NaN.

    References:
      Lee et al., "Autoregressive Image Generation using Residual Quantization", CVPR 2022; Zeghidour
      et al., "SoundStream", 2021, for moving averages and revived codes; Rajput et al. (TIGER),
      NeurIPS 2023, for ids of items.
    """
    vectors = check_vectors(vectors)
    batch_size = min(config.batch_size, len(vectors))
    check_codebooks(batch_size, config.levels, config.codebook_size)
    autoencoder = Autoencoder(vectors.shape[1], config.latent, config.hidden)
    init_key, batch_key, start_key, fit_key = jax.random.split(key, 4)
    variables = jax.jit(autoencoder.init)(init_key, vectors[:1])
    first = vectors[jax.random.permutation(batch_key, len(vectors))[:batch_size]]
    latents = jnp.asarray(autoencoder.apply(variables, first, method="encode"))
    codebooks = jnp.stack(learn_codebooks(start_key, latents, config.levels, config.codebook_size))
    alike = batch_size / config.codebook_size
    moving = {"total": codebooks * alike, "use": jnp.full(codebooks.shape[:2], alike)}
    fitted = fit_epochs(
        rq_vae_loss(autoencoder, config),
        optax.partition(
            {"descends": adamw(config.learning_rate, weight_decay=config.weight_decay), "follows": optax.sgd(1.0)},
            {"autoencoder": "descends", "moving": "follows"},
        ),
        {"autoencoder": variables, "moving": moving},
        vectors,
        TrainingPlan(config.epochs, batch_size, name="rq-vae"),
        key=fit_key,
        hooks=hooks,
        config=config,
    )
    learned = fitted.params["autoencoder"]
    books = tuple(_codebooks(fitted.params["moving"]))
    codes = residual_codes(jnp.asarray(autoencoder.apply(learned, vectors, method="encode")), books)
    return SemanticIds(codes, books, learned, autoencoder)


def rq_vae_loss(autoencoder: Autoencoder, config: RQVAEConfig) -> LossFn:
    """The loss of batches ``f32[B, D]``, see :func:`fit_rq_vae`.

    Parameters are ``autoencoder``, its variables, and ``moving``, the sums ``total: f32[levels, K, latent]``
    and counts ``use: f32[levels, K]`` whose quotients are the codebooks. The gradient of the latter is the
    difference from their next values, so that gradient descent of step 1 makes moving averages of them.
    """

    def loss_fn(params: PyTree, vectors: Array, key: Array) -> tuple[Array, dict[str, Array]]:
        moving = lax.stop_gradient(params["moving"])
        latent = jnp.asarray(autoencoder.apply(params["autoencoder"], vectors, method="encode"))
        commitment, quantized, follow, revived = jnp.float32(0), jnp.zeros_like(latent), jnp.float32(0), []
        codebooks = tuple(_codebooks(moving))
        for level, (residual, codes) in enumerate(levels_of(latent, codebooks)):
            chosen = codebooks[level][codes]
            quantized = quantized + chosen
            commitment += _mean_square(residual - chosen)
            now = {name: leaf[level] for name, leaf in moving.items()}
            level_key = jax.random.fold_in(key, level)
            after, is_dead = _moved(config, now, lax.stop_gradient(residual), codes, level_key)
            revived.append(is_dead.sum())
            for name, leaf in after.items():
                follow += jnp.sum(params["moving"][name][level] * (now[name] - leaf))
        passed = straight_through(latent, quantized)
        decoded = jnp.asarray(autoencoder.apply(params["autoencoder"], passed, method="decode"))
        reconstruction = _mean_square(vectors - decoded)
        loss = reconstruction + config.commitment * commitment
        metrics = {"reconstruction": reconstruction, "commitment": commitment, "revived": sum(revived)}
        return loss + follow - lax.stop_gradient(follow), metrics

    return loss_fn


def straight_through(latent: Array, quantized: Array) -> Array:
    """``quantized``, with the derivative of ``latent``: rounding counts as the identity.

    References:
      Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013.
    """
    return latent + lax.stop_gradient(quantized - latent)


def _codebooks(moving: dict[str, Array]) -> Array:
    return moving["total"] / moving["use"][..., None]


def _moved(
    config: RQVAEConfig, now: dict[str, Array], residual: Array, codes: Array, key: Array
) -> tuple[dict[str, Array], Array]:
    """The moving sums and counts of one level after a batch, and which codes were dead and start again."""
    size, alike = config.codebook_size, len(codes) / config.codebook_size
    use = config.decay * now["use"] + (1 - config.decay) * jnp.bincount(codes, length=size)
    total = config.decay * now["total"] + (1 - config.decay) * jax.ops.segment_sum(residual, codes, size)
    is_dead = use < config.revive_below * alike
    fresh = residual[jax.random.randint(key, (size,), 0, len(residual))]
    return {
        "total": jnp.where(is_dead[:, None], fresh * alike, total),
        "use": jnp.where(is_dead, alike, use),
    }, is_dead


def _mean_square(x: Array) -> Array:
    return jnp.mean(jnp.sum(x**2, axis=-1))
