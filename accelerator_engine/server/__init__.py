"""The HTTP server behind `tanzu accelerator list, get, generate` and `generate-from-local`.

The server is for one author on one machine. It listens on the loopback interface. Any web page that is
open on the machine can send requests to it, so it answers only to its own name, and not to pages of
another origin.
"""

from accelerator_engine.server.app import create_app
from accelerator_engine.server.http_server import make_server, serve
from accelerator_engine.server.library import InvalidLibrary, Library, named_folders

__all__ = ["InvalidLibrary", "Library", "create_app", "make_server", "named_folders", "serve"]
