"""The API: `uvicorn app.api:app`."""

import sys

from app import logs
from app.authentication import authenticator
from app.endpoints import create_app
from app.predictions import Predictions
from app.settings import SettingsError, settings

try:
    app = create_app(settings(), Predictions(settings(), settings().pool_size), authenticator(settings()))
except SettingsError as error:
    sys.exit(f"error: {error}")
# Uvicorn sets up its own logging before it imports this module; this call replaces it.
logs.configure()
