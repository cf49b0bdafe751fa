"""`python3 -m ops.deploy`, and `python3 -m ops.deploy restore` or `erase`."""

import sys

from ops.deploy import cli
from ops.deploy.data import erase, restore

_OTHERS = {"restore": restore.main, "erase": erase.main}

if sys.argv[1:2] and sys.argv[1] in _OTHERS:
    sys.exit(_OTHERS[sys.argv[1]](sys.argv[2:]))
sys.exit(cli.main())
