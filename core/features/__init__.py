"""The features of a transaction: their spec, the account state behind them, the kernel, reference tables."""
