"""The engine on a Ray cluster: replicas of the worker, and what hands jobs to them."""
