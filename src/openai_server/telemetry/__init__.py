"""
What others are told of this server: metrics for Prometheus, traces for
OpenTelemetry. It reads what the other rooms know, and none of them knows it.
"""
