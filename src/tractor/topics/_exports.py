"""The public names of `tractor.topics`; see `lazy_exports`."""

from tractor.topics._publication import Publisher as Publisher
from tractor.topics._publisher import publisher as publisher
from tractor.topics._subscription import Item as Item
from tractor.topics._subscription import Slow as Slow
from tractor.topics._subscription import Subscription as Subscription
from tractor.topics._subscription import subscribe as subscribe
