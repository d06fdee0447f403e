"""What the stages of an attempt do; `executor/attempt/run.py` lists them in order."""
