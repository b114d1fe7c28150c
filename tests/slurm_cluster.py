"""A real Slurm of two nodes with four GPUs each, on this machine: Debian's munged, slurmctld and slurmd.

The GPUs are character devices of ours; jobs hold them and do not use them. It needs root and what `PACKAGES` names: in
CI a Slurm that cannot start is an error, elsewhere its tests are skipped.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pipeline.embedded.ports import free_port, port_open
from pipeline.embedded.process import Process, wait_for

NODES, GPUS = ("n1", "n2"), 4
_NOBODY = 65534  # slurmrestd refuses to run as root

PACKAGES = "slurm-wlm slurmrestd slurm-wlm-jwt-plugin munge"  # Debian's
_PROGRAMS = ("munged", "slurmctld", "slurmd", "squeue", "sinfo", "sbatch", "scancel", "scontrol", "slurmrestd")
_CONF = """\
ClusterName=gw
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={folder}/state/jwt_hs256.key
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
MinJobAge=300
KillWait=1
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=1000 Gres=gpu:h100:4
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=1000 Gres=gpu:h100:4
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
PartitionName=spare Nodes=n2 MaxTime=INFINITE State=UP OverSubscribe=NO Hidden=YES
"""


class SlurmCluster:
    """A running cluster. Its commands find it through `environment`, which holds SLURM_CONF."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}

    def run(self, *command: str) -> str:
        """What one of Slurm's commands prints; it must succeed."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}: {done.stderr}\n{self.logs()}"
        return done.stdout

    def submit(self, *options: str, runs: str = "sleep 600") -> str:
        """Submits a job; its id. `--array=0-2` and `: ` for a heterogeneous one are sbatch's own."""
        script = self.folder / f"job-{secrets.token_hex(4)}.sh"
        script.write_text(f"#!/bin/sh\n{runs}\n")
        return self.run("sbatch", "--parsable", "--output=/dev/null", *options, str(script)).strip()

    def cancel(self, *jobs: str) -> None:
        self.run("scancel", *jobs)

    def control(self, *words: str) -> None:
        """`scontrol WORDS`: suspend, resume, requeue, update."""
        self.run("scontrol", *words)

    def drain(self, node: str, reason: str) -> None:
        self.control("update", f"nodename={node}", "state=drain", f"reason={reason}")

    def states(self) -> dict[str, str]:
        """State by job and task, of all jobs that Slurm still knows."""
        lines = self.run("squeue", "--all", "--states=all", "--noheader", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def nodes(self) -> dict[str, str]:
        """State by node, a `*` behind it while the node does not respond."""
        lines = self.run("sinfo", "--Node", "--partition=main", "--noheader", "--format=%N %T").splitlines()
        return dict(line.split() for line in lines)

    def until(self, ready: Callable[[], object], what: str, timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while not ready():
            assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s\n{self.states()}\n{self.logs()}"
            time.sleep(0.1)

    def token(self) -> str:
        """A token of slurmrestd's for root, for ten minutes."""
        return self.run("scontrol", "token", "lifespan=600").strip().removeprefix("SLURM_JWT=")

    @contextmanager
    def rest(self, *, local: bool = False) -> Iterator[str]:
        """slurmrestd's address: TCP, which wants a token, or a Unix socket, which trusts who connects (`local`)."""
        name, folder, port = f"slurmrestd-{secrets.token_hex(2)}", self.folder / "rest", free_port()
        folder.mkdir(exist_ok=True)
        os.chown(folder, _NOBODY, _NOBODY)
        listen, url = f"127.0.0.1:{port}", f"http://127.0.0.1:{port}"
        if local:
            listen = url = f"unix:{folder / name}"
        words = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", _found("slurmrestd")]
        words += ["-a", "rest_auth/local" if local else "rest_auth/jwt", "-s", "openapi/v0.0.38", "-v", listen]
        apart = {"SLURMRESTD_SECURITY": "disable_unshare_sysv,disable_unshare_files"}
        environment = {**self.environment, **apart, **({} if local else {"SLURM_JWT": "daemon"})}
        daemon = Process(name, words, self.folder / f"{name}.log", env=environment)
        daemon.start()
        try:
            wait_for(daemon, (folder / name).exists if local else lambda: port_open(port), 20)
            yield url
        finally:
            daemon.stop()

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        return "\n".join(
            f"{path.name}:\n" + "\n".join(path.read_text("utf-8", "replace").splitlines()[-8:])
            for path in sorted(self.folder.glob("*.log"))
        )


def missing() -> str:
    """What this machine lacks for a Slurm; empty when it lacks nothing."""
    lacking = [name for name in _PROGRAMS if not _found(name)]
    if lacking:
        return f"no {', '.join(lacking)}: apt-get install {PACKAGES}"
    return "" if os.geteuid() == 0 else "Slurm's daemons and their devices need root"


def _found(program: str) -> str:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") or ""


@contextmanager
def running_slurm() -> Iterator[SlurmCluster]:
    """A cluster whose nodes are idle; at the end its jobs are cancelled, its daemons stopped and its folder removed."""
    folder = Path(tempfile.mkdtemp(prefix="gigawatch-slurm-"))  # a Unix socket's path has at most 107 characters
    daemons: list[Process] = []
    try:
        cluster = SlurmCluster(folder)
        _write(folder)
        for name, command in _daemons(folder).items():
            daemon = Process(name, command, folder / f"{name}.log", env=cluster.environment)
            daemons.append(daemon)
            daemon.start()
            if name == "munged":
                wait_for(daemon, (folder / "munge" / "socket").exists, 20)
        wait_for(daemons[1], lambda: _idle(cluster), 60)
        try:
            yield cluster
        finally:
            cluster.cancel("--user=root")
            cluster.until(lambda: _ended(cluster), "all jobs ended")
    finally:
        for daemon in reversed(daemons):
            daemon.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    """A real Slurm, for all tests of a process."""
    if lacking := missing():
        if os.environ.get("CI"):
            pytest.fail(f"Slurm cannot start: {lacking}")
        pytest.skip(lacking)
    with running_slurm() as cluster:
        yield cluster


def _write(folder: Path) -> None:
    """Configuration, the key of munge and the devices of the GPUs."""
    for name in ("state", "spool-n1", "spool-n2", "munge", "dev"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    for key in (folder / "munge" / "key", folder / "state" / "jwt_hs256.key"):
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(1024))
    for index in range(GPUS):
        os.mknod(folder / "dev" / f"gpu{index}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))  # as /dev/null
    host, ports = socket.gethostname().partition(".")[0], [free_port() for _ in range(3)]
    (folder / "slurm.conf").write_text(_CONF.format(host=host, folder=folder, ports=ports))
    (folder / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu Type=h100 File={folder}/dev/gpu[0-{GPUS - 1}]\n")
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")


def _daemons(folder: Path) -> dict[str, list[str]]:
    """By name, in the order in which they start; each stays in the foreground."""
    munge = folder / "munge"
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    options = [f"--{option}={munge / name}" for option, name in files.items()]
    return {
        "munged": [_found("munged"), "--foreground", "--force", *options],
        "slurmctld": [_found("slurmctld"), "-D", "-c"],
        **{f"slurmd-{node}": [_found("slurmd"), "-D", "-N", node] for node in NODES},
    }


def _idle(cluster: SlurmCluster) -> bool:
    with suppress(AssertionError, subprocess.TimeoutExpired):  # slurmctld does not listen yet
        return cluster.nodes() == dict.fromkeys(NODES, "idle")
    return False


def _ended(cluster: SlurmCluster) -> bool:
    return not cluster.run("squeue", "--all", "--noheader").strip()
