"""The public names of `tractor.hosts`; see `lazy_exports`."""

from tractor.hosts._engine import CallbackEngine as CallbackEngine
from tractor.hosts._engine import HostEngine as HostEngine
from tractor.hosts._engine import Offer as Offer
from tractor.hosts._engine import StdioEngine as StdioEngine
from tractor.hosts._handle import HostHandle as HostHandle
from tractor.hosts._handle import HostStatistics as HostStatistics
from tractor.hosts._handle import open_host as open_host
from tractor.hosts._place import Place as Place
