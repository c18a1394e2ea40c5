"""Several hosts that compute together, as JAX joins them. Must run before anybody asks for a device."""

import jax

from llama_core.errors import UserError

AS_THE_CLUSTER_SAYS = 0  # as a number of hosts: SLURM, Open MPI or Kubernetes say it in the environment


class HostsError(UserError):
    """Hosts that cannot be joined; one line that says why."""


def join_hosts(hosts: int, coordinator: str, host_id: int) -> int:
    """Wait for the others at `coordinator` ("address:port" of host 0) and become host `host_id` of so many. Where the
    cluster says it all, the other two are left out. The number of this host.

    Raises `HostsError` for what nobody says, and when the others do not come within five minutes.
    """
    told = (hosts, host_id) if hosts != AS_THE_CLUSTER_SAYS else (None, None)
    try:
        jax.distributed.initialize(coordinator or None, *told)
    except (ValueError, RuntimeError) as problem:
        first_line = str(problem).strip().partition("\n")[0]
        raise HostsError(
            f"the hosts cannot be joined ({first_line}); give --hosts, --host-id and --coordinator ADDRESS:PORT, the "
            "same on every host but for its id"
        ) from None
    return jax.process_index()
