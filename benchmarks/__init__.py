"""Benchmarks of the attribution engine: speed and agreement beside other code, memory, growth, GPU.

`make bench PEERS=/path/one:/path/two` runs those that need no GPU; the tables stand in docs/benchmarks.md.
"""
