"""Preludes: for each kernel language, one file of neutral macros."""
