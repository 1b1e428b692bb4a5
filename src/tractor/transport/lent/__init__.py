"""Memory that two processes of one host share to hand each other what is large."""
