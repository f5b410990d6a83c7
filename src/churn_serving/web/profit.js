/** What contacting customers above a threshold earned on customers whose outcome is known. */

const REPLICATES = 400;
const SEED = 14;
const SMALL = 30;

/**
 * @typedef {object} Policy The figures of Verbraken et al. 2013.
 * @property {number} customer_value
 * @property {number} offer_cost
 * @property {number} contact_cost
 * @property {number} acceptance
 */

/**
 * @typedef {object} Counts Customers by estimate: those with edges[i] <= estimate < edges[i + 1].
 * @property {number[]} edges
 * @property {number[]} left
 * @property {number[]} stayed
 */

/** @typedef {{threshold: number, contacted: number, profit: number, low: number, high: number}} Point */

/** The estimate above which a contact pays; Infinity: never.
 * @param {Policy} policy */
export function thresholdOf({ customer_value: value, offer_cost: offer, contact_cost: contact, acceptance }) {
  const gain = acceptance * (value - offer) + offer;
  return gain > 0 ? (offer + contact) / gain : Infinity;
}

/** What a contact is expected to cost.
 * @param {Policy} policy
 * @param {number} p */
export function expectedCost({ offer_cost: offer, contact_cost: contact, acceptance }, p) {
  return contact + offer * (p * acceptance + 1 - p);
}

/** Profit per customer, with the interval of a bootstrap that draws the customers anew. */
export class ProfitCurve {
  /** @param {Counts} counts */
  constructor(counts) {
    this.edges = counts.edges;
    this.left = counts.left;
    this.stayed = counts.stayed;
    this.leavers = sum(counts.left);
    this.customers = this.leavers + sum(counts.stayed);
    const random = seeded(SEED);
    const bins = counts.left.length;
    this.replicates = Array.from({ length: REPLICATES }, () => {
      const drawn = multinomial([...counts.left, ...counts.stayed], random);
      return { left: above(drawn.slice(0, bins)), stayed: above(drawn.slice(bins)) };
    });
    this.above = { left: above(counts.left), stayed: above(counts.stayed) };
  }

  /**
   * Return the whole curve, from everybody contacted to nobody.
   * @param {Policy} policy
   */
  points(policy) {
    return this.edges.map((threshold) => this.at(policy, threshold));
  }

  /**
   * Return what contacting all above a threshold earns a customer.
   * @param {Policy} policy
   * @param {number} threshold
   * @returns {Point}
   */
  at(policy, threshold) {
    const own = this.profit(policy, threshold, this.above);
    const drawn = this.replicates.map((each) => this.profit(policy, threshold, each).profit);
    drawn.sort((one, other) => one - other);
    return { threshold, ...own, low: quantile(drawn, 0.025), high: quantile(drawn, 0.975) };
  }

  /**
   * @param {Policy} policy
   * @param {number} threshold
   * @param {{left: number[], stayed: number[]}} counts Those at or above each edge.
   */
  profit({ customer_value: value, offer_cost: offer, contact_cost: contact, acceptance }, threshold, counts) {
    const [left, stayed] = [counts.left, counts.stayed].map((each) => this.beyond(each, threshold));
    const earned = left * (acceptance * (value - offer) - contact) - stayed * (offer + contact);
    return { profit: earned / this.customers, contacted: (left + stayed) / this.customers };
  }

  /**
   * Count those above a threshold; within a bin, as if they lay evenly.
   * @param {number[]} counts
   * @param {number} threshold
   */
  beyond(counts, threshold) {
    const { edges } = this;
    const last = edges.length - 1;
    if (!(threshold > edges[0])) return counts[0];
    if (threshold >= edges[last]) return 0;
    let bin = 0;
    while (edges[bin + 1] <= threshold) bin++;
    const share = (threshold - edges[bin]) / (edges[bin + 1] - edges[bin]);
    return counts[bin] + share * (counts[bin + 1] - counts[bin]);
  }
}

/** @param {number[]} counts */
function above(counts) {
  const sums = [...counts, 0];
  for (let place = counts.length - 1; place >= 0; place--) sums[place] += sums[place + 1];
  return sums;
}

/**
 * Draw as many customers as there are, with replacement, and count them by cell: each cell is a
 * binomial of those that are left over by the cells before it.
 * @param {number[]} counts
 * @param {() => number} random
 */
function multinomial(counts, random) {
  let customers = sum(counts);
  let weight = customers;
  return counts.map((count) => {
    const drawn = weight > 0 ? binomial(customers, count / weight, random) : 0;
    customers -= drawn;
    weight -= count;
    return drawn;
  });
}

/**
 * Draw a binomial: by inversion where the mean is small, else by the normal distribution near it.
 * @param {number} n
 * @param {number} p
 * @param {() => number} random
 * @returns {number}
 */
function binomial(n, p, random) {
  if (p <= 0 || n === 0) return 0;
  if (p >= 1) return n;
  if (p > 0.5) return n - binomial(n, 1 - p, random);
  if (n * p > SMALL) {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return Math.min(n, Math.max(0, Math.round(n * p + normal * Math.sqrt(n * p * (1 - p)))));
  }
  let rest = random();
  let chance = (1 - p) ** n;
  for (let drawn = 0; drawn < n; drawn++) {
    if (rest < chance) return drawn;
    rest -= chance;
    chance *= ((n - drawn) / (drawn + 1)) * (p / (1 - p));
  }
  return n;
}

/** A generator that draws the same numbers each time (mulberry32).
 * @param {number} seed */
function seeded(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * @param {number[]} sorted
 * @param {number} share
 */
function quantile(sorted, share) {
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const next = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[next] - sorted[below]);
}

/** @param {number[]} values */
function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
