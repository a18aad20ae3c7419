"""The actors, one a file. They are named by topologies and imported by nobody."""
