"""What a training run can be told."""

from dataclasses import dataclass

from eqxesm.encoders.lora import LoRAConfig

STRATEGIES = ("joint", "frozen", "lora")
SCHEDULES = ("cosine", "linear", "constant")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class TrainConfig:
    """The recipe of a training run.

    Args:
        strategy: what is trained beside the head: `joint`, the whole encoder but its
            masked-language-model head; `lora`, adapters beside its linear layers; `frozen`,
            nothing, with the features computed once.
        epochs: most passes over the training proteins.
        patience: epochs without a better validation loss before it stops.
        learning_rate: peak of the schedule.
        schedule: `cosine` or `linear` to zero, or `constant`, after the warm-up.
        warmup: share of the steps in which the learning rate rises from zero.
        weight_decay: decoupled decay of the matrices (Loshchilov & Hutter 2019).
        clip: largest global norm of the gradient.
        tokens_per_batch: most tokens in a batch, padding counted.
        accumulate: batches whose gradients are averaged for one step of the optimiser.
        class_weights: `none`, or `balanced`, so that both classes count the same in the loss.
        label_smoothing: how far targets are drawn from 0 and 1 towards 1/2.
        ema: decay of an average over the parameters of all steps, which is then what is validated
            and kept; 0 keeps the parameters themselves.
        compute_dtype: precision of the encoder's forward and backward pass; parameters and
            optimiser are float32 whatever it is.
        remat: recompute the encoder's activations in the backward pass, for memory.
        layer_decay: each block learns this many times as fast as the one above it.
        encoder_warmup: share of the steps in which the encoder's learning rate rises from zero,
            so that the untrained head does not spoil it.
        lora_rank: width of the adapters.
        lora_alpha: adapters are scaled by `lora_alpha / lora_rank`.
        lora_targets: linear layers that get one, of `query key value out gate up down`.
        checkpoint_steps: steps between checkpoints within an epoch; each epoch ends in one.
        seed: of initial weights, order, dropout and everything else random.

    Raises:
        ValueError: a value is out of range.
    """

    strategy: str = "joint"
    epochs: int = 40
    patience: int = 6
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    tokens_per_batch: int = 16384
    accumulate: int = 1
    class_weights: str = "none"
    label_smoothing: float = 0.0
    ema: float = 0.0
    compute_dtype: str = "float32"
    remat: bool = False
    layer_decay: float = 1.0
    encoder_warmup: float = 0.0
    lora_rank: int = 8
    lora_alpha: float = 16.0
    lora_targets: tuple[str, ...] = ("query", "key", "value", "out")
    checkpoint_steps: int = 500
    seed: int = 0

    def __post_init__(self):
        choices = {
            "strategy": STRATEGIES,
            "schedule": SCHEDULES,
            "class_weights": ("none", "balanced"),
            "compute_dtype": DTYPES,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}: it must be {' or '.join(allowed)}"
                )
        for name in ("epochs", "patience", "tokens_per_batch", "accumulate", "checkpoint_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be positive")
        for name in ("warmup", "label_smoothing", "ema", "encoder_warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}: it must be at least 0 and below 1"
                )
        for name in ("weight_decay", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must not be negative")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay is {self.layer_decay}: it must be above 0 and at most 1")
        try:
            _ = self.lora
        except ValueError as error:
            raise ValueError(f"lora_{error}") from error

    @property
    def lora(self) -> LoRAConfig:
        """Where adapters go and how large they are."""
        return LoRAConfig(self.lora_rank, self.lora_alpha, self.lora_targets)
