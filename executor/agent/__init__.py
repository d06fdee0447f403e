"""The agent: claim attempts, follow its inbox, prefetch, stop and leave."""
