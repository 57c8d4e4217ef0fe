"""What is in the package, with which modes, and what must never be."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.package import ENVIRONMENT, copy_tree

TREE = Path(__file__).resolve().parents[2]
DEBIAN_PACKAGE_OF = {
    "click": "python3-click",
    "cryptography": "python3-cryptography",
    "ldap3": "python3-ldap3",
    "pam": "python3-pampy",
    "prometheus_client": "python3-prometheus-client",
    "phonenumbers": "python3-phonenumbers",
    "qrcode": "python3-qrcode",
    "regex": "python3-regex",
    "requests": "python3-requests",
    "rich": "python3-rich",
    "sqlite_utils": "sqlite-utils",
    "systemd": "python3-systemd",
    "urllib3": "python3-requests",  # which depends on python3-urllib3
}
"""Which Debian package brings what the product imports."""


@pytest.fixture(scope="module")
def modes(deb: Path) -> dict[str, str]:
    """Each path of the package, with its mode and owner."""
    listing = subprocess.run(["/usr/bin/dpkg-deb", "-c", str(deb)], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=5) for line in listing.splitlines()]
    return {row[5].removeprefix("."): f"{row[0]} {row[1]}" for row in rows}


def field(deb: Path, name: str) -> str:
    return subprocess.run(
        ["/usr/bin/dpkg-deb", "-f", str(deb), name], capture_output=True, text=True, check=True
    ).stdout.strip()


def imported(folder: Path) -> set[str]:
    """Tell the top-level names that the code in a folder imports."""
    names: set[str] = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names


def test_secrets_and_configuration_are_not_for_everybody(modes: dict[str, str]) -> None:
    assert modes["/etc/pam-starling/credentials/"] == "drwx------ root/root"
    assert modes["/etc/pam-starling/starling.conf"] == "-rw-r----- root/root"


def test_nothing_touches_a_pam_stack_or_sshd(modes: dict[str, str]) -> None:
    places = ("/etc/pam.d/", "/usr/share/pam-configs/", "/etc/ssh/", "/usr/share/pam/")
    assert [path for path in modes if path.startswith(places)] == []


def test_the_code_is_private(modes: dict[str, str]) -> None:
    python = [path for path in modes if path.endswith(".py")]
    assert python
    assert [path for path in python if not path.startswith("/usr/lib/pam-starling/")] == []


def test_everybody_may_read_the_code_and_only_root_may_change_it(modes: dict[str, str]) -> None:
    code = {mode for path, mode in modes.items() if path.startswith("/usr/lib/pam-starling/")}
    assert code == {"drwxr-xr-x root/root", "-rw-r--r-- root/root"}


def test_nothing_is_setuid_or_setgid(modes: dict[str, str]) -> None:
    assert [path for path, mode in modes.items() if re.search("[sStT]", mode.split()[0])] == []


@pytest.mark.parametrize(
    "page", ["man5/starling.conf.5", "man8/starlingd.8", "man8/starlingctl.8", "man8/pam_starling.8"]
)
def test_the_manual_is_there(modes: dict[str, str], page: str) -> None:
    assert f"/usr/share/man/{page}.gz" in modes


def test_every_source_of_the_product_is_in_the_package(modes: dict[str, str]) -> None:
    daemon = {f"daemon/{file.relative_to(TREE / 'daemon')}" for file in (TREE / "daemon").rglob("*.py")}
    module = {f"module/{file.relative_to(TREE)}" for file in (TREE / "pam_starling").glob("*.py")}
    expected = daemon | module - {"module/pam_starling/entry.py"} | {"entry.py"}
    assert {f"/usr/lib/pam-starling/{path}" for path in expected} <= modes.keys()


def test_the_daemon_gets_no_more_of_the_module_than_the_protocol(modes: dict[str, str]) -> None:
    shared = {path for path in modes if path.startswith("/usr/lib/pam-starling/daemon/pam_starling/")}
    assert {Path(path).name for path in shared} == {"pam_starling", "__init__.py", "protocol.py"}


def test_whatever_is_imported_is_depended_on_and_nothing_else(deb: Path) -> None:
    foreign = imported(TREE / "daemon") - sys.stdlib_module_names - {"starlingd", "pam_starling", "_typeshed"}
    depended = set(field(deb, "Depends").split(", "))
    assert {DEBIAN_PACKAGE_OF[name] for name in foreign} == depended - {"libpam-python", "systemd", "python3:any"}


def test_the_module_imports_the_standard_library_only() -> None:
    assert imported(TREE / "pam_starling") <= sys.stdlib_module_names | {"pam_starling"}


def test_dpkg_asks_about_the_configuration_and_the_profile_alone(deb: Path) -> None:
    listed = subprocess.run(
        ["/usr/bin/dpkg-deb", "-I", str(deb), "conffiles"], capture_output=True, text=True, check=True
    ).stdout
    assert sorted(listed.split()) == ["/etc/apparmor.d/starlingd", "/etc/pam-starling/starling.conf"]


def test_zsh_can_read_its_completion() -> None:
    completion = TREE / "etc" / "completion" / "_starlingctl"
    subprocess.run(["/usr/bin/zsh", "-f", "-n", str(completion)], check=True)


def lintian(of: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/usr/bin/lintian", "--allow-root", "--fail-on", "error,warning", str(of)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_lintian_finds_nothing(deb: Path) -> None:
    found = lintian(deb)
    assert found.returncode == 0, found.stdout


def test_lintian_finds_nothing_in_the_source_package(tmp_path: Path) -> None:
    copy_tree(tmp_path / "pam-starling")
    built = subprocess.run(
        ["/usr/bin/dpkg-buildpackage", "--build=source", "-us", "-uc"],
        cwd=tmp_path / "pam-starling", capture_output=True, text=True, check=False, env=ENVIRONMENT,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    [changes] = tmp_path.glob("*.changes")
    found = lintian(changes)
    assert found.returncode == 0, found.stdout
