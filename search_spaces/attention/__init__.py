"""Attention: softmax(scale Q Kᵀ + bias) V, its op and its templates."""

from search_spaces.attention.workload import attention as attention
