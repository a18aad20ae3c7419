"""optix-bus: a training loop that knows when to stop, as a flow of messages."""
