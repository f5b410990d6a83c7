"""MLflow's ``spark_udf`` of the same model, in an environment of its own."""
