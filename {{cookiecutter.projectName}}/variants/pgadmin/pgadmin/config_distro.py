"""What pgAdmin is told: it reads this file by $CONFIG_DISTRO_FILE_PATH, which `python -m pgadmin` sets."""

import os

SERVER_MODE = os.environ["PGADMIN_SERVER_MODE"] == "ON"
# The log, the sessions and pgAdmin's own database lie below it.
DATA_DIR = os.environ["PGADMIN_DATA"]
DEFAULT_SERVER_PORT = int(os.environ["PORT"])
# The manual is on the web; the package's own copy needs a folder beside it.
HELP_PATH = "../../docs/en_US/_build/html/"
MINIFY_HTML = False
# Passwords come from the passfile, so there is none to save.
MASTER_PASSWORD_REQUIRED = False
ALLOW_SAVE_PASSWORD = False
# Nothing is asked of other machines.
UPGRADE_CHECK_ENABLED = False
LLM_ENABLED = False
