"""`python3 -m ops.deploy`, and `python3 -m ops.deploy restore`, `erase` or `add-table`."""

import sys

from ops.deploy import add, cli
from ops.deploy.data import erase, restore

_OTHERS = {"restore": restore.main, "erase": erase.main, "add-table": add.main}

if sys.argv[1:2] and sys.argv[1] in _OTHERS:
    sys.exit(_OTHERS[sys.argv[1]](sys.argv[2:]))
sys.exit(cli.main())
