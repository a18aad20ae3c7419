"""``python -m optix_bus.cli``, where the script ``optix-bus`` is not on the path."""

import sys

from optix_bus.cli import main

sys.exit(main())
