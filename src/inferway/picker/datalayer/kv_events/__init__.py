"""What engines tell of their KV caches, and what it says about the prefix index
(docs/adr/0005-kv-events-without-a-tokenizer.md).
"""
