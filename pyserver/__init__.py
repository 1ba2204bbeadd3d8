"""Stemline's server: stems out of a mixture, over gRPC and on the command line."""

__version__ = "0.1.0"
