"""Multi-layer perceptrons over pooled features."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox.nn import Conv1d, Dropout, Linear
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from heads.base import AbstractHead
from heads.pooling import attention_pool, masked, max_pool, mean_pool

MOST_LAYERS = 64
"""Hidden layers of a head; a configuration with thousands would take hours to build."""


def check_widths(dropout: float, **widths: int | tuple[int, ...]) -> None:
    """Refuse a head that cannot be built.

    Args:
        dropout: share of activations to drop.
        widths: sizes by name.

    Raises:
        ValueError: a size is below 1, the dropout outside 0 to 1, or there are too many layers.
    """
    for name, value in widths.items():
        if isinstance(value, tuple) and len(value) > MOST_LAYERS:
            raise ValueError(f"{name} are {len(value)} layers: at most {MOST_LAYERS}")
        if any(width < 1 for width in (value if isinstance(value, tuple) else (value,))):
            raise ValueError(f"{name} is {value}: sizes must be at least 1")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}: it must be at least 0 and below 1")


class MLP(eqx.Module):
    """Linear layers with ReLU and dropout between them, and one logit at the end."""

    layers: tuple[Linear, ...]
    dropout: Dropout

    def __init__(self, d_in: int, hidden: tuple[int, ...], dropout: float, *, key: PRNGKeyArray):
        """Make the layers with random weights.

        Args:
            d_in: width of the input.
            hidden: widths of the hidden layers.
            dropout: share of hidden activations that training drops.
            key: source of randomness.
        """
        widths = (d_in, *hidden, 1)
        keys = jax.random.split(key, len(widths) - 1)
        self.layers = tuple(
            Linear(d_from, d_to, key=key)
            for d_from, d_to, key in zip(widths[:-1], widths[1:], keys, strict=True)
        )
        self.dropout = Dropout(dropout)

    def __call__(
        self, x: Float[Array, " d_in"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """Score one vector.

        Args:
            x: pooled features `[d_in]`.
            key: source of randomness for dropout, or None to drop nothing.

        Returns:
            The logit, a scalar.
        """
        keys = [None] * len(self.layers) if key is None else jax.random.split(key, len(self.layers))
        for layer, layer_key in zip(self.layers[:-1], keys[:-1], strict=True):
            x = self.dropout(jax.nn.relu(layer(x)), key=layer_key, inference=layer_key is None)
        return self.layers[-1](x)[0]


@dataclass(frozen=True)
class MeanPoolMLPConfig:
    """The sizes of a `MeanPoolMLP`.

    Args:
        d_model: width of the features.
        hidden: widths of the hidden layers.
        dropout: share of hidden activations that training drops.

    Raises:
        ValueError: a size is below 1, or the dropout outside 0 to 1.
    """

    d_model: int
    hidden: tuple[int, ...] = (512, 256, 128, 64)
    dropout: float = 0.2

    def __post_init__(self):
        check_widths(self.dropout, d_model=self.d_model, hidden=self.hidden)


class MeanPoolMLP(AbstractHead):
    """Mean over residues, then hidden layers: the usual head on a frozen language model."""

    mlp: MLP
    config: MeanPoolMLPConfig = eqx.field(static=True)

    def __init__(self, config: MeanPoolMLPConfig, *, key: PRNGKeyArray):
        self.mlp = MLP(config.d_model, config.hidden, config.dropout, key=key)
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
        return self.mlp(mean_pool(features, mask), key=key)


@dataclass(frozen=True)
class AttentionPoolMLPConfig:
    """The sizes of an `AttentionPoolMLP`.

    Args:
        d_model: width of the features.
        kernel: residues that a convolution sees at once, odd.
        hidden: widths of the hidden layers.
        dropout: share of hidden activations that training drops.

    Raises:
        ValueError: a size is below 1, the kernel even, or the dropout outside 0 to 1.
    """

    d_model: int
    kernel: int = 9
    hidden: tuple[int, ...] = (32,)
    dropout: float = 0.25

    def __post_init__(self):
        check_widths(self.dropout, d_model=self.d_model, kernel=self.kernel, hidden=self.hidden)
        check_odd(kernel=self.kernel)


def check_odd(**kernels: int) -> None:
    """Refuse a kernel without a middle.

    Args:
        kernels: widths by name.

    Raises:
        ValueError: a width is even.
    """
    for name, kernel in kernels.items():
        if kernel % 2 == 0:
            raise ValueError(f"{name} is {kernel}: it must be odd, to have a residue in its middle")


class AttentionPoolMLP(AbstractHead):
    """Light attention (Staerk et al. 2021, doi:10.1093/bioadv/vbab035).

    Two convolutions over the residues give scores and values; their attention pool beside the
    maximum of the values goes through hidden layers.
    """

    scores: Conv1d
    values: Conv1d
    mlp: MLP
    config: AttentionPoolMLPConfig = eqx.field(static=True)

    def __init__(self, config: AttentionPoolMLPConfig, *, key: PRNGKeyArray):
        scores, values, mlp = jax.random.split(key, 3)
        d_model, kernel = config.d_model, config.kernel
        self.scores = Conv1d(d_model, d_model, kernel, padding="SAME", key=scores)
        self.values = Conv1d(d_model, d_model, kernel, padding="SAME", key=values)
        self.mlp = MLP(2 * d_model, config.hidden, config.dropout, key=mlp)
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
        channels = masked(features, mask).T
        scores, values = self.scores(channels).T, self.values(channels).T
        pooled = [attention_pool(scores, values, mask), max_pool(values, mask)]
        return self.mlp(jnp.concatenate(pooled), key=key)
