"""The parts of an estimator as arrays over the unscaled row."""
