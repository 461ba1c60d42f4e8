"""Any Gymnasium goal environment, single or vectorised, as one batch of true transitions."""
