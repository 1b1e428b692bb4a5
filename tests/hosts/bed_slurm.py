"""Slurm over a bed: its controller on a host of its own, a slurmd on each other one, a munged everywhere.

The controller's host is called `CONTROLLER`; the machine itself is a client, with an allocation of all hosts.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bed_claim import Claim
from bed_keeper import ENVIRONMENT, Keeper, wait_for

CONTROLLER = "ctl"

SLURM_LIMIT = 40.0
"""Seconds until all nodes are idle, on a busy machine."""

_CONFIG = """\
ClusterName=bed{number}
SlurmctldHost={controller}({addresses[ctl]})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={local}/munge.socket
StateSaveLocation={local}/slurmctld
SlurmdSpoolDir={local}/slurmd
SlurmctldPidFile={local}/slurmctld.pid
SlurmdPidFile={local}/slurmd.pid
SlurmctldLogFile={local}/slurmctld.log
SlurmdLogFile={local}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdTimeout=30
KillWait=2
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
"""

_CGROUPS = "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nConstrainCores=no\n"


def write_slurm_config(claim: Claim, addresses: Mapping[str, str]) -> None:
    """Write what all hosts read.

    Args:
        claim: the bed's.
        addresses: of each host, the controller's among them.
    """
    nodes = [
        f"NodeName={name} NodeAddr={address} CPUs=4 State=UNKNOWN"
        for name, address in addresses.items()
        if name != CONTROLLER
    ]
    text = _CONFIG.format(
        number=claim.number,
        controller=CONTROLLER,
        addresses=addresses,
        local=claim.local,
        nodes="\n".join(nodes),
    )
    _config_file(claim).write_text(text)
    # Slurm looks for it beside the other.
    _config_file(claim).with_name("cgroup.conf").write_text(_CGROUPS)
    key = claim.share / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)


def start_slurm(claim: Claim, switch: Keeper, hosts: Mapping[str, Keeper]) -> dict[str, str]:
    """Start all of it.

    Args:
        claim: the bed's.
        switch: whose pid namespace has the machine's own munged.
        hosts: all, the controller's among them.

    Returns:
        Variables with which `srun` runs steps in an allocation of all nodes.

    Raises:
        RuntimeError, TimeoutError: something did not start.
    """
    # In the machine's own file system, but gone with the bed.
    switch.must_run(_munged(claim), only="p")
    for host in hosts.values():
        host.must_run(_munged(claim))
    config = {"SLURM_CONF": os.fspath(_config_file(claim))}
    setting = ["env", *(f"{name}={value}" for name, value in config.items())]
    hosts[CONTROLLER].must_run([*setting, "slurmctld", "-c"])
    for name, host in hosts.items():
        if name != CONTROLLER:
            host.must_run([*setting, "slurmd", "-N", name])
    nodes = len(hosts) - 1
    wait_for(
        lambda: _client(["sinfo", "-h", "-o", "%t %D"], config).stdout.strip() == f"idle {nodes}",
        f"slurm: every node idle; logs are in {claim.local} of each host",
        SLURM_LIMIT,
    )
    done = _client(["salloc", "--no-shell", f"--nodes={nodes}", "--job-name=bed"], config)
    job = [word for word in done.stderr.split() if word.isdecimal()]
    if done.returncode or not job:
        raise RuntimeError(f"salloc failed:\n{done.stdout}{done.stderr}")
    return {
        **config,
        "SLURM_JOB_ID": job[0],
        "SLURM_JOBID": job[0],
        "SLURM_JOB_NUM_NODES": str(nodes),
    }


def all_respond(config: Mapping[str, str]) -> bool:
    """Whether the controller has heard from every node; one that was cut off for long it asks every few seconds."""
    return "*" not in _client(["sinfo", "-h", "-N", "-o", "%T"], config).stdout


def _config_file(claim: Claim) -> Path:
    return claim.share / "slurm.conf"


def _munged(claim: Claim) -> list[str]:
    options = [f"--key-file={claim.share}/munge.key"]
    for option, name in (
        ("socket", "munge.socket"),
        ("log-file", "munged.log"),
        ("pid-file", "munged.pid"),
        ("seed-file", "munge.seed"),
    ):
        options.append(f"--{option}={claim.local}/{name}")
    return ["munged", *options]


def _client(argv: list[str], config: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        env={**ENVIRONMENT, **config},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
