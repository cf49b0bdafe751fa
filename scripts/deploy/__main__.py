"""`python3 -m scripts.deploy`, and `python3 -m scripts.deploy restore`."""

import sys

from scripts.deploy import cli, restore

if sys.argv[1:2] == ["restore"]:
    sys.exit(restore.main(sys.argv[2:]))
sys.exit(cli.main())
