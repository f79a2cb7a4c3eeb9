"""Eigenvalues of the Hessian: extremes, density and trace."""
