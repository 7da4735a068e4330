"""Matrix multiplication: the op, its epilogues and its templates."""

from search_spaces.matmul.workload import matmul

__all__ = ["matmul"]
