"""python -m mmpi: the same as the command mmpi."""

import sys

from mmpi.cli import main

sys.exit(main())
