"""Configs of language models: one for three families, read from and written as a Hugging Face ``config.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

Family = Literal["bert", "gpt2", "llama"]
"""Names of architectures, as ``model_type`` in ``config.json``."""

Act = Literal["gelu", "gelu_tanh", "relu", "silu"]
"""Of feed-forward layers; "gelu" is the exact one, "gelu_tanh" its approximation with tanh."""


class Traits(NamedTuple):
    """The architecture that the layers of a family share.

    Attributes:
      causal: whether a position attends to none that come later.
      pre_norm: norms stand before each sublayer and once at the end, or else after each residual sum.
      rms_norm: norms divide by the root mean square alone (Zhang, Sennrich, NeurIPS 2019).
      gated: feed-forward layers are ``down(act(gate(x)) * up(x))`` (Shazeer, "GLU Variants", 2020).
      rotary: positions rotate queries and keys, or else are learned vectors.
    """

    causal: bool
    pre_norm: bool
    rms_norm: bool
    gated: bool
    rotary: bool


TRAITS: dict[str, Traits] = {
    "bert": Traits(causal=False, pre_norm=False, rms_norm=False, gated=False, rotary=False),
    "gpt2": Traits(causal=True, pre_norm=True, rms_norm=False, gated=False, rotary=False),
    "llama": Traits(causal=True, pre_norm=True, rms_norm=True, gated=True, rotary=True),
}

ACTIVATIONS: dict[str, Act] = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu", "silu": "silu",
    "swish": "silu",
}  # fmt: skip
"""From Hugging Face's names to ours; the first name of each is the one that is written."""


@dataclasses.dataclass(frozen=True)
class LanguageConfig:
    """The architecture of a language model and its sizes.

    Attributes:
      family: "bert" (Devlin et al., NAACL 2019), "gpt2" (Radford et al., 2019) or "llama" (Touvron et al., 2023).
      vocab_size: tokens, ``V``.
      dim: width of hidden states, ``D``.
      num_layers: transformer layers.
      num_heads: attention heads.
      feed_forward: width of the feed-forward layers.
      max_length: tokens of a text at most; learned positions have as many vectors.
      num_kv_heads: heads of keys and values, which divide ``num_heads`` (Ainslie et al., "GQA", EMNLP 2023); 0
        for as many as there are queries.
      head_dim: width of a head; 0 for ``dim / num_heads``.
      activation: of the feed-forward layers, see :data:`Act`.
      norm_eps: added to variances or mean squares.
      rope_theta: base of rotary positions.
      num_types: kinds of segments ("bert").
      tie_embeddings: whether the head of a decoder reads the word embeddings.
      attention_bias: whether the projections of attention have biases ("llama"; the others do).
      feed_forward_bias: the same of the feed-forward layers.
      dropout: share dropped of what each sublayer adds.
      attention_dropout: share dropped of attention weights.
      embedding_dropout: share dropped of embeddings.
      initializer_range: standard deviation of fresh weights.
      bos_id: token that begins a text, or None.
      eos_id: token that ends a text, or None.
      pad_id: token that pads batches, or None; it is always masked.
    """

    family: Family
    vocab_size: int
    dim: int
    num_layers: int
    num_heads: int
    feed_forward: int
    max_length: int
    num_kv_heads: int = 0
    head_dim: int = 0
    activation: Act = "gelu"
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    num_types: int = 2
    tie_embeddings: bool = True
    attention_bias: bool = False
    feed_forward_bias: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0
    embedding_dropout: float = 0.0
    initializer_range: float = 0.02
    bos_id: int | None = None
    eos_id: int | None = None
    pad_id: int | None = None

    def __post_init__(self) -> None:
        _check_choice("family", self.family, get_args(Family))
        _check_choice("activation", self.activation, get_args(Act))
        object.__setattr__(self, "num_kv_heads", self.num_kv_heads or self.num_heads)
        for name in (
            "vocab_size", "dim", "num_layers", "num_heads", "num_kv_heads", "feed_forward", "max_length", "num_types",
        ):  # fmt: skip
            _check_integer(name, getattr(self, name), 1)
        _check_integer("head_dim", self.head_dim, 0)
        if not self.head_dim and self.dim % self.num_heads:
            raise ValueError(
                f"LanguageConfig.num_heads is {self.num_heads}, which does not divide dim {self.dim};"
                " choose a divisor or give head_dim."
            )
        object.__setattr__(self, "head_dim", self.head_dim or self.dim // self.num_heads)
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"LanguageConfig.num_kv_heads is {self.num_kv_heads}, which does not divide num_heads {self.num_heads};"
                " choose a divisor."
            )
        if self.traits.rotary and self.head_dim % 2:
            raise ValueError(f"LanguageConfig.head_dim is {self.head_dim}; rotary positions need an even one.")
        if self.family != "llama":
            object.__setattr__(self, "attention_bias", True)
            object.__setattr__(self, "feed_forward_bias", True)
        for name in ("dropout", "attention_dropout", "embedding_dropout"):
            _check_number(name, getattr(self, name), 0)
            if not getattr(self, name) < 1:
                raise ValueError(f"LanguageConfig.{name} is {getattr(self, name)}; it must lie in [0, 1).")
        for name in ("norm_eps", "rope_theta", "initializer_range"):
            _check_number(name, getattr(self, name), 0)
        if not self.rope_theta:
            raise ValueError("LanguageConfig.rope_theta is 0; rotary positions need a base above 0, e.g. 10,000.")
        for name in ("bos_id", "eos_id", "pad_id"):
            if getattr(self, name) is not None:
                _check_integer(name, getattr(self, name), -1)  # Hugging Face's files say -1 for none.
        for name in ("tie_embeddings", "attention_bias", "feed_forward_bias"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"LanguageConfig.{name} is {getattr(self, name)!r}; it must be true or false.")

    @property
    def traits(self) -> Traits:
        """The architecture of the family's layers."""
        return TRAITS[self.family]


