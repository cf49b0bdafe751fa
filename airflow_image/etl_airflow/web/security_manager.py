"""Security manager for sign-in at an identity provider: admits users, and assigns their roles.

Authlib has verified the ID token's signature, times and nonce. Issuer and audience are compared with the settings here:
Authlib takes the issuer from the discovery document, and accepts a foreign audience with our `azp`.
"""

import logging
import os
from typing import Any

import jmespath
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.auth_manager.models import User
from airflow.providers.fab.auth_manager.security_manager.override import (
    FabAirflowSecurityManagerOverride,
    FabException,
)
from airflow.providers.fab.auth_manager.views.auth_oauth import CustomAuthOAuthView
from flask import flash

from etl_airflow.web.failed_logins import is_password_account

_NO_PASSWORD = "!"  # noqa: S105 - no password has this hash
log = logging.getLogger(__name__)


class LoginView(CustomAuthOAuthView):
    """The login page and the redirect URI."""

    invalid_login_message = "You are not signed in. If no reason is shown here, see the log of the API server."


class SecurityManager(FabAirflowSecurityManagerOverride):
    """Admits users with at least one role, and updates their roles at each sign-in."""

    authoauthview = LoginView

    def set_oauth_session(self, provider: str, oauth_response: dict[str, Any]) -> None:
        """Store no token of the provider: it is not needed any more, and sessions are stored in the database."""

    def get_oauth_user_info(self, provider: str, resp: dict[str, Any]) -> dict[str, Any]:
        """The claims of the ID token. Raises ValueError for another issuer or client, or an unexpected form."""
        claims = resp.get("userinfo")
        if not claims:
            raise ValueError("The identity provider sent no ID token: OIDC_SCOPES must contain openid.")
        if claims["iss"] != os.environ["OIDC_ISSUER"]:
            raise ValueError(f"The ID token's issuer is {claims['iss']}, and not OIDC_ISSUER.")
        audience = claims["aud"]
        if self.oauth_remotes[provider].client_id not in ([audience] if isinstance(audience, str) else audience):
            raise ValueError(f"The ID token's audience is {audience}, and not OIDC_CLIENT_ID.")
        found = jmespath.search(os.environ["OIDC_GROUPS_CLAIM"], dict(claims)) or []
        groups = [found] if isinstance(found, str) else found
        if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
            raise ValueError(f"OIDC_GROUPS_CLAIM leads to no list of names in the ID token: {found}.")
        return {
            "username": str(claims.get(os.environ["OIDC_USERNAME_CLAIM"]) or ""),
            "first_name": claims.get("given_name", ""),
            "last_name": claims.get("family_name", ""),
            "email": claims.get("email", ""),
            "role_keys": groups,
        }

    def auth_user_oauth(self, userinfo: dict[str, Any], rotate_session_id: bool = True) -> User | None:
        """The user, created at the first sign-in. None if refused: the page then shows the reason."""
        if refusal := self._prepare(userinfo):
            log.warning("Sign-in of %r refused: %s", userinfo["username"], refusal)
            flash(refusal, "danger")
            return None
        user: User | None = super().auth_user_oauth(userinfo, rotate_session_id)
        if user:
            self._forget(user)
        return user

    def _prepare(self, userinfo: dict[str, Any]) -> str:
        """Create the account if it is missing; returns the reason of a refusal, else empty."""
        name = userinfo["username"]
        if not name:
            return "The identity provider sends no user name (OIDC_USERNAME_CLAIM)."
        user, roles = self.find_user(username=name), self._oauth_calculate_user_roles(userinfo)
        # The account's spelling may differ: the database decides which one it is.
        if is_password_account(name) or (user and is_password_account(user.username)):
            return f"{name} is the name of an account with a password: the provider may not use it."
        if not roles:
            if user:
                user.roles = []
                self.update_user(user)
                self._forget(user)
            return f"{name} is in no group that may use Airflow. Ask its administrators for one."
        if user and not user.is_active:
            return f"The account {name} is deactivated in Airflow."
        if not user and not self._add(userinfo, roles):
            return f"The account {name} could not be made: is its mail address in use by another?"
        return ""

    def _add(self, userinfo: dict[str, Any], roles: list[Any]) -> bool:
        name, names = userinfo["username"], (userinfo["first_name"], userinfo["last_name"])
        mail = userinfo["email"] or f"{name}@unknown.invalid"
        try:
            self.add_user(name, *names, mail, roles, hashed_password=_NO_PASSWORD)
        except FabException:
            return False
        return True

    def _forget(self, user: User) -> None:
        """Drop the user from the auth manager's cache, which keeps it for half a minute."""
        FabAuthManager.cache.pop(user.id, None)
