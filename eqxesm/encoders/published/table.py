"""The name table: to read it is to review the port."""

from dataclasses import dataclass

LAYOUTS = ("legacy", "fused", "split")
"""Written by the first release; `biohub/ESMC-*` as first published; transformers >= 5.17."""


@dataclass(frozen=True)
class TensorPart:
    """A published tensor, or the `index`-th of `of` equal blocks of its rows."""

    name: str
    index: int = 0
    of: int = 1

    def rows(self, height: int) -> slice:
        """The rows of the block in a tensor of `height` rows."""
        size = height // self.of
        return slice(self.index * size, (self.index + 1) * size)


@dataclass(frozen=True)
class Row:
    """One leaf of our encoder, its shape in one layer, and where each layout keeps it.

    Axes are `v` for the vocabulary, `d` for `d_model` and `f` for `d_ffn`.
    """

    ours: str
    shape: str
    legacy: TensorPart
    fused: TensorPart
    split: TensorPart

    def part(self, layout: str) -> TensorPart:
        return {"legacy": self.legacy, "fused": self.fused, "split": self.split}[layout]

    @property
    def is_stacked(self) -> bool:
        """Whether our leaf has a leading axis of layers."""
        return self.ours.startswith("blocks.")


def _row(ours: str, shape: str, legacy: str, fused: str, split: str) -> Row:
    return Row(ours, shape, _part(legacy), _part(fused), _part(split))


def _part(text: str) -> TensorPart:
    name, _, rows = text.partition(" rows ")
    if not rows:
        return TensorPart(name)
    index, of = rows.split("/")
    return TensorPart(name, int(index) - 1, int(of))


# fmt: off
_L = "transformer.blocks.{n}."
_F = "esmc.transformer.blocks.{n}."
_S = "esmc.layers.{n}."

TABLE: tuple[Row, ...] = (
    #     ours                           shape  legacy                                          fused                                             split
    _row("embedding",                    "v d", "embed.weight",                                 "esmc.embed.weight",                              "esmc.embed_tokens.weight"),
    _row("blocks.attention_norm.weight", "d",   _L + "attn.layernorm_qkv.0.weight",             _F + "attn.layernorm_qkv.layer_norm_weight",      _S + "input_layernorm.weight"),
    _row("blocks.attention_norm.bias",   "d",   _L + "attn.layernorm_qkv.0.bias",               _F + "attn.layernorm_qkv.layer_norm_bias",        _S + "input_layernorm.bias"),
    _row("blocks.attention.query.weight", "d d", _L + "attn.layernorm_qkv.1.weight rows 1/3",   _F + "attn.layernorm_qkv.weight rows 1/3",        _S + "self_attn.q_proj.weight"),
    _row("blocks.attention.key.weight",  "d d", _L + "attn.layernorm_qkv.1.weight rows 2/3",    _F + "attn.layernorm_qkv.weight rows 2/3",        _S + "self_attn.k_proj.weight"),
    _row("blocks.attention.value.weight", "d d", _L + "attn.layernorm_qkv.1.weight rows 3/3",   _F + "attn.layernorm_qkv.weight rows 3/3",        _S + "self_attn.v_proj.weight"),
    _row("blocks.attention.query_norm.weight", "d",   _L + "attn.q_ln.weight",                  _F + "attn.q_ln.weight",                          _S + "self_attn.q_norm.weight"),
    _row("blocks.attention.key_norm.weight", "d",   _L + "attn.k_ln.weight",                    _F + "attn.k_ln.weight",                          _S + "self_attn.k_norm.weight"),
    _row("blocks.attention.out.weight",  "d d", _L + "attn.out_proj.weight",                    _F + "attn.out_proj.weight",                      _S + "self_attn.o_proj.weight"),
    _row("blocks.ffn_norm.weight",       "d",   _L + "ffn.0.weight",                            _F + "ffn.layer_norm_weight",                     _S + "post_attention_layernorm.weight"),
    _row("blocks.ffn_norm.bias",         "d",   _L + "ffn.0.bias",                              _F + "ffn.layer_norm_bias",                       _S + "post_attention_layernorm.bias"),
    _row("blocks.ffn.gate.weight",       "f d", _L + "ffn.1.weight rows 1/2",                   _F + "ffn.fc1_weight rows 1/2",                   _S + "mlp.gate_proj.weight"),
    _row("blocks.ffn.up.weight",         "f d", _L + "ffn.1.weight rows 2/2",                   _F + "ffn.fc1_weight rows 2/2",                   _S + "mlp.up_proj.weight"),
    _row("blocks.ffn.down.weight",       "d f", _L + "ffn.3.weight",                            _F + "ffn.fc2_weight",                            _S + "mlp.down_proj.weight"),
    _row("norm.weight",                  "d",   "transformer.norm.weight",                      "esmc.transformer.norm.weight",                   "esmc.norm.weight"),
    _row("lm_head.dense.weight",         "d d", "sequence_head.0.weight",                       "lm_head.0.weight",                               "lm_head.dense.weight"),
    _row("lm_head.dense.bias",           "d",   "sequence_head.0.bias",                         "lm_head.0.bias",                                 "lm_head.dense.bias"),
    _row("lm_head.norm.weight",          "d",   "sequence_head.2.weight",                       "lm_head.2.weight",                               "lm_head.layer_norm.weight"),
    _row("lm_head.norm.bias",            "d",   "sequence_head.2.bias",                         "lm_head.2.bias",                                 "lm_head.layer_norm.bias"),
    _row("lm_head.decoder.weight",       "v d", "sequence_head.3.weight",                       "lm_head.3.weight",                               "lm_head.decoder.weight"),
    _row("lm_head.decoder.bias",         "v",   "sequence_head.3.bias",                         "lm_head.3.bias",                                 "lm_head.decoder.bias"),
)
# fmt: on
