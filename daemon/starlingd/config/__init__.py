"""starling.conf: text to frozen Settings, or ConfigError with every problem at once, each with what to write instead.

Whatever is unknown, doubtful or given twice is a problem: nobody must be let in because of a line that was not
understood. Nothing here may start a connection, and no message may hold a secret.
"""

from starlingd.config.files import FILE, check_file, read
from starlingd.config.problems import ConfigError, Problem, printable
from starlingd.config.secrets import (
    AdministratorFiles,
    KnownSecrets,
    Secret,
    SecretMissingError,
    SecretSource,
    ServiceCredentials,
    daemon_secrets,
)
from starlingd.config.sections import DEFINITION
from starlingd.config.settings import Settings, StarlingSettings, check, load

__all__ = [
    "DEFINITION",
    "FILE",
    "AdministratorFiles",
    "ConfigError",
    "KnownSecrets",
    "Problem",
    "Secret",
    "SecretMissingError",
    "SecretSource",
    "ServiceCredentials",
    "Settings",
    "StarlingSettings",
    "check",
    "check_file",
    "daemon_secrets",
    "load",
    "printable",
    "read",
]
