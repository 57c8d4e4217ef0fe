"""starling.conf: text to frozen Settings, or ConfigError with every problem at once, each with what to write instead.

Whatever is unknown, doubtful or given twice is a problem: nobody must be let in because of a line that was not
understood. Nothing here may start a connection, and no message may hold a secret.
"""

from starlingd.config.files import FILE, check_file, read, translate, write_new
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
from starlingd.config.settings import ControlSettings, Settings, StarlingSettings, check, load
from starlingd.config.sps import Option
from starlingd.config.vendor import Outcome

__all__ = [
    "DEFINITION",
    "FILE",
    "AdministratorFiles",
    "ConfigError",
    "ControlSettings",
    "KnownSecrets",
    "Option",
    "Outcome",
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
    "translate",
    "write_new",
]
