"""Agents that learn in TensorFlow, with networks of Keras 3. The only folder that imports them.

The folder shadows the framework when a file beside it is run by its path: run modules with ``-m``.
"""

import os

# Read when TensorFlow is imported, which the modules of this folder do. Its greetings about the processor and
# about a GPU that is not there would fill the log of every process; errors are still shown.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