# Fields of LanguageConfig and the keys of config.json that hold them; those without a default must be there.
_SHARED = {
    "vocab_size": "vocab_size", "initializer_range": "initializer_range", "bos_id": "bos_token_id",
    "eos_id": "eos_token_id", "pad_id": "pad_token_id",
}  # fmt: skip
_BERT = {
    **_SHARED, "dim": "hidden_size", "num_layers": "num_hidden_layers", "num_heads": "num_attention_heads",
    "feed_forward": "intermediate_size", "max_length": "max_position_embeddings", "activation": "hidden_act",
    "norm_eps": "layer_norm_eps", "num_types": "type_vocab_size", "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob", "embedding_dropout": "hidden_dropout_prob",
}  # fmt: skip
_GPT2 = {
    **_SHARED, "dim": "n_embd", "num_layers": "n_layer", "num_heads": "n_head", "feed_forward": "n_inner",
    "max_length": "n_positions", "activation": "activation_function", "norm_eps": "layer_norm_epsilon",
    "tie_embeddings": "tie_word_embeddings", "dropout": "resid_pdrop", "attention_dropout": "attn_pdrop",
    "embedding_dropout": "embd_pdrop",
}  # fmt: skip
_LLAMA = {
    **_SHARED, "dim": "hidden_size", "num_layers": "num_hidden_layers", "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads", "head_dim": "head_dim", "feed_forward": "intermediate_size",
    "max_length": "max_position_embeddings", "activation": "hidden_act", "norm_eps": "rms_norm_eps",
    "rope_theta": "rope_theta", "tie_embeddings": "tie_word_embeddings", "attention_bias": "attention_bias",
    "feed_forward_bias": "mlp_bias", "attention_dropout": "attention_dropout",
}  # fmt: skip
_KEYS: dict[str, dict[str, str]] = {"bert": _BERT, "gpt2": _GPT2, "llama": _LLAMA}

# Defaults of Hugging Face where the key is missing.
_ABSENT: dict[str, dict[str, Any]] = {
    "bert": {"activation": "gelu", "norm_eps": 1e-12, "num_types": 2, "dropout": 0.1, "attention_dropout": 0.1,
             "embedding_dropout": 0.1},
    "gpt2": {"activation": "gelu_new", "norm_eps": 1e-5, "feed_forward": None, "dropout": 0.1,
             "attention_dropout": 0.1, "embedding_dropout": 0.1},
    "llama": {"activation": "silu", "norm_eps": 1e-6, "tie_embeddings": False},
}  # fmt: skip

# Keys that change what is computed, and the only values that are supported.
_ONLY: dict[str, dict[str, tuple[Any, ...]]] = {
    "bert": {
        "position_embedding_type": ("absolute",), "is_decoder": (False,), "add_cross_attention": (False,),
        "tie_word_embeddings": (True,),
    },
    "gpt2": {
        "scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,), "add_cross_attention": (False,),
    },
    "llama": {"rope_scaling": (None,), "sliding_window": (None,), "partial_rotary_factor": (None, 1, 1.0)},
}  # fmt: skip
_ARCHITECTURES = {
    "bert": ("BertModel", "BertForMaskedLM"), "gpt2": ("GPT2LMHeadModel",) * 2, "llama": ("LlamaForCausalLM",) * 2,
}  # fmt: skip


