"""The machine-group queue in Redis: its key names and its Lua scripts."""
