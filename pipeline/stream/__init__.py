"""The faust app and its agents: decode, compute, publish, acknowledge. The only place that imports faust."""
