"""The AppArmor profile is one that the parser takes, and holds what the daemon must never do."""

import subprocess

import pytest

from tests.system import apparmor


@pytest.fixture(scope="module")
def profile() -> apparmor.Profile:
    return apparmor.load()


def test_the_parser_takes_it_with_nothing_to_complain_about() -> None:
    done = subprocess.run(
        ["/usr/sbin/apparmor_parser", "--skip-kernel-load", "--skip-cache", str(apparmor.PROFILE)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "interface file missing" not in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/var/lib/starlingd/state.db-wal", "rwk"),
        ("/etc/pam-starling/starling.conf", "r"),
        ("/run/credentials/starlingd.service/conf_starling.credential", "r"),
        ("/usr/lib/pam-starling/daemon/starlingd/core/model.py", "r"),
        ("/proc/1234/stat", "r"),
        ("/proc/sys/kernel/random/boot_id", "r"),
        ("/etc/passwd", "r"),
        ("/run/systemd/notify", "w"),
        ("/etc/ssl/certs/ca-certificates.crt", "r"),
        ("/run/slapd/ldapi", "rw"),
        ("/var/run/slapd/ldapi", "rw"),
        ("/run/openldap/ldapi", "rw"),
        ("/run/slapd-main.socket", "rw"),
        ("/run/starlingd-metrics/metrics.sock", "rw"),
        ("/bin/kill", "mr"),
        ("/usr/bin/kill", "mr"),
    ],
)
def test_it_gives_what_the_daemon_needs(profile: apparmor.Profile, path: str, wanted: str) -> None:
    assert profile.allows(path, wanted)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/etc/shadow", "r"),
        ("/etc/pam-starling/credentials/starling.credential", "r"),
        ("/etc/pam-starling/starling.conf", "w"),
        ("/etc/pam.d/sshd", "r"),
        ("/etc/ssh/ssh_host_ed25519_key", "r"),
        ("/etc/ssl/private/server.key", "r"),
        ("/home/alice/.ssh/authorized_keys", "r"),
        ("/root/.bashrc", "r"),
        ("/usr/lib/pam-starling/entry.py", "w"),
        ("/bin/sh", "x"),
        ("/bin/kill", "x"),
        ("/usr/bin/dash", "x"),
        ("/proc/1234/environ", "r"),
        ("/proc/1234/mem", "r"),
        ("/run/starlingd/pam.sock", "w"),
        ("/run/slapd/other", "w"),
        ("/dev/mem", "r"),
    ],
)
def test_it_gives_nothing_else(profile: apparmor.Profile, path: str, wanted: str) -> None:
    assert not profile.allows(path, wanted)


def test_globs_mean_what_apparmor_means() -> None:
    profile = apparmor.parse(
        "@{PROC}=/proc/\n@{pid}={[1-9],[1-9][0-9]}\nprofile x {\n  @{PROC}/@{pid}/stat r,\n  owner /a/{,**} rwk,\n"
        "  /b/*.so mr,\n  deny /b/no.so r,\n  /c{d,e} r,\n  network inet stream,\n  network unix,\n}\n"
    )
    assert profile.allows("/proc/12/stat", "r")
    assert not profile.allows("/proc/123/stat", "r")
    assert profile.allows("/a/", "rw")
    assert profile.allows("/a/b/c", "k")
    assert profile.allows("/b/x.so", "mr")
    assert not profile.allows("/b/c/x.so", "r")
    assert profile.allows("/ce", "r")
    assert not profile.allows("/c", "r")
    assert profile.allows_socket("inet", "stream")
    assert profile.allows_socket("unix", "dgram")
    assert not profile.allows_socket("inet", "raw")
