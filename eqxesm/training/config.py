"""Settings of training and pretraining."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AllowInfNan

from eqxesm.config import configuration
from eqxesm.encoders.lora import LoRAConfig, Targets
from heads.fields import Count, Fraction, NotNegative, Positive


@configuration
class StepConfig:
    """How a step down the gradient is made. Parameters and optimiser are float32 whatever `compute_dtype` is."""

    learning_rate: Positive = 1e-3  # peak of the schedule
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Fraction = 0.05  # share of the steps in which the learning rate rises from zero
    weight_decay: NotNegative = 0.01  # decoupled, on matrices only (Loshchilov & Hutter 2019)
    clip: Annotated[Positive, AllowInfNan(True)] = 1.0  # global norm of the gradient; inf for no clipping
    tokens_per_batch: Count = 16384  # padding included
    compute_dtype: Literal["float32", "bfloat16"] = "float32"  # of the encoder
    remat: bool = False  # recompute the encoder's activations, to save memory
    checkpoint_steps: Count = 500  # steps between checkpoints
    seed: Annotated[int, Ge(0), Lt(2**31)] = 0


@configuration
class TrainConfig(StepConfig):
    """How a model is trained.

    `strategy` decides what trains besides the head: the whole encoder without its language-model
    head (`joint`), adapters on its linear layers (`lora`), or nothing (`frozen`: features are
    computed once). Every epoch ends in a checkpoint, too.
    """

    strategy: Literal["joint", "frozen", "lora"] = "joint"
    epochs: Count = 40
    patience: Count = 6  # epochs without a better validation loss before training stops
    accumulate: Count = 1  # batches per optimiser step
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: Fraction = 0.0
    ema: Fraction = 0.0  # decay of averaged parameters, which are then validated and kept
    vectors: Fraction = 0.0  # share of the proteins that get random vector residues at an end, anew each epoch
    layer_decay: Annotated[float, Gt(0), Le(1)] = 1.0  # learning rate of a block by the one above
    encoder_warmup: Fraction = 0.0  # share of the steps in which the encoder's rate rises
    lora_rank: Count = 8
    lora_alpha: Positive = 16.0  # adapters are scaled by alpha / rank
    lora_targets: Targets = ("query", "key", "value", "out")

    def __post_init__(self):
        if self.vectors and self.strategy == "frozen":
            raise ValueError("vectors needs strategy joint or lora: features of a frozen encoder are computed once")

    @property
    def lora(self) -> LoRAConfig:
        return LoRAConfig(self.lora_rank, self.lora_alpha, self.lora_targets)


@configuration
class PretrainConfig(StepConfig):
    """How an encoder learns to guess hidden residues."""

    steps: Count = 5000
    tokens_per_row: Count = 256  # proteins are packed into rows; of a longer one each pass takes a piece
    hidden: Annotated[float, Gt(0), Lt(1)] = 0.15  # share of the residues
    validation_steps: Count = 500  # steps between looks at the validation proteins
    validation_rows: Count = 512  # of which so many rows are scored
