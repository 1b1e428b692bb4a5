"""The public names of `tractor.devx.otel`; see `lazy_exports`."""

from tractor.devx.otel._arming import instrument as instrument
