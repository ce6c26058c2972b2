"""Experiments with checks, judged together and shown on one page; both labs are built on it."""
