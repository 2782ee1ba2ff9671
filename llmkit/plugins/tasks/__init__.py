"""Synthetic tasks: texts whose answers are known. No kind of their own: the source `synthetic` writes what the probes ask.

They are plain Python, free of torch, and a file each. How an instance is written, and which ones no training text ever is, lies in `task`.
"""
