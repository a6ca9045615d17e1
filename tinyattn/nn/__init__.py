"""Floor 2: layers."""

from tinyattn.nn.attention import KeyValueCache, MultiHeadAttention
from tinyattn.nn.dropout import Dropout
from tinyattn.nn.linear import Embedding, Linear
from tinyattn.nn.models import GPT, ViT
from tinyattn.nn.module import Module
from tinyattn.nn.normalization import LayerNorm, RMSNorm
from tinyattn.nn.torch_names import from_torch, to_torch
from tinyattn.nn.transformer import MLP, Decoder, Encoder, Sequential, TransformerBlock

__all__ = [
    "GPT",
    "MLP",
    "Decoder",
    "Dropout",
    "Embedding",
    "Encoder",
    "KeyValueCache",
    "LayerNorm",
    "Linear",
    "Module",
    "MultiHeadAttention",
    "RMSNorm",
    "Sequential",
    "TransformerBlock",
    "ViT",
    "from_torch",
    "to_torch",
]
