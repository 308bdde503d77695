"""What is wrong with a line, from the bytes that were seen on it: no I/O, no clock.

:mod:`examination` asks and keeps what came, :mod:`plans` says what is asked, :mod:`verdict` names the fault;
:mod:`dialects`, :mod:`signals` and :mod:`orders` are the tables of what firmware and wiring get wrong.
"""
