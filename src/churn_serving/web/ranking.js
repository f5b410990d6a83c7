/** Whom to contact first: by expected profit, within a capacity and a budget. */

/**
 * Return the places of those to be contacted, the most profitable first, ties by place. Who does
 * not fit into the rest of the budget is skipped.
 * @param {{profit: number, cost: number, eligible: boolean}[]} customers
 * @param {{capacity?: number, budget?: number}} limits
 */
export function rank(customers, { capacity = Infinity, budget = Infinity }) {
  const order = customers.map((_, place) => place).filter((place) => customers[place].eligible)
    .sort((one, other) => customers[other].profit - customers[one].profit || one - other);
  const chosen = [];
  let spent = 0;
  for (const place of order) {
    if (chosen.length >= capacity) break;
    if (spent + customers[place].cost > budget) continue;
    spent += customers[place].cost;
    chosen.push(place);
  }
  return chosen;
}
