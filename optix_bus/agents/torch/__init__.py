"""Agents that learn in PyTorch. The only folder that imports it.

The folder shadows the framework when a file beside it is run by its path: run modules with ``-m``.
"""
