"""PPO for small feed-forward networks by hand, in NumPy: derivation, buffers and nothing else.

Automatic differentiation spends most of its time on small networks in dispatch. Here a gradient step is about
sixty NumPy calls on buffers that are allocated once. The tests hold every gradient against PyTorch's.
"""
