"""Contracts: tests that our own agents, pipelines and nodes pass, for yours to pass as well. Needs pytest."""
