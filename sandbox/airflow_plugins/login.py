"""Airflow's plugin of the sandbox's Airflow: pages that other plugins add to the web server ask for its login too.

Cosmos serves dbt's docs without one (astronomer/astronomer-cosmos #2972, open at 1.15.1). Airflow 3.3's own dependency
`get_user` is no public interface: look at it again with each new version of Airflow.
"""

from typing import Any

from airflow import plugins_manager
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
from airflow.plugins_manager import AirflowPlugin
from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse


class Login:
    """ASGI middleware: whatever lies below a plugin's prefix is answered with 401 or 403 to who is not logged in."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and _is_of_a_plugin(scope["path"]):
            request = Request(scope)
            try:
                await get_user(request, None, await bearer_scheme(request))
            except HTTPException as error:
                await JSONResponse({"detail": error.detail}, error.status_code)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _is_of_a_plugin(path: str) -> bool:
    apps, _ = plugins_manager.get_fastapi_plugins()
    return any(f"{path}/".startswith(f"/{app['url_prefix'].strip('/')}/") for app in apps if app.get("url_prefix"))


class LoginPlugin(AirflowPlugin):
    name = "login_for_plugins"
    fastapi_root_middlewares = [{"name": "login", "middleware": Login}]  # noqa: RUF012 (Airflow's own interface)
