"""The convolutional baseline."""

from dataclasses import dataclass

import equinox as eqx
import jax
from equinox.nn import Conv1d, Linear
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from heads.base import AbstractHead
from heads.mlp import MLP, check_odd, check_widths
from heads.pooling import masked, max_pool


@dataclass(frozen=True)
class ConvolutionConfig:
    """The sizes of a `Convolution`.

    Args:
        d_model: width of the features.
        d_embedding: width that features are mapped to first.
        channels: channels of each convolution.
        kernel: residues that a convolution sees at once, odd.
        hidden: widths of the hidden layers.
        dropout: share of hidden activations that training drops.

    Raises:
        ValueError: a size is below 1, the kernel even, or the dropout outside 0 to 1.
    """

    d_model: int
    d_embedding: int = 32
    channels: int = 128
    kernel: int = 9
    hidden: tuple[int, ...] = (128,)
    dropout: float = 0.3

    def __post_init__(self):
        check_widths(
            self.dropout,
            d_model=self.d_model,
            d_embedding=self.d_embedding,
            channels=self.channels,
            kernel=self.kernel,
            hidden=self.hidden,
        )
        check_odd(kernel=self.kernel)


class Convolution(AbstractHead):
    """Embedding, two 1-D convolutions with ReLU, maximum over residues, hidden layers."""

    embedding: Linear
    first: Conv1d
    second: Conv1d
    mlp: MLP
    config: ConvolutionConfig = eqx.field(static=True)

    def __init__(self, config: ConvolutionConfig, *, key: PRNGKeyArray):
        embedding, first, second, mlp = jax.random.split(key, 4)
        d_embedding, channels, kernel = config.d_embedding, config.channels, config.kernel
        self.embedding = Linear(config.d_model, d_embedding, use_bias=False, key=embedding)
        self.first = Conv1d(d_embedding, channels, kernel, padding="SAME", key=first)
        self.second = Conv1d(channels, channels, kernel, padding="SAME", key=second)
        self.mlp = MLP(channels, config.hidden, config.dropout, key=mlp)
        self.config = config

    def __call__(
        self,
        features: Float[Array, "length d_model"],
        mask: Bool[Array, " length"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, ""]:
        """Score one protein; see `AbstractHead`.

        Args:
            features: one vector per position `[length d_model]`.
            mask: True at residues `[length]`.
            key: source of randomness for dropout.

        Returns:
            The logit, a scalar.
        """
        x = masked(jax.vmap(self.embedding)(features), mask)
        # A bias makes padding non-zero, so it is cleared again before the next layer looks at it.
        x = masked(jax.nn.relu(self.first(x.T)).T, mask)
        x = jax.nn.relu(self.second(x.T)).T
        return self.mlp(max_pool(x, mask), key=key)
