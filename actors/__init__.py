"""On the GPU nodes: read a shard of prompts, make its images, write them. Knows neither Ray nor the command line."""
