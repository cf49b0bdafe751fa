"""Settings of Flask-AppBuilder for sign-in at an identity provider: [fab] config_file of the component `oidc`.

Without the component, users have passwords in Airflow's database.
"""

from etl_airflow.web.oidc import remote, roles_of_groups
from etl_airflow.web.security_manager import SecurityManager
from flask_appbuilder.const import AUTH_OAUTH

SECURITY_MANAGER_CLASS = SecurityManager
AUTH_TYPE = AUTH_OAUTH
OAUTH_PROVIDERS = [remote()]
AUTH_ROLES_MAPPING = roles_of_groups()
AUTH_ROLES_SYNC_AT_LOGIN = True
# It would open a page for registration. The security manager creates the users that it admits.
AUTH_USER_REGISTRATION = False
