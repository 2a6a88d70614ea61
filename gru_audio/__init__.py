"""GRUs and LSTMs on sound in JAX: from recordings to an honest comparison of recurrent networks."""

__version__ = "0.1.0"
