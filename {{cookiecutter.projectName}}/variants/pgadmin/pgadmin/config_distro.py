"""pgAdmin's configuration, which pgAdmin reads from $CONFIG_DISTRO_FILE_PATH; `python -m pgadmin` sets the variable."""

import os

SERVER_MODE = os.environ["PGADMIN_SERVER_MODE"] == "ON"
# The folder of the log, the sessions and pgAdmin's own database.
DATA_DIR = os.environ["PGADMIN_DATA"]
DEFAULT_SERVER_PORT = int(os.environ["PORT"])
# The manual is on the web; the package's own copy needs a folder beside it.
HELP_PATH = "../../docs/en_US/_build/html/"
MINIFY_HTML = False
# Passwords come from the passfile, so pgAdmin needs to save none.
MASTER_PASSWORD_REQUIRED = False
ALLOW_SAVE_PASSWORD = False
# pgAdmin sends no request to other machines.
UPGRADE_CHECK_ENABLED = False
LLM_ENABLED = False
