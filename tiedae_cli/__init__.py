"""tiedae: autoencoders whose decoder is the transposed encoder, from a YAML file and the shell."""

__version__ = "0.1.0"
