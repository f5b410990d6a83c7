"""Reasons: by how much each field of a customer moves an estimate, in log-odds.

A reason is a Shapley value (Lundberg and Lee, "A unified approach to interpreting model
predictions", NeurIPS 2017). The players are the fields of a customer: the columns of a category
move together. A coalition of fields is worth what the model says on average of customers of the
background who get the values of these fields, and keep their own values of the others: the
interventional expectation (Janzing, Minorics and Bloebaum, "Feature relevance quantification in
explainable AI: a causal problem", AISTATS 2020). The impacts and the baseline add up to the model's
own log-odds. They say how the model works, never what made the customer leave.

What computes them: ``linear`` in closed form, ``patterns`` from tables where the log-odds are a sum
over trees (``units`` says what of those is tabulated), ``coalitions`` by the definition for all
other kinds. ``sentences`` puts them into words, ``section`` reads and verifies what the portable
model holds of it.
"""
