"""The backend: keeps flows, runs, states and logs, and shows them. Needs the extra ``server``."""

from perfect.server.app import create_app
from perfect.server.serve import Server, run_server
from perfect.server.settings import Limits, ServerSettings

__all__ = ["Limits", "Server", "ServerSettings", "create_app", "run_server"]
