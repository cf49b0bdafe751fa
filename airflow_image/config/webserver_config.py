"""Flask-AppBuilder's settings for sign-in at an identity provider; [fab] config_file names this file.

Only the component `oidc` does. Without it people have passwords in Airflow's database.
"""

from etl_airflow.web.oidc import remote, roles_of_groups
from etl_airflow.web.security_manager import SecurityManager
from flask_appbuilder.const import AUTH_OAUTH

SECURITY_MANAGER_CLASS = SecurityManager
AUTH_TYPE = AUTH_OAUTH
OAUTH_PROVIDERS = [remote()]
AUTH_ROLES_MAPPING = roles_of_groups()
AUTH_ROLES_SYNC_AT_LOGIN = True
# It would open a page where anybody can register. The security manager adds the users that it lets in.
AUTH_USER_REGISTRATION = False
