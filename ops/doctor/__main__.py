"""`python3 -m ops.doctor`."""

import sys

from ops.doctor.cli import main

sys.exit(main())
