"""Floor 2: layers."""

from tinyattn.nn.attention import MultiHeadAttention
from tinyattn.nn.dropout import Dropout
from tinyattn.nn.linear import Embedding, Linear
from tinyattn.nn.module import Module
from tinyattn.nn.normalization import LayerNorm, RMSNorm
from tinyattn.nn.transformer import Sequential, TransformerBlock

__all__ = [
    "Dropout",
    "Embedding",
    "LayerNorm",
    "Linear",
    "Module",
    "MultiHeadAttention",
    "RMSNorm",
    "Sequential",
    "TransformerBlock",
]
