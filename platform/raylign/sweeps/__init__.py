"""Sweeps: a sampler chooses points, a launcher runs each as a process or a job of its own, a table compares them.

Hydra's grammar writes the space (``a=1,2``, ``range(1,9)``, ``tag(log,interval(1e-5,1e-3))``), and the group ``sweep=``
chooses sampler and launcher, which are parts like any other (a class with a nested ``Config``). Hydra's own plugin
interfaces are not used: they assume that Hydra composes the configuration and calls the program.
"""