def from_hugging_face(values: Mapping[str, Any], where: str = "config.json") -> LanguageConfig:
    """The config from the content of a ``config.json``.

    Args:
      values: the parsed JSON.
      where: the file, for messages.

    Raises:
      ValueError: an unknown architecture, a key that is missing, or a value that is not supported.

    >>> llama = {"model_type": "llama", "vocab_size": 64, "hidden_size": 8, "num_hidden_layers": 2,
    ...          "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 16,
    ...          "max_position_embeddings": 32, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}
    >>> from_hugging_face(llama)
    Traceback (most recent call last):
    ...
    ValueError: config.json: rope_scaling is {'rope_type': 'llama3', 'factor': 8.0}; supported: None.
    """
    family: Any = values.get("model_type")
    if family not in get_args(Family):
        raise ValueError(f"{where}: model_type is {family!r}; supported: {', '.join(get_args(Family))}.")
    values = _with_plain_rope(values, where) if family == "llama" else values
    for key, allowed in _ONLY[family].items():
        if key in values and values[key] not in allowed:
            raise ValueError(f"{where}: {key} is {values[key]!r}; supported: {', '.join(map(repr, allowed))}.")
    defaults = {field.name: field.default for field in dataclasses.fields(LanguageConfig)} | _ABSENT[family]
    found: dict[str, Any] = {"family": family}
    for name, key in _KEYS[family].items():
        value = values.get(key)
        if value is None and defaults[name] is dataclasses.MISSING:
            raise ValueError(f"{where}: the key {key!r} is missing, without which a {family} model has no shape.")
        found[name] = defaults[name] if value is None else value
    if not isinstance(found["activation"], str) or found["activation"] not in ACTIVATIONS:
        key = _KEYS[family]["activation"]
        raise ValueError(f"{where}: {key} is {found['activation']!r}; supported: {', '.join(ACTIVATIONS)}.")
    found["activation"] = ACTIVATIONS[found["activation"]]
    if family == "gpt2":
        found["feed_forward"] = found["feed_forward"] or 4 * found["dim"]
    if (
        isinstance(found["eos_id"], list) and found["eos_id"]
    ):  # Chat models may have several; the first is the main one.
        found["eos_id"] = found["eos_id"][0]
    try:
        return LanguageConfig(**found)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def to_hugging_face(config: LanguageConfig, *, head: bool = False) -> dict[str, Any]:
    """The content of a ``config.json`` for ``config``; ``from_hugging_face`` gives it back.

    Args:
      config: of the model.
      head: whether a BERT has its head for masked tokens, which decides the class that Hugging Face loads.
    """
    written = next(name for name, ours in ACTIVATIONS.items() if ours == config.activation)
    keys = {key: getattr(config, name) for name, key in _KEYS[config.family].items()}
    keys |= {_KEYS[config.family]["activation"]: written}
    architecture = _ARCHITECTURES[config.family][head]
    return {"model_type": config.family, "architectures": [architecture], "dtype": "float32", **keys}


def _with_plain_rope(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Newer files hold ``rope_theta`` inside of ``rope_parameters``; of the default type positions are not scaled.

    A factor without a type is refused, since libraries read it in different ways.
    """
    values = dict(values)
    ropes = [values.pop("rope_scaling", None), values.pop("rope_parameters", None)]
    for rope in filter(None, ropes):
        if not isinstance(rope, Mapping):
            raise ValueError(f"{where}: rope_scaling is {rope!r}; it must be an object with a rope_type, or null.")
        kind = rope.get("rope_type", rope.get("type", "default" if rope.get("factor", 1) == 1 else None))
        if kind != "default":
            values["rope_scaling"] = rope
        values |= {key: rope[key] for key in ("rope_theta", "partial_rotary_factor") if key in rope}
    return values


LARGEST = 2**31 - 1
"""Of sizes and ids, which are int32."""


def _check_integer(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST:
        raise ValueError(
            f"LanguageConfig.{name} is {value!r}; it must be an integer of at least {least} and at most {LARGEST:,}."
        )


def _check_number(name: str, value: Any, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
        raise ValueError(f"LanguageConfig.{name} is {value!r}; it must be a finite number of at least {least}.")


def _check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"LanguageConfig.{name} is {value!r}; choose one of {', '.join(map(repr, allowed))}.")
