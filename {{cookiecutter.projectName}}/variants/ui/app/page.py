"""The page's server, `streamlit run app/page.py`: Streamlit with security headers, and with the login of the settings.

ui.py draws the page.
"""

import pathlib
import sys

import streamlit as st
from starlette.middleware import Middleware

# `streamlit run` puts this folder on the path, not the parent folder of the package `app`.
if (project := str(pathlib.Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, project)

from app import oidc_login
from app.page_protection import POLICY, PROBES, VISITS, NoMetrics, UploadsOfVisitors, refuse_host
from app.protection import Hosts, SecurityHeaders
from app.settings import settings

app = st.App(
    pathlib.Path(__file__).with_name("ui.py"),
    secrets=oidc_login.secrets(settings()),
    middleware=[
        Middleware(SecurityHeaders, headers={"Content-Security-Policy": POLICY}),
        Middleware(NoMetrics),
        Middleware(UploadsOfVisitors, visits=VISITS),
        Middleware(Hosts, allowed=settings().allowed_hosts, exempt=PROBES, refuse=refuse_host),
    ],
)
