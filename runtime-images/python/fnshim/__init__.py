"""The shim of the python runtime: a generic instance that becomes one function, once and for ever.

The protocol is runtime-images/PROTOCOL.md. Nothing here is imported by user code on purpose, so all of it may change.
"""
