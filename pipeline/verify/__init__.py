"""Verify: whether shards are whole, and which promise is broken where.

reads   shards: ours, or a WebDataset that somebody else made
writes  nothing: findings are told
"""
