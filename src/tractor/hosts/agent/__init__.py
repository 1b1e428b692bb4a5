"""The program on another host that starts actors there and never outlives its lease.

It is sent over the link (:mod:`tractor.hosts._bundle`) and runs where tractor may be missing, or be of another version:
its modules import the standard library and each other alone.
"""
