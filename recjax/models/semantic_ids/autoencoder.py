"""The two networks around a quantiser: vectors to latents and back."""

from __future__ import annotations

import flax.linen as nn

from recjax.types import Array


class Autoencoder(nn.Module):
    """Two multi-layer perceptrons with ReLU, mirror images of each other.

    Attributes:
      dim: width of the vectors (``D``).
      latent: width of what is quantised.
      hidden: widths of the encoder's layers between them; the decoder has them in reverse.
    """

    dim: int
    latent: int = 32
    hidden: tuple[int, ...] = (256, 128)

    def setup(self) -> None:
        """Declares the parameters."""
        self.encoder_layers = [nn.Dense(width) for width in (*self.hidden, self.latent)]
        self.decoder_layers = [nn.Dense(width) for width in (*reversed(self.hidden), self.dim)]

    def __call__(self, vectors: Array) -> Array:
        """Vectors as they come back when nothing is quantised, ``f32[B, D]``."""
        return self.decode(self.encode(vectors))

    def encode(self, vectors: Array) -> Array:
        """``f32[B, D] -> f32[B, latent]``."""
        return _perceptron(self.encoder_layers, vectors)

    def decode(self, latents: Array) -> Array:
        """``f32[B, latent] -> f32[B, D]``."""
        return _perceptron(self.decoder_layers, latents)


def _perceptron(layers: list[nn.Dense], x: Array) -> Array:
    for layer in layers[:-1]:
        x = nn.relu(layer(x))
    return layers[-1](x)
