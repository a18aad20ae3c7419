"""Agents in JAX and Flax: learning compiled whole. Nothing outside of this folder imports JAX."""
