"""What a training run can be told."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainConfig:
    """The recipe of a training run.

    Args:
        epochs: most passes over the training proteins.
        patience: epochs without a better validation loss before it stops.
        learning_rate: peak of a cosine schedule.
        warmup: share of the steps in which the learning rate rises from zero.
        weight_decay: decoupled decay of the parameters (Loshchilov & Hutter 2019).
        clip: largest global norm of the gradient.
        tokens_per_batch: most tokens in a batch, padding counted.
        seed: of initial order, dropout and everything else random.

    Raises:
        ValueError: a value is out of range.
    """

    epochs: int = 40
    patience: int = 6
    learning_rate: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    tokens_per_batch: int = 16384
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "patience", "tokens_per_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be positive")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup}: it must be at least 0 and below 1")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay is {self.weight_decay}: it must not be negative")
