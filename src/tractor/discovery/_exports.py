"""The public names of `tractor.discovery`; see `lazy_exports`."""

from tractor.address._types import Address as Address
from tractor.address._types import TCPAddress as TCPAddress
from tractor.address._types import UDSAddress as UDSAddress
from tractor.address._types import UnwrappedAddress as UnwrappedAddress
from tractor.address._types import mk_uuid as mk_uuid
from tractor.discovery._endpoint_table import load_endpoints as load_endpoints
from tractor.discovery._lookup import find_actor as find_actor
from tractor.discovery._lookup import query_actor as query_actor
from tractor.discovery._lookup import wait_for_actor as wait_for_actor
from tractor.discovery._portals import get_peer_by_name as get_peer_by_name
from tractor.discovery._portals import get_root as get_root
from tractor.discovery._portals import maybe_open_portal as maybe_open_portal
from tractor.discovery._portals import open_portal as open_portal
from tractor.discovery._registrar import Registrar as Registrar
from tractor.discovery._registrars import get_arbiter as get_arbiter
from tractor.discovery._registrars import get_registry as get_registry
from tractor.transport._addresses import is_wrapped_addr as is_wrapped_addr
from tractor.transport._addresses import parse_maddr as parse_maddr
from tractor.transport._addresses import prefer_addr as prefer_addr
from tractor.transport._addresses import wrap_address as wrap_address
from tractor.transport._maddr import mk_maddr as mk_maddr
from tractor.transport._maddr import parse_endpoints as parse_endpoints
from tractor.transport._table import default_lo_addrs as default_lo_addrs
from tractor.transport._table import get_address_cls as get_address_cls
