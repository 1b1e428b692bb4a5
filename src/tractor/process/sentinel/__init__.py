"""A process beside an actor that ends its subactors where it can not do that itself."""
