"""The tied autoencoder, how it is measured, and PCA, its baseline."""
