"""The distribution that the package was installed by."""
