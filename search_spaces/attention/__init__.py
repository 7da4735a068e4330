"""Attention: softmax(scale Q Kᵀ + bias) V, its op and its templates."""
